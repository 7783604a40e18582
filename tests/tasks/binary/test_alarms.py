"""Alarms that the figures of a binary model raise, and those that they do not."""

import pytest

from dr_tfx.statistics import metrics
from dr_tfx.tasks.binary.alarms import alarms

NAMES = ("normal", "abnormal")
REFERENCE = [[4958, 205], [1398, 465]]  # A published confusion matrix, [[TN, FP], [FN, TP]].


def test_the_published_model_raises_the_alarm_it_deserves_and_no_other():
    auc = metrics.Estimate(0.69, 0.68, 0.70)
    found = alarms(REFERENCE, auc, class_names=NAMES, patients=[2600, 1000])
    assert len(found) == 1
    assert found[0].startswith("The sensitivity is 25.0 %")


@pytest.mark.parametrize(
    ("confusion", "auc", "patients", "words"),
    [
        (
            [[735, 0], [265, 0]],
            (0.7, 0.68, 0.72),
            (500, 200),
            "100.0 % of the decisions are 'normal'",
        ),
        (
            [[30, 705], [2, 263]],
            (0.7, 0.68, 0.72),
            (500, 200),
            "96.8 % of the decisions are 'abnormal'",
        ),
        ([[600, 135], [65, 200]], (0.5, 0.47, 0.53), (500, 200), "compatible with guessing"),
        ([[600, 135], [65, 200]], (0.2, 0.17, 0.23), (500, 200), "labels reversed"),
        ([[600, 135], [130, 135]], (0.7, 0.68, 0.72), (500, 200), "not clearly above 0.735"),
        ([[30, 5], [3, 12]], (0.9, 0.8, 0.97), (20, 9), "9 patients with 'abnormal' images"),
        ([[30, 5], [3, 12]], (0.9, 0.8, 0.97), (20, 9), "AUC 0.900 (0.800–0.970)"),
    ],
)
def test_alarms(confusion, auc, patients, words):
    found = alarms(confusion, metrics.Estimate(*auc), class_names=NAMES, patients=patients)
    assert any(words in sentence for sentence in found), found


def test_a_good_model_on_enough_patients_raises_no_alarm():
    auc = metrics.Estimate(0.95, 0.94, 0.96)
    assert not alarms([[690, 45], [30, 235]], auc, class_names=NAMES, patients=[400, 180])


def test_a_rare_class_alone_is_no_collapse():
    # 96 % normal and 95.5 % of the decisions normal is what a good model does.
    auc = metrics.Estimate(0.98, 0.97, 0.99)
    confusion = [[9500, 100], [50, 350]]
    assert not alarms(confusion, auc, class_names=NAMES, patients=[4800, 300])


def test_a_threshold_that_gives_accuracy_away_is_told_from_a_collapse():
    auc = metrics.Estimate(0.95, 0.94, 0.96)
    # 5 % positive, sensitivity and specificity .9: accuracy .9, and "normal" to all reaches .95.
    confusion = [[8550, 950], [50, 450]]
    found = alarms(confusion, auc, class_names=NAMES, patients=[4000, 300])
    assert len(found) == 1
    assert "not clearly above 0.950" in found[0] and "here accuracy says little" in found[0]
    collapsed = alarms([[950, 0], [50, 0]], auc, class_names=NAMES, patients=[900, 50])
    assert not any("accuracy says little" in sentence for sentence in collapsed)


def test_alarms_go_by_the_intervals_they_are_given():
    auc, counts = metrics.Estimate(0.95, 0.94, 0.96), [[690, 45], [30, 235]]
    wide = metrics.rates(counts) | {"accuracy": metrics.Estimate(0.925, 0.72, 0.99)}
    (found,) = alarms(counts, auc, class_names=NAMES, patients=[400, 180], estimates=wide)
    assert found.startswith("The accuracy, 0.925 (0.720–0.990), is not clearly above 0.735")
