"""What is said about predictions, where the truth about them is known."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, matthews_corrcoef, roc_auc_score

from dr_tfx import tasks
from dr_tfx.dataset import splits
from dr_tfx.statistics import metrics
from dr_tfx.tasks.binary import fitting, settings, summary

NAMES = ("normal", "abnormal")
SETTINGS = settings.BinaryEvaluation(threshold_rule="min_sensitivity", bootstrap_resamples=200)


def _table(stratum, score, *, patient=None, **views) -> pd.DataFrame:
    stratum = np.asarray(stratum)
    names = [f"{i:04}" for i in range(len(stratum))]
    frame = pd.DataFrame(
        {
            "id": names,
            "patient": names if patient is None else patient,
            "stratum": stratum,
            "target": (stratum > 0).astype(int),
            "score": np.asarray(score, float),
        }
    )
    views = views or {"identity": score}
    return frame.assign(**{f"score/{view}": values for view, values in views.items()})


def _eyes(patients: int, *, seed: int) -> pd.DataFrame:
    """Two photographs a patient, alike in truth and score; the mean of two views is better."""
    rng = np.random.default_rng(seed)
    severe = rng.choice(3, patients, p=[0.6, 0.2, 0.2])
    stratum = np.clip(np.repeat(severe, 2) - (rng.random(2 * patients) < 0.2), 0, 2)
    truth = np.repeat(rng.normal(size=patients) / 2, 2) + 2.0 * (stratum > 0)
    views = {
        name: 1 / (1 + np.exp(-truth - rng.normal(size=2 * patients)))
        for name in ("identity", "left_right")
    }
    score = np.mean(list(views.values()), axis=0)
    return _table(stratum, score, patient=np.arange(2 * patients) // 2, **views)


def _summarise(
    predictions: pd.DataFrame,
    fitted: fitting.Fitted,
    *,
    resamples: int = 200,
    patients_known: bool = True,
    twins=(),
) -> dict:
    experiment = tasks.from_config(
        {
            "dataset": {"label_names": ["0", "1", "2"]},
            "task": {"class_names": NAMES, "label_map": [0, 1, 1]},
            "evaluation": {
                "threshold_grid": (0.3, 0.7, 0.01),
                "bootstrap_resamples": resamples,
            },
        }
    )
    table = summary.checked(predictions).assign(cluster=splits.clusters(predictions, twins))
    return summary.summarise(table, fitted, experiment, patients_known=patients_known)


@pytest.fixture(scope="module")
def fitted() -> fitting.Fitted:
    return fitting.fit(_eyes(200, seed=1), SETTINGS, split="validation")


@pytest.fixture(scope="module")
def told(fitted) -> dict:
    return _summarise(_eyes(200, seed=2), fitted)


def test_the_published_result_cannot_be_missed():
    # TN 4,958 FP 205 FN 1,398 TP 465 as photographs. 73.5 % are normal.
    score = np.repeat([0.2, 0.8, 0.2, 0.8], [4958, 205, 1398, 465])
    predictions = _table(np.repeat([0, 1], [5163, 1863]), score)
    rules = settings.BinaryEvaluation(threshold_rule="accuracy", threshold_grid=(0.3, 0.7, 0.01))
    found = fitting.fit(predictions, rules, split="validation")
    told = _summarise(predictions, found, resamples=100, patients_known=False)
    point = told["scores"]["tta"]["at_threshold"]
    assert point["confusion"] == [[4958, 205], [1398, 465]]
    assert f"{point['majority_rate']:.1%}" == "73.5%"
    assert f"{point['rates']['accuracy']['value']:.2%}" == "77.18%"
    assert f"{point['rates']['sensitivity']['value']:.0%}" == "25%"
    decided = (score >= 0.5).astype(int)
    assert point["rates"]["mcc"]["value"] == pytest.approx(
        matthews_corrcoef(predictions["target"], decided), abs=1e-9
    )
    assert any("more than half of the 'abnormal' images" in alarm for alarm in told["alarms"])


def test_what_validation_fitted_is_frozen_for_every_split(fitted, told):
    tta = told["scores"]["tta"]
    points = {point["name"]: point for point in tta["operating_points"]}
    assert list(points) == ["sensitivity 0.872", "accuracy", "youden", "specificity 0.907"]
    assert [p["threshold"] for p in points.values()] == [p.threshold for p in fitted.points]
    assert tta["at_threshold"]["threshold"] == fitted.threshold
    assert tta["at_threshold"]["rates"] == points["sensitivity 0.872"]["rates"]
    assert (told["calibration"]["slope"], told["calibration"]["intercept"]) == fitted.scaling
    assert told["calibration"]["fitted_on"] == "validation"
    for name in ("max", "top_mean", "fitted"):
        threshold = told["patients"][name]["at_threshold"]["threshold"]
        assert threshold == fitted.patients.thresholds[name]
    # On validation itself the bounds hold; here they need not.
    own = _summarise(_eyes(200, seed=1), fitted)
    rates = own["scores"]["tta"]["at_threshold"]["rates"]
    assert rates["sensitivity"]["value"] >= 0.872 and rates["specificity"]["value"] > 0.5


def test_figures_agree_with_scikit_learn_and_add_up(told):
    predictions = _eyes(200, seed=2)
    for name, column in (("identity", "score/identity"), ("tta", "score")):
        pair = predictions["target"], predictions[column]
        scores = told["scores"][name]
        assert scores["auc"]["value"] == pytest.approx(roc_auc_score(*pair), abs=1e-9)
        expected = average_precision_score(*pair)
        assert scores["average_precision"]["value"] == pytest.approx(expected, abs=1e-9)
        assert np.sum(scores["at_half"]["confusion"]) == len(predictions)
    counts = told["counts"]["per_class"]
    assert counts["normal"]["images"] == (predictions["target"] == 0).sum()
    assert counts["abnormal"]["patients"] == predictions.query("target == 1")["patient"].nunique()
    confusion = told["scores"]["tta"]["at_threshold"]["confusion"]
    assert sum(row["correct"] for row in told["strata"]) == np.trace(confusion)
    assert sum(row["images"] for row in told["strata"]) == 400
    assert [row["name"] for row in told["strata"]] == ["0", "1", "2"]
    assert len(told["sweep"]) == 41


def test_the_worst_misses_and_false_alarms_come_first(fitted, told):
    rows = told["most_wrong"]
    missed = [row["score"] for row in rows if row["truth"] == "abnormal"]
    alarmed = [row["score"] for row in rows if row["truth"] == "normal"]
    assert missed == sorted(missed)
    assert alarmed == sorted(alarmed, reverse=True)
    assert max(missed) < fitted.threshold <= min(alarmed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.drop(columns="patient"), r"lack the columns \['patient'\]"),
        (lambda p: p.assign(score=np.nan), "400 values of 'score' .* did training diverge"),
        (
            lambda p: p.assign(**{"score/left_right": 1.5}),
            "'score/left_right' are not within .*, first 1.5 of image '0000'",
        ),
    ],
)
def test_bad_predictions_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        summary.checked(change(_eyes(200, seed=2)))


def test_fitted_things_survive_json(fitted):
    assert fitting.from_dict(json.loads(json.dumps(fitted.to_dict()))) == fitted


def test_the_calibration_is_of_the_scaled_scores(fitted, told):
    predictions = _eyes(200, seed=2)
    after = fitted.scaling(predictions["score"])
    brier = np.mean((after - predictions["target"]) ** 2)
    assert told["calibration"]["after"]["brier"]["value"] == pytest.approx(brier, abs=1e-12)
    before = np.mean((predictions["score"] - predictions["target"]) ** 2)
    assert told["calibration"]["before"]["brier"]["value"] == pytest.approx(before, abs=1e-12)
    # Scaling moves the threshold along: with nobody referred, decisions are what they were.
    everybody = told["referral"][0]
    rates = told["scores"]["tta"]["at_threshold"]["rates"]
    for name in ("accuracy", "sensitivity", "specificity"):
        assert everybody[name] == pytest.approx(rates[name])


def test_two_eyes_become_a_patient(told):
    predictions, patients = _eyes(200, seed=2), told["patients"]
    grouped = predictions.groupby("patient")
    target = grouped["target"].max()
    for name, aggregation in (("max", "max"), ("top_mean", "mean")):
        expected = roc_auc_score(target, grouped["score"].agg(aggregation))
        assert patients[name]["auc"]["value"] == pytest.approx(expected, abs=1e-9)
        assert np.sum(patients[name]["at_threshold"]["confusion"]) == 200
    assert patients["images_per_patient"] == {"2": 200}
    assert patients["majority_rate"] == max(target.mean(), 1 - target.mean())


def test_patients_who_share_photographs_are_resampled_as_one(fitted):
    """Eyes 0000 and 0001 are of patient 0, and so on: by hand, 0, 1, 5 and 30, 31 are joined."""
    predictions = _eyes(60, seed=4)
    twins = [["0001", "0002"], ["0003", "0010"], ["0060", "0062"], ["0100", "0101"], ["0", "0007"]]
    found = _summarise(predictions, fitted, twins=twins)
    by_hand = predictions.assign(patient=predictions["patient"].replace({1: 0, 5: 0, 31: 30}))
    united, alone = _summarise(by_hand, fitted), _summarise(predictions, fitted)
    for key in ("calibration", "referral", "scores", "strata", "tta_effect"):
        assert found[key] == united[key] != alone[key]
    # Decisions are made for 60 patients all the same.
    matrices = [t["patients"]["max"]["at_threshold"]["confusion"] for t in (found, alone)]
    assert matrices[0] == matrices[1] and np.sum(matrices[0]) == 60
    intervals = [t["patients"]["max"]["auc"] for t in (found, alone)]
    assert intervals[0]["value"] == intervals[1]["value"]
    assert intervals[0]["low"] != intervals[1]["low"]


def test_the_same_photographs_twice_tell_nothing_new(fitted):
    once = _eyes(40, seed=5)
    again = once.assign(id=once["id"] + "b", patient=once["patient"] + 40)
    twice = pd.concat([once, again], ignore_index=True)
    twins = [[name, f"{name}b"] for name in once["id"]]
    expected, known, unknown = (
        _summarise(table, fitted, resamples=1000, twins=groups)
        for table, groups in ((once, ()), (twice, twins), (twice, ()))
    )

    def widths(told) -> list[float]:
        figures = [told["scores"]["tta"]["auc"], told["calibration"]["before"]["brier"]]
        return [figure["high"] - figure["low"] for figure in figures]

    assert widths(known) == pytest.approx(widths(expected), abs=1e-12)
    assert widths(unknown) == pytest.approx(np.sqrt(0.5) * np.array(widths(expected)), rel=0.15)


def test_no_patient_level_where_it_would_be_the_same(fitted):
    alone = _eyes(100, seed=3).drop_duplicates("patient")
    assert _summarise(alone, fitted)["patients"] is None
    assert _summarise(_eyes(100, seed=3), fitted, patients_known=False)["patients"] is None


def test_more_views_are_compared_on_the_same_images(told):
    predictions, effect = _eyes(200, seed=2), told["tta_effect"]["differences"]
    auc = [
        roc_auc_score(predictions["target"], predictions[c]) for c in ("score", "score/identity")
    ]
    assert effect["auc"]["value"] == pytest.approx(auc[0] - auc[1], abs=1e-9)
    assert effect["auc"]["low"] > 0  # Half of the noise is gone.
    for name in ("sensitivity", "specificity", "accuracy"):
        value = [
            told["scores"][s]["at_threshold"]["rates"][name]["value"] for s in ("tta", "identity")
        ]
        assert effect[name]["value"] == pytest.approx(value[0] - value[1])


def test_one_view_has_no_effect(fitted):
    told = _summarise(_eyes(100, seed=3).drop(columns="score/left_right"), fitted)
    assert told["tta_effect"] is None


@pytest.mark.parametrize(
    ("stratum", "score", "patient"),
    [
        ([0, 1], [0.2, 0.8], None),
        ([0, 1, 0, 2, 1], [0.5] * 5, None),
        ([0, 1, 0, 2, 1], [0.0] * 5, None),
        ([0, 1, 0, 2, 1], [1.0] * 5, None),
        ([0, 1, 0, 2, 1], [0.1, 0.7, 0.3, 0.2, 0.9], ["one"] * 5),
        ([0, 0, 0, 0, 2], [0.0, 0.0, 0.0, 0.0, 1.0], list("aabbc")),
        ([2, 1, 1, 1, 0], [0.0, 0.0, 0.0, 0.0, 1.0], list("aabbb")),
    ],
)
def test_degenerate_predictions_are_judged_and_doubted(stratum, score, patient):
    predictions = _table(stratum, score, patient=patient)
    told = _summarise(predictions, fitting.fit(predictions, SETTINGS, split="validation"))
    json.dumps(told, allow_nan=False)
    assert any("Too few patients to conclude" in alarm for alarm in told["alarms"])


def test_one_class_alone_fits_nothing_and_has_its_one_rate(fitted):
    alone = _table([1, 2, 1], [0.1, 0.5, 0.9])
    with pytest.raises(ValueError, match=r"class 0 and of class 1, got classes \[1\]"):
        fitting.fit(alone, SETTINGS, split="validation")
    told = _summarise(alone, fitted)
    json.dumps(told, allow_nan=False)
    tta = told["scores"]["tta"]
    assert tta["auc"]["value"] is None and told["tta_effect"] is None
    rates = tta["at_threshold"]["rates"]
    found = sum(score >= fitted.threshold for score in (0.1, 0.5, 0.9))
    assert rates["sensitivity"]["value"] == found / 3 and rates["specificity"]["value"] is None
    assert all(row["specificity"] is None for row in told["sweep"])


def test_guessing_is_called_so():
    rng = np.random.default_rng(0)
    predictions = _table(rng.permutation(np.repeat([0, 1], [300, 100])), rng.random(400))
    told = _summarise(predictions, fitting.fit(predictions, SETTINGS, split="validation"))
    alarms = " ".join(told["alarms"])
    assert "compatible with guessing" in alarms
    assert "not clearly above 0.750, which always saying 'normal' reaches." in alarms


def test_estimates_come_back_from_json():
    estimate = metrics.Estimate(0.5, 0.25, np.nan)
    assert metrics.from_json(estimate.to_dict())[:2] == (0.5, 0.25)
    assert np.isnan(metrics.from_json(estimate.to_dict()).high)


@pytest.mark.parametrize("level", [0.5, 0.3, 0.02])
def test_scores_that_differ_by_rounding_are_one_answer_and_an_alarm(level):
    """The noise parts the classes perfectly, and another batch has other noise."""
    stratum = np.arange(80) % 2
    noise = np.random.default_rng(2).integers(1, 4, 80) * np.where(stratum > 0, 1, -1)
    score = (np.float32(level) + noise * np.spacing(np.float32(level))).astype(np.float64)
    assert roc_auc_score(stratum, score) == 1
    predictions = _table(stratum, score)
    fitted = fitting.fit(predictions, SETTINGS, split="validation")
    limits = [point.threshold for point in fitted.points] + [*fitted.patients.thresholds.values()]
    assert all(len(set(score >= limit)) == 1 for limit in limits)
    alarms = _summarise(predictions, fitted)["alarms"]
    assert alarms[0].startswith("100.0 % of the decisions are 'abnormal'")
    assert alarms[-1].startswith(f"The scores of all 80 images are {level} but for rounding")
