"""The pictures of a data set: the right photographs, and the same bytes every time."""

import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest

from beam_jobs.build_examples import contact_sheet, job
from dr_tfx.dataset import manifest
from dr_tfx.preprocessing import recipes
from dr_tfx.sources import folders
from dr_tfx.storage import files
from tests.helpers.builds import SPEC, build
from tests.helpers.drawn import draw, encode


@pytest.fixture
def shown(monkeypatch) -> list:
    """What was drawn, in place of the drawing."""
    calls: list = []
    monkeypatch.setattr(
        contact_sheet, "draw", lambda rows, *, title: calls.append((title, rows)) or b"PNG"
    )
    return calls


def test_every_label_is_shown_before_and_after(raw, tmp_path, shown):
    labels = dict(line.split(",") for line in (raw / "labels.csv").read_text().split()[1:])
    build(raw, tmp_path / "out")
    ((title, rows),) = shown
    assert "drawn" in title and "fundus" in title
    counts = pd.Series(list(labels.values())).value_counts()
    names = [f"{name}   ({counts[str(i)]})" for i, name in enumerate(SPEC.label_names)]
    assert [name for name, _ in rows] == names
    for label, (_, items) in enumerate(rows):
        assert len(items) == contact_sheet.SHOWN
        for item in items:
            assert labels[item.caption] == str(label)
            data = (raw / f"{item.caption}.jpeg").read_bytes()
            before, after = item.pictures
            np.testing.assert_array_equal(after, recipes.apply_recipe(data, SPEC.recipe).rgb)
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(before, decoded[..., ::-1])


def test_a_row_is_filled_from_several_shards_and_from_no_more(raw, tmp_path, shown, monkeypatch):
    opened, open_file = [], files.open_file
    build(raw, tmp_path / "out", spec=dataclasses.replace(SPEC, shard_examples=3))
    made, shown[:] = manifest.load(tmp_path / "out"), []
    monkeypatch.setattr(files, "open_file", lambda path: opened.append(path) or open_file(path))
    names = pd.DataFrame({"id": [path.stem for path in raw.glob("*.jpeg")]})
    names["name"] = names["id"] + ".jpeg"
    folder = folders.Folder(str(raw))
    contact_sheet.of_labels(made, names, folder, folder=str(tmp_path / "out"))
    ((_, rows),) = shown
    assert [len(items) for _, items in rows] == [contact_sheet.SHOWN] * 3
    shards = [path for path in opened if "tfrecord" in path]
    for label in range(3):
        sizes = [shard.records for shard in made.shards if shard.label == label]
        needed = next(n for n in range(9) if sum(sizes[:n]) >= contact_sheet.SHOWN)
        assert needed > 1
        assert sum(f"-{label}.tfrecord" in path for path in shards) == needed


def test_arrays_are_shown_as_they_were_given(tmp_path, shown):
    pictures = np.stack([cv2.resize(draw(i), (32, 32)) for i in range(30)])
    np.save(tmp_path / "X.npy", pictures)
    np.save(tmp_path / "y.npy", np.arange(30) % 3)
    job.build(
        SPEC,
        image_dir=str(tmp_path / "X.npy"),
        labels=str(tmp_path / "y.npy"),
        output_dir=str(tmp_path / "out"),
    )
    ((title, rows),) = shown
    assert title == "drawn, as given, 32 pixels"
    for item in (item for _, items in rows for item in items):
        (picture,) = item.pictures
        np.testing.assert_array_equal(picture, pictures[int(item.caption[2:])])


def test_flagged_photographs_are_shown_by_reason(tmp_path, shown):
    names = [f"{i}.png" for i in range(12)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(encode(draw(i), ".png"))
    flagged = pd.DataFrame(
        {
            "id": [str(i) for i in range(12)],
            "name": names,
            "reason": ["ungradable:black"] * 10 + ["ungradable:blown_out"] * 2,
            "fate": ["kept"] * 11 + ["rejected"],
        }
    )
    contact_sheet.of_ungradable(flagged, folders.Folder(str(tmp_path)))
    ((_, rows),) = shown
    assert [(name, len(items)) for name, items in rows] == [
        ("ungradable:black, kept   (10)", 2 * contact_sheet.SHOWN),
        ("ungradable:blown_out, kept   (1)", 1),
        ("ungradable:blown_out, rejected   (1)", 1),
    ]
    np.testing.assert_array_equal(rows[1][1][0].pictures[0], draw(10)[..., ::-1])


def test_a_photograph_that_has_gone_is_no_reason_to_fail(tmp_path, shown):
    flagged = pd.DataFrame({"id": ["1"], "name": ["1.png"], "reason": ["why"], "fate": ["kept"]})
    contact_sheet.of_ungradable(flagged, folders.Folder(str(tmp_path)))
    ((_, ((_, (item,)),)),) = shown
    assert item.pictures[0].shape == (1, 1, 3)


def test_large_photographs_are_not_decoded_in_full(tmp_path):
    (tmp_path / "large.jpeg").write_bytes(encode(draw(0, width=2400, height=1600)))
    source = folders.Folder(str(tmp_path))
    assert source.thumbnail(source.read("large.jpeg"), 176).shape == (200, 300, 3)


def test_drawing_twice_gives_the_same_bytes():
    item = contact_sheet.SheetEntry((draw(0), draw(1)), "a_very_long_name_of_a_photograph" * 3)
    rows = [("normal & <b> $x$   (1)", [item] * 4), ("Überhaupt nichts", [])]
    first = contact_sheet.draw(rows, title="title")
    assert first == contact_sheet.draw(rows, title="title")
    height, width = cv2.imdecode(np.frombuffer(first, np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert width > 4 * 2 * 170 and height > 2 * 170
