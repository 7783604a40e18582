"""Drift: how often photographs are told to be others that are not, and that are.

    python -m benchmarks.evaluation.drift --workdir=RUN --image_dir=PHOTOGRAPHS
    python -m benchmarks.evaluation.drift --workdir=RUN --image_dir=PHOTOGRAPHS --photographs=30,60

RUN was evaluated on `validation` and `test`, whose photographs lie in PHOTOGRAPHS under their ids.
All of them are read as they are, and changed as by another camera. Then, --rounds times, they are
parted by chance: as many as validation has become the reference, and of the others some are
compared with it. `the same` are left as they are; so are `suspected` and `80 % clear`, but drawn,
with repetition, by their labels, as of another population. Every share is of the rounds, by the
comparison that was beyond its limit; at most 1 % of `the same` are to be.
"""

import argparse
import collections
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from dr_tfx.inference import drift as watching
from dr_tfx.machine import tensorflow_start
from dr_tfx.statistics import drift

SPLITS = ("validation", "test")


def warmer(bgr: np.ndarray, share: float) -> np.ndarray:
    """Return a photograph with more red and less blue, by a share."""
    return (bgr * np.array([1 - share, 1, 1 + share])).clip(0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the same": lambda bgr: bgr,
    "6 % warmer": lambda bgr: warmer(bgr, 0.06),
    "12 % warmer": lambda bgr: warmer(bgr, 0.12),
    "blurred by 2 pixels": lambda bgr: cv2.GaussianBlur(bgr, (0, 0), 2),
    "blurred by 4 pixels": lambda bgr: cv2.GaussianBlur(bgr, (0, 0), 4),
}


def read(workdir: Path, paths: list[Path]) -> dict[str, dict[str, np.ndarray]]:
    """Return scores, numbers of pictures and features of photographs, by how they were changed."""
    tensorflow_start.load()
    from dr_tfx.inference import photographs, scoring
    from dr_tfx.models import bundles

    bundle = bundles.load(workdir)
    reader = photographs.PhotographReader(scoring.BundleReader(bundle))
    names, found = bundle.kind.scores.watched, {}
    for change, function in CHANGES.items():
        changed = (cv2.imencode(".png", function(cv2.imread(str(path))))[1] for path in paths)
        ones = list(reader(data.tobytes() for data in changed))
        found[change] = {
            "scores": watching.scores_of([one.reading for one in ones], names),
            "pictures": np.stack([watching.numbers_of(one.picture.rgb) for one in ones]),
            "features": np.stack([one.reading.features for one in ones]),
        }
    return found


def reference(read: dict[str, np.ndarray], numbers: np.ndarray) -> drift.Reference:
    """Return what some photographs look like, each of a patient."""
    scores = {str(i): column for i, column in enumerate(read["scores"][numbers].T)}
    pictures = dict(zip(watching.PICTURES, read["pictures"][numbers].T, strict=True))
    patients = np.arange(len(numbers))
    return drift.reference(
        scores, pictures, read["features"][numbers], patients, verdicts={}, judged=0
    )


def judged(known: drift.Reference, read: dict[str, np.ndarray], numbers: np.ndarray) -> list[str]:
    """Return the comparisons by which some photographs are others."""
    counted = drift.Counted(known)
    for i in numbers:
        along = known.along(read["features"][i])
        counted.add(known.row(np.concatenate([read["scores"][i], read["pictures"][i], along])))
    return drift.judge(known, counted).differing


def main() -> None:
    """Print a table for each number of photographs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--image_dir", type=Path, required=True)
    parser.add_argument("--photographs", default="30,60")
    parser.add_argument("--suspected_from", type=int, default=2, help="The least such target.")
    parser.add_argument("--rounds", type=int, default=200)
    given = parser.parse_args()
    tables = [
        pd.read_csv(given.workdir / "evaluation" / split / "predictions.csv") for split in SPLITS
    ]
    table, size = pd.concat(tables, ignore_index=True), len(tables[0])
    paths = [next(given.image_dir.glob(f"{name}.*")) for name in table["id"]]
    found = read(given.workdir, paths)
    suspected = table["target"].to_numpy() >= given.suspected_from
    for photographs in map(int, given.photographs.split(",")):
        rng, counts = np.random.default_rng(7), collections.defaultdict(collections.Counter)
        for _ in range(given.rounds):
            order = rng.permutation(len(table))
            known, rest = reference(found["the same"], order[:size]), order[size:]
            drawn = {change: (change, rest[:photographs]) for change in CHANGES}
            ill, well = rest[suspected[rest]], rest[~suspected[rest]]
            many, few = round(0.8 * photographs), photographs - round(0.8 * photographs)
            drawn["suspected"] = ("the same", rng.choice(ill, photographs))
            drawn["80 % clear"] = (
                "the same",
                np.concatenate([rng.choice(well, many), rng.choice(ill, few)]),
            )
            for name, (change, numbers) in drawn.items():
                differing = judged(known, found[change], numbers)
                counts[name].update([*differing, *(["any"] if differing else [])])
        columns = ("any", drift.PICTURES, drift.FEATURES, drift.SCORES)
        print(f"\n{photographs} photographs, {size} of the reference, {given.rounds} rounds")
        print(f"{'':24}" + "".join(f"{name:>12}" for name in columns))
        for name in [*CHANGES, "suspected", "80 % clear"]:
            shares = (f"{100 * counts[name][of] / given.rounds:10.1f} %" for of in columns)
            print(f"{name:24}" + "".join(shares))


if __name__ == "__main__":
    main()
