"""Cut-points are worth what they claim, and the fusion of eyes has not seen whom it judges."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.statistics import multiclass
from dr_tfx.tasks.grades import fitting


def kappa(truth, grade, cuts) -> float:
    return cohen_kappa_score(truth, fitting.by_cut_points(grade, cuts), weights="quadratic")


def test_cut_points_find_a_scale_that_was_shrunk():
    rng = np.random.default_rng(0)
    truth = rng.choice(5, 400, p=[0.4, 0.1, 0.3, 0.1, 0.1])
    grade = 1.5 + 0.3 * truth + rng.normal(scale=0.03, size=400)
    cuts = fitting.fit_cut_points(truth, grade, 5)
    assert kappa(truth, grade, np.arange(4) + 0.5) < 0.7
    assert kappa(truth, grade, cuts) > 0.99
    assert list(cuts) == sorted(cuts)


def test_cut_points_are_never_worse_than_rounding():
    rng = np.random.default_rng(1)
    for _ in range(5):
        truth, grade = rng.integers(0, 4, 60), rng.uniform(0, 3, 60)
        cuts = fitting.fit_cut_points(truth, grade, 4)
        assert kappa(truth, grade, cuts) >= kappa(truth, grade, np.arange(3) + 0.5)


def test_cut_points_stay_where_there_is_nothing_to_choose():
    assert fitting.fit_cut_points(np.array([2, 2]), np.array([1.0, 1.0]), 4) == (0.5, 1.5, 2.5)


@pytest.fixture(scope="module")
def eyes():
    """200 patients whose eyes have like grades, seen by a model with errors of its own."""
    rng = np.random.default_rng(2)
    level = rng.uniform(0, 4, 200).repeat(2)
    truth = np.clip(np.round(level + rng.normal(scale=0.2, size=400)), 0, 4).astype(np.int64)
    grade = np.clip(truth + rng.normal(scale=1.0, size=400), 0, 4)
    return pd.Series([f"p{i // 2}" for i in range(400)]), truth, grade


def test_the_other_eye_helps_where_eyes_are_alike(eyes):
    patient, truth, grade = eyes
    fusion = fitting.fit_eyes(patient, truth, grade, 5)
    fused = fitting.fused_grades(patient, grade, fusion)
    alone = cohen_kappa_score(truth, np.round(grade).astype(int), weights="quadratic")
    assert cohen_kappa_score(truth, fused, weights="quadratic") > alone + 0.05


def test_no_patient_is_judged_by_a_model_that_has_seen_them(eyes):
    patient, truth, grade = eyes
    fusion = fitting.fit_eyes(patient, truth, grade, 5)
    mine = (patient == "p7").to_numpy()
    other = fitting.fit_eyes(patient, np.where(mine, 4 - truth, truth), grade, 5)
    before, after = (fitting.fused_grades(patient, grade, one) for one in (fusion, other))
    assert before[mine].tolist() == after[mine].tolist()
    assert fusion != other


def test_too_few_pairs_are_not_fused():
    patient = pd.Series(["a", "a", "b", "c"])
    assert fitting.fit_eyes(patient, np.array([0, 1, 2, 3]), np.arange(4.0), 5) is None


@pytest.fixture(scope="module")
def judged(eyes):
    """The kind of task, and predictions of it."""
    patient, truth, grade = eyes
    task = tasks.of(
        tasks.from_config({"dataset": {"label_names": list("abcde")}, "task": {"kind": "grades"}})
    )
    above = np.clip(grade[:, None] - np.arange(4), 0, 1)
    shares = -np.diff(np.pad(above, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0))), axis=1)
    table = pd.DataFrame(shares, columns=[f"probability/{name}" for name in "abcde"])
    return task, table.assign(patient=patient, target=truth, grade=shares @ np.arange(5))


def test_an_answer_is_calibrated_and_names_every_part(judged):
    task, table = judged
    fitted = fitting.fit(table, task, split="validation")
    for known in (None, fitted):
        readings = task.scores.read(table, known)
        assert all(tuple(one.answer) == task.scores.answer_names for one in readings)
    told = multiclass.apply_temperature(task.scores.of_table(table), fitted.temperature)
    answer = readings[3].answer
    assert [answer[f"probability/{name}"] for name in "abcde"] == pytest.approx(told[3].tolist())
    assert answer["referred"] == pytest.approx(told[3, 2:].sum())
    assert list(readings[3].probabilities.values()) == pytest.approx(told[3].tolist())
    for reading in readings:
        assert reading.is_suspected == (reading.decision in "cde")
    assert answer["grade"] == readings[3].number == table["grade"][3]
    assert answer["decision"] == "abcde"[int(np.floor(table["grade"][3] + 0.5))]


def test_fitted_settings_survive_the_bundle_and_damage_is_named(judged):
    task, table = judged
    fitted = fitting.fit(table, task, split="validation")
    plain = fitted.to_dict()
    assert plain == json.loads(json.dumps(plain))  # Lists: an ensemble compares it with a file.
    assert fitting.from_dict(plain, task) == fitted
    for key, value, words in (
        ("cut_points", [0.5], "not 4, one between each"),
        ("cut_points", [2.0, 1.0, 3.0, 4.0], "numbers that do not fall"),
        ("points", {"5": plain["points"]["1"]}, "expected grades of"),
        ("temperature", 0.0, "temperature is 0.0"),
    ):
        with pytest.raises(typed.ConfigError, match=words):
            fitting.from_dict({**plain, key: value}, task)


GOOD = {"val_accuracy": 0.9, "val_largest_share": 0.6, "val_kappa": 0.8}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (GOOD, {}),
        (
            {"val_accuracy": 0.6, "val_largest_share": 1.0, "val_kappa": 0.0},
            {
                "one_answer": "100.0 % of the validation images get the same answer, yet no more "
                "than 60.0 % are of one class: the model (almost) always says the same.",
                # Wilson's interval of 60 of 100.
                "majority": "The validation accuracy, 0.600 (0.502–0.691), is not clearly above "
                "0.600, which always saying 'a' reaches.",
                # 1.96 times the standard deviation of the correlation of 100 pairs.
                "chance": "The validation kappa, 0.000, is not above what guessing gives on so few "
                "images, 0 ± 0.196.",
            },
        ),
        (GOOD | {"val_kappa": 0.19}, {"chance": "The validation kappa, 0.190, is not above "}),
        (GOOD | {"val_kappa": 0.2}, {}),
        (GOOD | {"val_largest_share": 0.95}, {"one_answer": "95.0 % of the validation images "}),
        (GOOD | {"val_accuracy": 0.69}, {"majority": "The validation accuracy, 0.690 "}),
        (GOOD | {"val_accuracy": 0.7}, {}),  # Of 70 of 100 the interval begins at .604.
    ],
)
def test_a_training_that_collapses_is_said_by_its_figures(judged, row, said):
    task, _ = judged
    found = task.judgement.wrong_with(row, (60, 10, 10, 10, 10))
    assert found.keys() == said.keys() <= task.judgement.alarm_over.keys()
    assert all(found[kind].startswith(sentence) for kind, sentence in said.items())
