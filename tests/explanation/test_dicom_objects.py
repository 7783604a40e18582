"""DICOM objects of photographs: masks at the original's size, references, codes and identity."""

import io
import shutil
import subprocess
import types

import numpy as np
import pandas as pd
import pytest

from dr_tfx import tasks
from dr_tfx.config import config_files
from dr_tfx.explanation import answering, dicom_names, dicom_objects, lesions
from dr_tfx.preprocessing import geometry
from dr_tfx.sources import given
from dr_tfx.synthetic import fundus
from tests.helpers import dicom_files
from tests.helpers.configs import FOLDER
from tests.helpers.drawn import encode

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

SIZE = 40
OPHTHALMIC = "1.2.840.10008.5.1.4.1.1.77.1.5.1"  # Ophthalmic Photography 8 Bit Image Storage.
HEADER = {**dicom_files.NAMED, "SOPClassUID": OPHTHALMIC}
MARKED = dicom_names.Algorithm("lesions", "a" * 64)
GRADED = dicom_names.Algorithm("referable", "b" * 64)


@pytest.fixture(autouse=True)
def strict():
    """What the standard does not allow is an error."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE
    yield
    pydicom.config.settings.writing_validation_mode = before


class KnownMarker:
    """Marks what is known of a photograph."""

    def __init__(self, masks):
        settings = config_files.load(FOLDER / "lesions.py", "demo")
        settings.dataset.masks = tuple(masks)
        settings.dataset.recipe.name, settings.dataset.recipe.size = "plain", SIZE
        settings.dataset.recipe.quality_gate = "off"
        self.experiment = tasks.from_config(settings)
        self.manifest = types.SimpleNamespace(prepared="")
        self._masks = masks

    def mark(self, rgb):
        reading = tasks.Reading(0.0, "", "marked", {"decision": "HE 1"}, {}, None)
        return [(reading, np.stack([*self._masks.values()])) for _ in rgb]


def read(data: bytes):
    return pydicom.dcmread(io.BytesIO(data))


def of(original: bytes, answer=None, marks=None):
    return dicom_objects.of_photograph(original, GRADED, answer=answer or {}, marks=marks)


def one_mark(kind: str = "MA") -> dicom_names.Marks:
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    return dicom_names.Marks(MARKED, geometry.Box(), {kind: mask}, {kind: 1})


def test_what_is_marked_on_a_drawn_eye_lies_on_the_originals_pixels(tmp_path, capsys):
    """From the file to the objects in the folder: each pixel of the model is 3 x 4 of the eye's."""
    eye = fundus.photograph(seed=3, patient=1, eye="left", level=3, size=200)
    part = np.s_[:120, 20:180]
    rgb = np.ascontiguousarray(eye.image[part])
    found = {**{k: m[part] for k, m in eye.masks.items()}, "ZZ": np.zeros((120, 160), bool)}
    shares = {k: m.reshape(SIZE, 3, SIZE, 4).mean((1, 3)) for k, m in found.items()}
    known = {kind: share >= 0.3 for kind, share in shares.items()}
    assert known["HE"].any() and not known["ZZ"].any()
    (tmp_path / "eye.dcm").write_bytes(dicom_files.dicom(rgb, **HEADER))
    (tmp_path / "series.dcm").write_bytes(
        dicom_files.dicom(rgb, **HEADER, NumberOfFrames=2, PixelData=2 * rgb.tobytes())
    )
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(rgb[..., ::-1], ".png"))
    marker, out = KnownMarker(known), tmp_path / "out"
    model = answering.AnsweringModel(
        tmp_path, "c" * 64, marker.experiment, [], lambda: None, None,
        lambda: lesions.LesionMarker(marker, "c" * 64),
    )  # fmt: skip
    how = {"is_drawn": False, "colormap": "viridis", "masks": None, "has_objects": True}
    answers = answering.Answering(model, out, **how, made={})
    answers(given.photographs([str(tmp_path)]))
    answers.files.finish()
    said = capsys.readouterr().err
    assert said.count("a.png is no DICOM file") == 1 and "b.png" not in said
    assert "series.dcm: it has 2 frames, of which the model saw one; expected a file of" in said
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False).set_index("photo")
    named = table.loc[str(tmp_path / "eye.dcm"), ["seg", "sr"]].tolist()
    assert named == ["dicom/eye-seg.dcm", "dicom/eye-sr.dcm"]
    assert (table["seg"] != "").sum() == 1 and len(list((out / "dicom").iterdir())) == 2

    segmentation = hd.seg.segread(out / named[0])
    frames = segmentation.get_pixels_by_source_instance([HEADER["SOPInstanceUID"]])
    assert frames.shape == (1, 120, 160, len(known))
    for number, kind in enumerate(known, start=1):
        expected = np.kron(known[kind], np.ones((3, 4)))
        np.testing.assert_array_equal(frames[0, ..., number - 1], expected, err_msg=kind)
        described = segmentation.get_segment_description(number)
        assert described.segment_label == kind and described.algorithm_type.value == "AUTOMATIC"
        identified = described.algorithm_identification[0]
        assert identified.AlgorithmVersion == "c" * 64
        assert identified.AlgorithmName == "dr_tfx lesions"
    coded = {}
    for one in segmentation.SegmentSequence:
        kind = one.segmented_property_type
        coded[one.SegmentLabel] = (kind.value, kind.scheme_designator)
    assert coded["HE"] == ("28998008", "SCT") and coded["ZZ"] == ("ZZ", "99DRTFX")
    assert segmentation.ContentQualification == "RESEARCH"

    report = hd.sr.srread(out / named[1])
    groups = {g.tracking_identifier: g for g in report.content.get_planar_roi_measurement_groups()}
    assert set(groups) == set(known)
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    row = table.loc[str(tmp_path / "eye.dcm")]
    for kind, group in groups.items():
        told = {m.name.meaning.split(" (")[0]: m.value for m in group.get_measurements()}
        assert told["Area"] == 12 * known[kind].sum()
        assert told["Number of lesions"] == int(row[f"count_{kind}"])
        (reference,) = group.referenced_segmentation_frame[0].ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        number = int(reference.ReferencedFrameNumber)
        np.testing.assert_array_equal(
            segmentation.pixel_array[number - 1], np.kron(known[kind], np.ones((3, 4)))
        )


