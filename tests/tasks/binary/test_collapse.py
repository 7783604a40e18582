"""Alarms while training: begun after a few epochs, said once, ended when a model recovers."""

import re

import numpy as np
import pytest
from scipy import stats

from dr_tfx.tasks.binary import collapse
from dr_tfx.training import alarms


def wrong_with(row):
    return collapse.wrong_with(row, (60, 40), ("normal", "abnormal"))


def changes(history):
    return alarms.changes(history, wrong_with, collapse.OVER)


GOOD = {"val_loss": 0.4, "val_auc": 0.9, "val_accuracy": 0.85, collapse.SHARE: 0.4}
ONE_ANSWER = {"val_loss": 0.4, "val_auc": 0.9, "val_accuracy": 0.85, collapse.SHARE: 0.97}
CHANCE = {"val_loss": 0.4, "val_auc": 0.52, "val_accuracy": 0.85, collapse.SHARE: 0.4}
MAJORITY = {"val_loss": 0.4, "val_auc": 0.9, "val_accuracy": 0.6, collapse.SHARE: 0.4}


@pytest.mark.parametrize(
    ("row", "kind", "said"),
    [
        (
            ONE_ANSWER,
            "one_answer",
            "97.0 % .* 'abnormal' at threshold 0.5, yet .* AUC of its scores is 0.900",
        ),
        (
            {**GOOD, collapse.SHARE: 0.0},
            "one_answer",
            "100.0 % .* 'normal' at threshold 0.5, yet only 60.00 %",
        ),
        (CHANCE, "chance", "0.520, is not above what guessing gives"),
        ({**GOOD, "val_auc": 0.2}, "chance", "0.200"),
        (
            MAJORITY,
            "majority",
            "threshold 0.5, 0.600 .* clearly above 60.00 %, .*; the AUC of its scores is 0.900",
        ),
    ],
)
def test_each_collapse_is_said_by_its_figures_after_three_epochs(row, kind, said):
    assert alarms.standing([row] * 2, wrong_with) == {}
    found = alarms.standing([row] * 3, wrong_with)
    assert list(found) == [kind]
    assert re.search(said, found[kind])


def test_a_good_model_gives_no_alarm():
    assert alarms.standing([GOOD] * 5, wrong_with) == {}


def test_a_loss_without_a_meaning_is_said_at_once_and_when_it_is_over():
    lost = {**GOOD, "val_loss": 1.4e29}
    assert changes([lost])[0].startswith("ALARM: The validation loss is 1.4e+29: the training has")
    assert changes([lost, lost]) == []
    assert changes([lost, GOOD]) == ["The validation loss has a meaning again."]
    assert changes([{**GOOD, "val_loss": 9e5}]) == []
    assert alarms.has_diverged({"val_loss": float("nan")})


def test_a_run_says_it_once_and_again_when_it_recovers():
    rows = [CHANCE] * 5 + [GOOD] * 2 + [CHANCE] * 3
    said = [changes(rows[: i + 1]) for i in range(len(rows))]
    assert [len(sentences) for sentences in said] == [0, 0, 1, 0, 0, 1, 0, 0, 0, 1]
    assert said[2][0].startswith("ALARM: for 3 epochs now: The validation AUC")
    assert said[5] == ["The validation AUC is no longer compatible with guessing."]


def test_one_good_epoch_among_bad_ones_begins_the_count_anew():
    rows = [CHANCE, CHANCE, GOOD, CHANCE, CHANCE]
    assert not any(changes(rows[: i + 1]) for i in range(len(rows)))


@pytest.mark.parametrize(("auc", "stands"), [(0.61, True), (0.62, False)])
def test_guessing_ends_where_the_exact_test_of_mann_and_whitney_ends(auc, stands):
    """By simulation: 97.5 % of the AUCs of 60 and 40 random scores are below the limit."""
    rng = np.random.default_rng(0)
    ranks = stats.rankdata(rng.random((20_000, 100)), axis=1)
    aucs = (ranks[:, 60:].sum(axis=1) - 40 * 41 / 2) / (60 * 40)
    assert 0.61 < np.quantile(aucs, 0.975) < 0.62
    row = {**GOOD, "val_auc": auc}
    assert bool(alarms.standing([row] * 3, wrong_with)) == stands


def test_an_epoch_that_diverged_is_no_error():
    row = dict.fromkeys(GOOD, float("nan"))
    assert list(alarms.standing([row] * 3, wrong_with)) == ["diverged"]


def test_a_history_of_before_has_no_share_and_is_judged_by_the_rest():
    row = {"val_loss": 0.4, "val_auc": 0.5, "val_accuracy": 0.85}
    assert list(alarms.standing([row] * 3, wrong_with)) == ["chance"]
