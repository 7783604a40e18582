"""Rules against every threshold there is, tried one by one."""

import dataclasses

import numpy as np
import pytest

from dr_tfx.statistics import metrics, operating_points
from dr_tfx.tasks.binary import settings

SETTINGS = settings.BinaryEvaluation(
    threshold_rule="youden",
    threshold_grid=(0.30, 0.70, 0.01),
    min_sensitivity=(0.872, 0.95),
    min_specificity=(0.907,),
)


def _examples(n: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.3).astype(int)
    target[:2] = 0, 1
    # Rounded, so that there are ties within and between the classes.
    return target, np.round(1 / (1 + np.exp(-rng.normal(size=n) - target)), 2)


def _by_name(target, score, settings=SETTINGS) -> dict[str, operating_points.OperatingPoint]:
    return {p.name: p for p in operating_points.choose(target, score, settings)}


def _rates(target, score, threshold) -> dict[str, float]:
    rates = metrics.rates(metrics.confusion_matrix(target, score, threshold))
    return {name: rate.value for name, rate in rates.items()}


def test_the_reference_grid_has_41_exact_thresholds():
    values = operating_points.grid_values((0.30, 0.70, 0.01))
    assert values.tolist() == [round(0.01 * i, 2) for i in range(30, 71)]
    with pytest.raises(ValueError, match="step > 0"):
        operating_points.grid_values((0.3, 0.7, 0.0))


def test_threshold_table_agrees_with_the_confusion_matrix_at_every_threshold():
    target, score = _examples(400)
    grid = operating_points.grid_values((0.0, 1.0, 0.01))
    for row in operating_points.threshold_table(target, score, grid).itertuples():
        for name in ("accuracy", "sensitivity", "specificity"):
            expected = _rates(target, score, row.threshold)[name]
            assert getattr(row, name) == pytest.approx(expected, abs=1e-12)


def test_rules_choose_what_they_promise():
    target = [0, 0, 0, 0, 0, 0, 1, 1]
    score = [0.1, 0.1, 0.1, 0.1, 0.35, 0.35, 0.35, 0.55]
    points = _by_name(target, score)
    # Accuracy: .36 to .55 all err once; the lowest wins. Youden: from .1 up to .35, J = 1 - 2/6.
    assert points["accuracy"].threshold == 0.36
    assert points["youden"].threshold == pytest.approx(0.225)
    # Sensitivity of .872 takes both positives, so at most .35; specificity of .907 all six others.
    assert points["sensitivity 0.872"].threshold == pytest.approx(0.225)
    assert points["specificity 0.907"].threshold == pytest.approx(0.45)
    assert points["sensitivity 0.872"].description == (
        "highest specificity at a sensitivity of at least 0.872"
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_other_threshold_is_better(seed):
    target, score = _examples(150, seed=seed)
    every = [_rates(target, score, t) for t in np.arange(-0.005, 1.01, 0.01)]
    points = _by_name(target, score)
    chosen = {name: _rates(target, score, p.threshold) for name, p in points.items()}
    assert chosen["accuracy"]["accuracy"] == max(
        _rates(target, score, t)["accuracy"] for t in operating_points.grid_values((0.3, 0.7, 0.01))
    )
    youden = max(r["sensitivity"] + r["specificity"] for r in every)
    assert chosen["youden"]["sensitivity"] + chosen["youden"]["specificity"] == youden
    for bound, held, goal in (
        (0.872, "sensitivity", "specificity"),
        (0.95, "sensitivity", "specificity"),
        (0.907, "specificity", "sensitivity"),
    ):
        mine = chosen[f"{held} {bound:g}"]
        assert mine[held] >= bound
        best = max(r[goal] for r in every if r[held] >= bound)
        assert mine[goal] == best
        # Of those that are as good, none has more of the rate that is held.
        assert mine[held] == max(r[held] for r in every if r[goal] == best)


@pytest.mark.parametrize("rule", ["accuracy", "youden", "min_sensitivity", "min_specificity"])
def test_the_rule_of_the_config_comes_first(rule):
    settings = dataclasses.replace(SETTINGS, threshold_rule=rule)
    points = operating_points.choose(*_examples(100), settings)
    assert points[0].rule == rule
    assert sorted(p.name for p in points) == sorted(_by_name(*_examples(100)))
    if rule == "min_sensitivity":
        assert points[0].bound == 0.872  # The first of two.


@pytest.mark.parametrize("score", [[0.4, 0.4], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
def test_constant_and_extreme_scores_have_every_operating_point(score):
    points = _by_name([0, 1], score)
    assert _rates([0, 1], score, points["sensitivity 0.872"].threshold)["sensitivity"] == 1
    assert _rates([0, 1], score, points["specificity 0.907"].threshold)["specificity"] == 1
    if score == [0.0, 1.0]:
        assert points["youden"].threshold == 0.5


def _rounded(score: float, units: int) -> float:
    """Return a float32 so many units in the last place away."""
    return float(np.float32(score) + units * np.spacing(np.float32(score)))


@pytest.mark.parametrize("score", [0.5, 0.3, 1e-3, 0.999])
def test_scores_in_rounding_noise_are_one_answer_for_every_rule(score):
    """The classes are parted perfectly, but by noise that another batch changes."""
    noise = [_rounded(score, units) for units in (-2, -1, 1, 2)]
    settings = dataclasses.replace(SETTINGS, threshold_grid=(score, score, 0.01))
    for point in operating_points.choose([0, 0, 1, 1], noise, settings):
        assert abs(point.threshold - score) > 1e-4 * score
        assert len({one >= point.threshold for one in noise}) == 1
    assert len(operating_points.candidates(noise)) == 2


def test_answers_in_noise_are_parted_from_each_other():
    low, high = [_rounded(0.3, units) for units in (0, 1, 2)], [_rounded(0.4, 0)]
    assert operating_points.candidates(low + high).tolist() == pytest.approx([0.15, 0.35, 0.7])
    points = _by_name([0, 0, 0, 1], low + high)
    assert points["youden"].threshold == pytest.approx(0.35)


def test_a_threshold_of_the_grid_that_hits_a_score_is_lowered_and_decides_the_same():
    score = [0.1, 0.3, 0.5, 0.6]
    found = operating_points.clear_of(score, [0.05, 0.1, 0.2, 0.3, 0.5, 0.55, 0.6, 0.9])
    assert found.tolist() == pytest.approx([0.05, 0.05, 0.2, 0.2, 0.4, 0.55, 0.55, 0.9])


def test_one_class_has_no_operating_point():
    with pytest.raises(ValueError, match=r"of class 0 and of class 1, got classes \[1\]"):
        operating_points.choose([1, 1], [0.1, 0.2], SETTINGS)
