"""DICOM files of several frames: each frame is what a file of it alone would be."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, dicom_split, recipes, series
from dr_tfx.sources import find_source, folders, frames, given
from tests.helpers import dicom_files
from tests.helpers.drawn import draw, encode
from tests.helpers.enhanced import Frame, enhanced_ct
from tests.helpers.slices import dicom_slice, units

pydicom = pytest.importorskip("pydicom")
CT = specs.Recipe(name="ct_windows", size=24, quality_gate="off")
FUNDUS = specs.Recipe(size=24, quality_gate="off")
HEIGHTS = (10.0, 0.0, 15.0, 5.0)  # In the order of the file, which is not that of the head.
IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"


def head(seed: int = 0) -> list[Frame]:
    """Slices whose values each mean something else."""
    return [
        Frame(
            (units(seed + i) + 1024).astype(np.uint16),
            height,
            slope=1 + i / 2,
            intercept=-1024.0 - i,
            window=(40.0 + i, 80.0 + 2 * i),
        )
        for i, height in enumerate(HEIGHTS)
    ]


def files_of(data: bytes) -> list[bytes]:
    """The file of each frame of a file."""

    def part(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    cut = dicom_split.cut(part)
    assert dicom_split.count(part) == len(cut.spans)
    return [cut.file(frame, part) for frame in range(len(cut.spans))]


@pytest.mark.parametrize("is_marked", [False, True])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", IMPLICIT])
def test_a_frame_has_its_own_values_window_and_place(syntax, is_marked):
    slices = head()
    found = files_of(enhanced_ct(slices, syntax=syntax, is_marked=is_marked, PatientID="A"))
    for data, expected in zip(found, slices, strict=True):
        scan = decoding.decode(data)
        np.testing.assert_array_equal(scan.values, expected.units)
        assert (scan.header.WindowCenter, scan.header.WindowWidth) == expected.window
        assert scan.unit == "HU" and scan.header.PatientID == "A"
    places = [series.place(data) for data in found]
    assert tuple(place.position for place in places) == HEIGHTS
    # 0, 5, 10 and 15 mm are frames 1, 3, 0 and 2.
    assert series.neighbours(places).tolist() == [[3, 2], [1, 3], [0, 2], [1, 0]]


def test_what_a_file_says_of_all_frames_counts_less_than_what_a_frame_says():
    wrong = {"RescaleSlope": 9, "WindowWidth": 9, "ImagePositionPatient": [0, 0, 9]}
    slices = head()
    found = files_of(enhanced_ct(slices, **wrong))
    np.testing.assert_array_equal(decoding.decode(found[1]).values, slices[1].units)
    assert series.place(found[1]).position == HEIGHTS[1]


def test_frames_without_groups_are_in_the_order_of_their_file():
    stored = np.arange(3 * 16 * 16, dtype=">u2").reshape(3, 16, 16)
    data = dicom_files.dicom(
        stored[0],
        syntax=BIG_ENDIAN,
        NumberOfFrames=3,
        PixelData=stored.tobytes(),
        SeriesInstanceUID="1.5",
    )
    found = files_of(data)
    for one, expected in zip(found, stored, strict=True):
        np.testing.assert_array_equal(decoding.decode(one).values, expected)
    places = [series.place(one) for one in found]
    assert series.neighbours(places).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_neighbours_are_of_one_file_and_of_one_time():
    """Two files of one series, or two times of a perfusion, hold each place of the head twice."""
    both = [enhanced_ct(head(), "1.2", SOPInstanceUID=f"1.2.{i}") for i in range(2)]
    places = [series.place(one) for data in both for one in files_of(data)]
    assert (series.neighbours(places[4:]) + 4 == series.neighbours(places)[4:]).all()
    timed = pydicom.dcmread(pydicom.filebase.DicomBytesIO(enhanced_ct(head() + head(9))))
    for i, groups in enumerate(timed.PerFrameFunctionalGroupsSequence):
        groups.FrameContentSequence[0].TemporalPositionIndex = 1 + i // 4
    places = [series.place(one) for one in files_of(dicom_files.written(timed))]
    assert (series.neighbours(places)[4:] // 4 == 1).all()


def compressed(*, table: str, parts: int = 1) -> tuple[bytes, list[Frame]]:
    """A file of frames in RLE, each in some fragments, with a table of them or without."""
    slices = head()
    whole = pydicom.dcmread(pydicom.filebase.DicomBytesIO(enhanced_ct(slices)))
    whole.compress(pydicom.uid.RLELossless)
    frames_of = list(pydicom.encaps.generate_frames(whole.PixelData, number_of_frames=4))
    if table == "extended":
        found = pydicom.encaps.encapsulate_extended(frames_of)
        whole.PixelData, whole.ExtendedOffsetTable, whole.ExtendedOffsetTableLengths = found
    else:
        has_table = table == "basic"
        whole.PixelData = pydicom.encaps.encapsulate(frames_of, parts, has_bot=has_table)
    whole["PixelData"].is_undefined_length = True
    return dicom_files.written(whole), slices


@pytest.mark.parametrize("table, parts", [("", 1), ("basic", 1), ("basic", 3), ("extended", 1)])
def test_compressed_frames_are_found_by_a_table_or_as_one_fragment_each(table, parts):
    data, slices = compressed(table=table, parts=parts)
    for one, expected in zip(files_of(data), slices, strict=True):
        np.testing.assert_array_equal(decoding.decode(one).values, expected.units)


def taken(folder: Path) -> frames.Frames:
    source = frames.split(folders.Folder(str(folder)), CT)
    assert isinstance(source, frames.Frames)
    return source


def reasons(folder: Path, data: bytes) -> list[str]:
    """Why each frame is rejected, "" where none is."""
    (folder / "x.dcm").write_bytes(data)
    source, found = taken(folder), []
    for name, _ in sorted(source.names()):
        try:
            source.prepare(source.read(name), CT)
        except decoding.RejectedImage as error:
            found.append(error.detail)
        else:
            found.append("")
    return found


def test_damage_costs_the_frames_that_it_hits(tmp_path):
    data = enhanced_ct(head())
    frame = head()[0].stored.nbytes
    told = reasons(tmp_path, data[: -frame - 10])
    assert told[:2] == ["", ""] and "less than" in told[2] and told[3].endswith("before frame 4")
    data, _ = compressed(table="")
    told = reasons(tmp_path, data[:-200])
    assert told[:3] == ["", "", ""] and told[3]
    told = reasons(tmp_path, compressed(table="", parts=2)[0])
    assert len(told) == 4 and set(told) == {
        "DICOM: nothing tells which fragments belong to which of 4 frames"
    }
    short = enhanced_ct(head(), NumberOfFrames=5)
    assert "nothing" in reasons(tmp_path, short)[4] or "ends" in reasons(tmp_path, short)[4]


def test_a_file_that_claims_too_many_frames_stays_one_photograph(tmp_path):
    (tmp_path / "x.dcm").write_bytes(enhanced_ct(head(), NumberOfFrames=2**31 - 1))
    source = taken(tmp_path)
    assert [name for name, _ in source.names()] == ["x.dcm"]
    with pytest.raises(decoding.RejectedImage, match="too_large"):
        source.prepare(source.read("x.dcm"), CT)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Path:
    """A folder with a file of frames, a single slice, and a picture."""
    folder = tmp_path_factory.mktemp("mixed") / "raw"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "head.dcm").write_bytes(enhanced_ct(head()))
    (folder / "one.dcm").write_bytes(dicom_slice(units(1), "1.9", height=0))
    (folder / "eye.png").write_bytes(encode(draw(1), ".png"))
    with zipfile.ZipFile(folder.parent / "raw.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.rglob("*.*"):
            archive.write(path, path.relative_to(folder))
    return folder


def test_a_recipe_says_whether_a_file_is_like_a_folder_of_its_frames(mixed):
    names = ["eye.png", "one.dcm", *(f"a/head.dcm/frame_000{i}" for i in range(1, 5))]
    whole = folders.Folder(str(mixed))
    expected = files_of(whole.read("a/head.dcm"))
    for place in (mixed, mixed.parent / "raw.zip", f"{mixed}/a,{mixed}/*.*"):
        source = find_source.open_photographs(str(place), CT)
        sizes = dict(source.names())
        assert sorted(sizes) == sorted(names)
        assert sum(sizes.values()) == sum(size for _, size in whole.names())
        assert source.modified(names[-1]) > 0
        for name, data in zip(names[2:], expected, strict=True):
            assert source.read(name) == b"".join(source.blocks(name)) == data
        assert source.read("eye.png") == whole.read("eye.png")
        assert source.path(names[3]).endswith("a/head.dcm/frame_0002")
    kept = find_source.open_photographs(str(mixed), FUNDUS)
    assert sorted(name for name, _ in kept.names()) == ["a/head.dcm", "eye.png", "one.dcm"]


def test_frames_are_given_by_their_file_or_by_name(mixed, monkeypatch):
    monkeypatch.chdir(mixed)
    found = given.photographs(["a/head.dcm", "a", "a/head.dcm/frame_0003"], CT)
    assert [one.shown for one in found] == [f"a/head.dcm/frame_000{i}" for i in range(1, 5)]
    alone = given.photographs(["a/head.dcm/frame_0003"], CT)
    assert alone[0].source.read(alone[0].name) == found[2].source.read(found[2].name)
    for name in ("a/head.dcm/frame_0000", "a/head.dcm/frame_0005", "one.dcm/frame_0001"):
        with pytest.raises(decoding.RejectedImage, match="unreadable"):
            alone[0].source.read(name)


def test_only_headers_of_dicom_files_are_read_to_list_frames(mixed, monkeypatch):
    asked = []
    read = folders.Folder.part

    def counted(self, name, offset, length):
        asked.append((name, length))
        return read(self, name, offset, length)

    monkeypatch.setattr(folders.Folder, "part", counted)
    list(taken(mixed).names())
    assert {name for name, _ in asked} == {"a/head.dcm", "one.dcm"}
    assert max(length for _, length in asked) <= 1 << 14


def test_all_frames_of_the_files_of_pydicom_are_decoded_or_rejected():
    """With the values that pydicom itself gives the frame."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    source, decoded, rejected = folders.Folder(str(folder)), 0, 0
    for name in sorted(name for name, _ in frames.Frames(source).names()):
        if not (found := frames.parts(name)):
            continue
        data = frames.Frames(source).read(name)
        try:
            own = decoding.decode(data)
        except decoding.RejectedImage as error:
            assert "32 bits" in error.detail
            rejected += 1
            continue
        values = pydicom.pixels.pixel_array(folder / found.file, index=found.frame)
        values = values >> 8 * (values.itemsize - 1)  # Colours become bytes.
        np.testing.assert_array_equal(own[..., ::-1], values)
        decoded += 1
    assert decoded >= 34 and rejected >= 47


def test_a_picture_of_a_frame_is_that_of_a_file_of_it(mixed):
    source, stored = find_source.open_photographs(str(mixed), CT), head()[2]
    values = {"RescaleSlope": 2, "RescaleIntercept": -1026, "Modality": "CT"}
    alone = recipes.apply_recipe(dicom_files.dicom(stored.stored, **values), CT)
    found = recipes.apply_recipe(source.read("a/head.dcm/frame_0003"), CT)
    np.testing.assert_array_equal(found.rgb, alone.rgb)
