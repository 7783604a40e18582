"""Photographs beside those of validation: kept, judged and told."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from dr_tfx import tasks
from dr_tfx.dataset import manifest
from dr_tfx.inference import drift, drift_rows, photographs
from dr_tfx.models import drift_file
from dr_tfx.preprocessing import recipes
from dr_tfx.statistics import drift as statistics
from tests.helpers import exports, screening


@pytest.fixture(scope="module")
def reference():
    return exports.reference(range(40))


def read(number, **changes):
    rgb = exports.picture(number)
    return photographs.ReadPhotograph(
        f"eye {number}.png", recipes.Picture(rgb, b""), exports.reading(rgb), **changes
    )


def test_the_numbers_of_a_picture_are_those_of_its_colours():
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:, :4] = 10, 20, 30
    red, green, blue, contrast, sharpness = drift.numbers_of(rgb)
    assert (red, green, blue) == (5, 10, 15) and sharpness > 0
    assert contrast == pytest.approx(9)  # Half of the grey of (10, 20, 30), which is 18.


def test_rows_are_counted_once_whatever_was_killed(reference, tmp_path):
    path = tmp_path / drift_rows.FILE
    kept = drift_rows.KeptRows(path, reference, anew=True)
    for number in range(35):
        kept.add(read(number))
    path.write_bytes(path.read_bytes()[:-30])  # The end of a line, and its row, were lost.
    kept = drift_rows.KeptRows(path, reference, anew=False)
    for number in (33, 34):  # One had a line before the kill, but no row.
        kept.add(read(number))
    kept.add(photographs.ReadPhotograph("black.png", rejected="ungradable:black: brightness 3"))
    rows = [{"photo": f"eye {n}.png", "rejected": "", "ungradable": ""} for n in range(35)]
    rows[3]["ungradable"] = "no_retina"
    rows += [{"photo": "black.png", "rejected": "ungradable:black: brightness 3", "ungradable": ""}]
    rows += [{"photo": "broken.png", "rejected": "unreadable: no image", "ungradable": ""}]
    counted = kept.counted(pd.DataFrame(rows))
    watch, expected = drift.Watch(reference), statistics.Counted(reference)
    for number in range(35):
        one = read(number)
        expected.add(watch.row(one.picture.rgb, one.reading))
    assert counted.photographs == 35
    np.testing.assert_allclose(counted.sums, expected.sums)
    assert counted.verdicts == {"no_retina": 1, "black": 1} and counted.refused == 1
    assert (
        drift_rows.KeptRows(path, reference, anew=True).counted(pd.DataFrame(rows)).photographs == 0
    )


def test_a_file_says_what_it_was_given_to_its_own_model_alone(reference, tmp_path):
    path = tmp_path / drift_file.FILE
    path.write_bytes(drift_file.to_bytes(reference, key="a"))
    found = drift_file.read(path, key="a")
    assert found is not None and found.scores == reference.scores == ("score",)
    np.testing.assert_allclose(found.patients, reference.patients, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(found.directions, reference.directions)
    assert drift_file.read(path, key="b") is None
    assert drift_file.read(tmp_path / "none.json", key="a") is None
    content = json.loads(path.read_text())
    for damage in ({"patients": content["patients"][:-8]}, {"count": 3}, {"centre": "é"}):
        path.write_text(json.dumps({**content, **damage}))
        with pytest.raises(ValueError, match=r"drift.json is damaged: .*drtfx-evaluate"):
            drift_file.read(path, key="a")


def test_why_drift_cannot_be_told(tmp_path):
    data = dataclasses.replace(screening.MANIFEST, patients={"validation": 29})
    told = drift_file.untold(data, tmp_path, export=False)
    assert "validation has 29 patients, and 30 are needed" in told
    data = dataclasses.replace(data, patients={"validation": 30})
    assert "drtfx-evaluate --workdir=RUN" in drift_file.untold(data, tmp_path, export=False)
    assert "export it again" in drift_file.untold(data, tmp_path, export=True)
    joined = dataclasses.replace(data, fold=manifest.EVERY_FOLD)
    assert "all folds" in drift_file.untold(joined, tmp_path, export=False)


def judged(*differing, photographs=50):
    names = statistics.SCORES, statistics.FEATURES, statistics.PICTURES, statistics.QUALITY
    signals = {n: statistics.Signal(1.0, 0.5, n in differing) for n in names} if photographs else {}
    means = {"red": (120.0, 100.0, 10.0), "sharpness": (3.0, 7.0, 1.0)}
    return statistics.Judged(photographs, signals, {}, means, {})


def test_what_differs_says_camera_or_population():
    told = {
        (): ("calm", "Nothing shows"),
        (statistics.PICTURES,): ("alarm", "most of all their sharpness"),
        (statistics.PICTURES, statistics.SCORES): ("alarm", "cannot be told apart"),
        (statistics.QUALITY,): ("alarm", "The quality gate refuses"),
        (statistics.SCORES,): ("alarm", "another population is likely"),
        (statistics.FEATURES, statistics.QUALITY): ("alarm", "another population is likely"),
    }
    for differing, (kind, words) in told.items():
        found = drift.told(judged(*differing))
        assert found[0] == kind and words in found[1]
    kind, sentence = drift.told(judged(photographs=0))
    assert kind == "note" and "at least 30 are needed" in sentence


def test_every_kind_watches_numbers_of_its_answers():
    for name in tasks.KINDS:
        labels = {"label_names": ["a", "b", "c"], "recipe": {"size": 32}}
        more = {"dataset": labels, "task": {"kind": name}}
        if name == "binary":
            more["task"]["label_map"] = [0, 1, 1]
        if name == "masks":
            labels["masks"] = ["HE", "EX"]
        if name == "multilabel":
            labels["label_values"] = ["a", "b", "a+b"]
        try:
            scores = tasks.of(tasks.from_config(more)).scores
        except ValueError:
            continue  # Its settings are of another shape, and its own tests have them.
        assert scores.watched and set(scores.watched) <= set(scores.answer_names)
