"""Dozens of damaged evaluations; thousands are run by hand."""

from tests.fuzz import fuzz_evaluations


def test_damaged_and_hostile_evaluations_are_compared_or_refused(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    counts = fuzz_evaluations.main(1, 60)
    for kind in ("binary", "grades"):
        for outcome in ("metrics.json refused", "metrics.json compared", "predictions.csv refused"):
            assert counts[f"{kind} {outcome}"]
