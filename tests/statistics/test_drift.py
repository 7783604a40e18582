"""Drift against formulas written down here, and in drawn worlds in which it is known."""

import numpy as np
import pytest

from dr_tfx.statistics import drift

CHANNELS = 40
MIX = np.random.default_rng(0).normal(size=(6, CHANNELS))


def world(rng, patients, *, eyes=1, shift=0.0, colour=0.0):
    """Photographs of patients; those of one are alike."""
    hidden = np.repeat(rng.normal(size=(patients, 6)), eyes, axis=0)
    hidden += 0.5 * rng.normal(size=hidden.shape)
    hidden[:, 0] += shift
    red, blue = hidden[:, 3] + colour, hidden[:, 4]
    return {
        "scores": {"score": hidden[:, 0]},
        "pictures": {"red": red, "same": red, "blue": blue},
        "features": (hidden @ MIX).astype(np.float32),
        "patients": np.repeat(np.arange(patients), eyes),
    }


def of(known, photographs, verdicts=()):
    counted = drift.Counted(known)
    numbers = [*photographs["scores"].values(), *photographs["pictures"].values()]
    for row, seen in zip(np.stack(numbers, axis=1), photographs["features"], strict=True):
        counted.add(known.row(np.concatenate([row, known.along(seen)])))
    for verdict in verdicts:
        counted.add(None, verdict)
    return drift.judge(known, counted)


def reference(photographs, verdicts=None, judged=0):
    return drift.reference(**photographs, verdicts=verdicts or {}, judged=judged)


@pytest.fixture(scope="module")
def validation():
    return world(np.random.default_rng(1), 80)


def test_values_are_those_of_the_formulas(validation):
    known, here = reference(validation), world(np.random.default_rng(2), 50, shift=0.5)
    found = of(known, here)
    edges = np.quantile(validation["scores"]["score"], np.arange(1, 10) / 10)
    p, q = (
        np.histogram(told["scores"]["score"], [-np.inf, *edges, np.inf])[0] + 0.5
        for told in (here, validation)
    )
    p, q = p / p.sum(), q / q.sum()
    index = np.sum((p - q) * np.log(p / q))
    assert found.signals[drift.SCORES].value == pytest.approx(index)
    assert found.shares["score"][0] == pytest.approx(np.histogram(
        here["scores"]["score"], [-np.inf, *edges, np.inf])[0] / 50)  # fmt: skip
    # Of one photograph a patient it is the distance of Mahalanobis; `same` adds nothing to it.
    a, b = (np.stack([x["pictures"][n] for n in ("red", "blue")], 1) for x in (here, validation))
    off = a.mean(axis=0) - b.mean(axis=0)
    squared = off @ np.linalg.solve(np.cov(b.T, bias=True), off)
    assert found.signals[drift.PICTURES].value == pytest.approx(np.sqrt(squared), rel=1e-6)
    assert found.means["red"][:2] == pytest.approx((a[:, 0].mean(), b[:, 0].mean()))
    # Six things make the features, and eight directions of them would be looked at.
    assert known.directions.shape == (CHANNELS, 6)
    seen, before = (x["features"].astype(float) @ np.linalg.pinv(MIX) for x in (here, validation))
    off = seen.mean(axis=0) - before.mean(axis=0)
    squared = off @ np.linalg.solve(np.cov(before.T, bias=True), off)
    assert found.signals[drift.FEATURES].value == pytest.approx(np.sqrt(squared), rel=1e-3)


def test_what_is_drawn_as_validation_was_is_no_alarm_and_what_is_not_is(validation):
    """Also where patients have two eyes that are alike, and are twice as many as photographs."""
    rng, alarms = np.random.default_rng(3), []
    known = reference(world(rng, 60, eyes=2))
    for _ in range(40):
        alarms += of(known, world(rng, 30, eyes=2)).differing
    assert len(alarms) <= 2
    assert drift.PICTURES in of(known, world(rng, 30, eyes=2, colour=1.0)).differing
    ill = of(known, world(rng, 60, eyes=2, shift=1.2))
    assert {drift.SCORES, drift.FEATURES} == set(ill.differing)


def test_few_photographs_tell_nothing_and_verdicts_are_compared(validation):
    rng = np.random.default_rng(4)
    known = reference(validation, {"black": 2}, judged=400)
    few = of(known, world(rng, drift.FEWEST - 1), ["black"] * 20)
    assert not few.signals and few.photographs == drift.FEWEST - 1
    found = of(known, world(rng, 40), ["black"] * 3 + ["no_retina"] * 7)
    assert found.differing == [drift.QUALITY]
    together, before = found.verdicts[""]
    assert (together.value, before.value) == (10 / 50, 2 / 400)
    assert found.verdicts["no_retina"][1].value == 0
    assert drift.QUALITY not in of(reference(validation), world(rng, 40), ["black"]).signals