@pytest.mark.skipif(
    not shutil.which("dciodvfy"), reason="dciodvfy of Debian's dicom3tools is not installed"
)
def test_dciodvfy_finds_no_errors(tmp_path):
    """It warns of the schemes, which it does not know."""
    original = dicom_files.dicom(np.zeros((8, 8, 3), np.uint8), **HEADER)
    objects = of(original, {"score": 1 / 3, "decision": "referable"}, one_mark())
    for name in dicom_names.NAMES:
        (tmp_path / name).write_bytes(objects[name])
        done = subprocess.run(
            ["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False
        )
        lines = (done.stdout + done.stderr).splitlines()
        assert {"Segmentation", "ComprehensiveSR"} & set(lines)  # It knows what it is.
        assert not [line for line in lines if line.startswith("Error")]


def test_a_repeated_run_names_the_same_objects_and_another_model_others():
    original = dicom_files.dicom(np.zeros((8, 8, 3), np.uint8), **HEADER)
    one, again = (of(original, {"score": 1 / 3}, one_mark()) for _ in range(2))
    for name in dicom_names.NAMES:
        first, second = read(one[name]), read(again[name])
        for made in (first, second):  # All but when they were made.
            for tag in ("InstanceCreationDate", "InstanceCreationTime"):
                delattr(made, tag)
            made.ContentDate = made.ContentTime = ""
            made.ContributingEquipmentSequence[0].ContributionDateTime = ""
        assert first == second
    other = dicom_objects.of_photograph(
        original, dicom_names.Algorithm("referable", "d" * 64), answer={"score": 1.0}, marks=None
    )
    assert set(other) == {"sr"}
    assert read(other["sr"]).SOPInstanceUID != read(one["sr"]).SOPInstanceUID


def test_a_report_alone_has_the_answer_and_the_notice():
    answer = {"decision": "의뢰", "probability": 1 / 3, "score": None, "ungradable": "black"}
    pixels = np.zeros((8, 8, 3), np.uint8)
    name = pydicom.valuerep.PersonName("Hong^Gildong=洪^吉洞=홍^길동")
    charset = ["", "ISO 2022 IR 149"]
    header = {**HEADER, "SpecificCharacterSet": charset, "PatientName": name, "PatientSex": "?"}
    with pytest.warns(UserWarning, match="Invalid value"):  # As of a file of somebody else.
        pydicom.config.settings.writing_validation_mode = pydicom.config.WARN
        original = dicom_files.dicom(pixels, **header)
    pydicom.config.settings.writing_validation_mode = pydicom.config.RAISE
    made = of(original, answer)
    assert set(made) == {"sr"}
    report = read(made["sr"])
    kept = ("PatientID", "StudyInstanceUID")
    assert [report[tag].value for tag in kept] == [HEADER[tag] for tag in kept]
    assert str(report.PatientName) == str(name) and report.PatientSex == ""
    assert report.SeriesInstanceUID != HEADER["SeriesInstanceUID"]
    text = made["sr"].decode("utf-8", "ignore")
    assert "Research software, not a medical device" in text and "의뢰" in text
    (group,) = hd.sr.srread(io.BytesIO(made["sr"])).content.get_image_measurement_groups()
    assert {m.name.value: m.value for m in group.get_measurements()} == {"probability": 1 / 3}
    decided = {e.name.value: e.value.meaning for e in group.get_qualitative_evaluations()}
    assert decided == {"decision": "의뢰", "ungradable": "black"}


def test_a_slice_of_ct_keeps_its_place_in_the_patient(recwarn):
    place = {
        "ImagePositionPatient": [-10.0, -20.0, 30.0],
        "ImageOrientationPatient": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
        "PixelSpacing": [0.5, 0.25],
    }
    header = {**HEADER, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "FrameOfReferenceUID": "1.9"}
    header["PatientName"] = "Min"  # Of which highdicom warns, with the name.
    pixels = np.zeros((8, 8), np.uint16)
    slice_ = {**header, "Modality": "CT", "SliceThickness": "5", "InstanceNumber": 12, **place}
    made = of(dicom_files.dicom(pixels, **slice_), {}, one_mark("subdural"))
    assert not recwarn.list
    segmentation = read(made["seg"])
    shared, (frame,) = (
        segmentation.SharedFunctionalGroupsSequence[0],
        segmentation.PerFrameFunctionalGroupsSequence,
    )
    assert frame.PlanePositionSequence[0].ImagePositionPatient == place["ImagePositionPatient"]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == place["PixelSpacing"]
    assert segmentation.InstanceNumber == 12
    (group,) = hd.sr.srread(io.BytesIO(made["sr"])).content.get_planar_roi_measurement_groups()
    area = group.get_measurements()[0]
    assert area.value == 2 * 2 * 0.5 * 0.25 and area.unit.value == "mm2"
    assert group.finding_type.value == "35486000"


@pytest.mark.parametrize("lacking", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_file_that_nothing_can_refer_to_says_so(lacking):
    made = dicom_files.dataset(np.zeros((8, 8, 3), np.uint8), **HEADER)
    delattr(made, lacking)
    stream = io.BytesIO()
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    made.file_meta.MediaStorageSOPClassUID = OPHTHALMIC
    pydicom.dcmwrite(stream, made, enforce_file_format=lacking != "SOPInstanceUID")
    data = stream.getvalue()
    data = data if data[128:132] == b"DICM" else bytes(128) + b"DICM" + data
    with pytest.raises(dicom_objects.NoObjects, match=f"it has no {lacking}, by which objects"):
        of(data, {"score": 1.0})
