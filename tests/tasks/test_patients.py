"""Decisions for patients: by the highest image, by some, and by a fusion that is fitted."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dr_tfx.config import typed
from dr_tfx.tasks import patients

SETTINGS = patients.PatientEvaluation(top=2)


def slices(count: int, *, seed: int) -> dict[str, np.ndarray]:
    """Twelve slices a patient. Half of the patients bleed on four, each seen only dimly; one slice
    of most patients is bright for nothing, so that the highest score tells little.
    """
    rng = np.random.default_rng(seed)
    target = np.zeros((count, 12), int)
    target[: count // 2, :4] = 1
    margin = rng.normal(size=target.shape) - 3 + 1.5 * target
    margin[:, 11] += rng.choice([0, 5], count, p=[0.2, 0.8])
    names = np.repeat([f"{seed}-{i}" for i in range(count)], 12)
    return {"patient": names, "target": target.ravel(), "score": 1 / (1 + np.exp(-margin.ravel()))}


def test_images_become_the_highest_and_the_mean_of_some():
    table = patients.fuse(list("aaab"), [0, 1, 0, 0], [0.1, 0.9, 0.5, 0.4], top=2)
    assert table["max"].tolist() == [0.9, 0.4]
    assert table["top_mean"].tolist() == pytest.approx([0.7, 0.4])
    assert table["mean"].tolist() == pytest.approx([0.5, 0.4])
    assert table["target"].tolist() == [1, 0] and table["images"].tolist() == [3, 1]


def test_a_fitted_fusion_tells_more_where_single_images_mislead():
    decision = patients.fit(**slices(100, seed=1), settings=SETTINGS, default=0.5)
    assert decision.fusions == ("max", "top_mean", "fitted") == tuple(decision.thresholds)
    found = patients.fuse(**slices(200, seed=2), top=2, weights=decision.weights)
    aucs = [roc_auc_score(found["target"], found[name]) for name in decision.fusions]
    assert aucs[2] > max(aucs[:2]) + 0.02
    plain = decision.to_dict()
    assert plain == json.loads(json.dumps(plain))  # Lists: an ensemble compares it with a file.
    assert typed.record(patients.PatientDecision, plain, "fitted") == decision


def test_no_patient_is_judged_by_weights_that_saw_them():
    """By hand, for one part: a model of the patients of the others."""
    given = slices(100, seed=1)
    decision = patients.fit(**given, settings=SETTINGS, default=0.5)
    table = patients.fuse(**given, top=2, weights=decision.weights)
    mine = patients.part(table["patient"]) == 3
    features = table[["max", "top_mean", "mean"]].to_numpy()
    features = np.log(features / (1 - features))
    by_hand = LogisticRegression().fit(features[~mine], table["target"][~mine])
    expected = by_hand.predict_proba(features[mine])[:, 1]
    np.testing.assert_allclose(table["fitted"][mine], expected, rtol=1e-9)


def test_nothing_is_fitted_on_few_patients_or_single_images():
    few = patients.fit(**slices(8, seed=1), settings=SETTINGS, default=0.5)
    single = slices(100, seed=1) | {"patient": np.arange(1200).astype(str)}
    for decision in (few, patients.fit(**single, settings=SETTINGS, default=0.5)):
        assert decision.weights == () and decision.fusions == ("max", "top_mean")
        decision.check()
    none = patients.fit(list("aab"), [0, 0, 0], [0.1, 0.2, 0.3], SETTINGS, default=0.25)
    assert none.thresholds == {"max": 0.25, "top_mean": 0.25}
    with pytest.raises(typed.ConfigError, match="fitted.patients.thresholds is of"):
        dataclasses.replace(few, thresholds={"max": 0.5}).check()
