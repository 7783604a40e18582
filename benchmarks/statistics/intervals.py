"""Speed of the bootstrap over patients, against resampling one by one, as a table.

    python -m benchmarks.statistics.intervals              # two minutes
    python -m benchmarks.statistics.intervals --images=2000 --loops=20

Every row is a pair of figures of --images photographs, two a patient, over --resamples resamples of
their patients: AUC and average precision, or sensitivity and specificity at a threshold. `one by
one` gathers the images of each resample and gives them to scikit-learn, as one would by hand. It
does so --loops times, and the table scales its time to all resamples. Both run in turn, --rounds
times, and the median counts. The line below each row is the largest difference between the figures
of the same resamples.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics as sklearn_metrics

from dr_tfx.statistics.intervals import PatientBootstrap


def one_by_one(
    target: np.ndarray, score: np.ndarray, weights: np.ndarray, what: str
) -> list[list[float]]:
    """Compute the figures of every row of `weights` (resamples, images) by scikit-learn."""
    found = []
    for weight in weights:
        rows = np.repeat(np.arange(len(target)), weight)
        truth, drawn = target[rows], score[rows]
        if what == "ranking":
            found.append(
                [
                    sklearn_metrics.roc_auc_score(truth, drawn),
                    sklearn_metrics.average_precision_score(truth, drawn),
                ]
            )
        else:
            tn, fp, fn, tp = sklearn_metrics.confusion_matrix(truth, drawn >= 0.5).ravel()
            found.append([tp / (tp + fn), tn / (tn + fp)])
    return found


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=7026, help="By default as in EyePACS' validation."
    )
    parser.add_argument("--resamples", type=int, default=2000, help="Resamples in the table.")
    parser.add_argument(
        "--loops", type=int, default=50, help="Resamples that are taken one by one."
    )
    parser.add_argument("--rounds", type=int, default=3, help="Turns of each contender.")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    target = (rng.random(options.images) < 0.265).astype(int)
    score = 1 / (1 + np.exp(-rng.normal(size=options.images) - target))
    patient = np.arange(options.images) // 2
    few = PatientBootstrap(patient, resamples=options.loops)
    # The sums of one image of each patient tell how often the patient was drawn.
    times = few.sums(np.eye(options.images)[:, ::2]).T.astype(int)
    weights = np.repeat(times, 2, axis=1)[:, : options.images]
    ours: dict[str, Callable[[PatientBootstrap], np.ndarray]] = {
        "ranking": lambda b: b.ranking_samples(target, score),
        "rates": lambda b: np.stack(
            [b.rate_samples(target, score >= 0.5)[name] for name in ("sensitivity", "specificity")]
        ),
    }
    print(f"{'figure':10}{'ours, s':>10}{'one by one, s':>16}{'ratio':>8}")
    for what, figures in ours.items():
        mine, theirs = [], []
        for _ in range(options.rounds):
            mine.append(
                seconds(
                    lambda figures=figures: figures(
                        PatientBootstrap(patient, resamples=options.resamples)
                    )
                )
            )
            theirs.append(
                seconds(lambda what=what: one_by_one(target, score, weights, what))
                * options.resamples
                / options.loops
            )
        fast, slow = statistics.median(mine), statistics.median(theirs)
        print(f"{what:10}{fast:10.2f}{slow:16.2f}{slow / fast:7.0f}x")
        expected = np.array(one_by_one(target, score, weights, what)).T
        print(f"{'':10}largest difference {np.abs(figures(few) - expected).max():.1e}")


if __name__ == "__main__":
    main()
