"""Damage metrics.json and predictions.csv, as accidents and strangers do, and compare the runs.

    python tests/fuzz/fuzz_evaluations.py SEED CASES

Each is compared, or refused in one sentence that names the file. The command prints how many were
which, and fails at the first one that is neither.
"""

import json
import logging
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))
from dr_tfx import tasks
from dr_tfx.evaluation import compare
from tests.fuzz.fuzz_bundles import mutated
from tests.helpers import evaluated
from tests.helpers.damage import damage

_CELLS = ("", "nan", "inf", "-1", "2", "0.5", "1e999", "x", "=1", "\x1b[2J", "\u202ex", '"', "a,b")
_LABELS = ["none", "mild", "severe"]


def made(folder: Path, kind: str) -> list[Path]:
    """Return the folders of two intact runs of a kind of task."""
    if kind == "binary":
        return [evaluated.run(folder / str(n), evaluated.predictions(n)) for n in (0, 1)]
    experiment = tasks.from_config(
        {
            "dataset": {"label_names": _LABELS},
            "task": {"kind": kind, "name": "grading", "head": "softmax"},
            "evaluation": {"bootstrap_resamples": 100},
        }
    )
    table = evaluated.predictions(0)[["id", "patient", "stratum"]]
    table = table.assign(target=table["stratum"])
    runs = []
    for n in (0, 1):
        rng = np.random.default_rng(n)
        shares = rng.dirichlet([1, 1, 1], len(table)) + np.eye(3)[table["target"]]
        shares /= shares.sum(axis=1, keepdims=True)
        columns = tasks.of(experiment).scores.columns(shares[:, None])
        runs.append(evaluated.run(folder / str(n), table.assign(**columns), experiment=experiment))
    return runs


def changed_table(text: str, rng: np.random.Generator) -> str:
    """Return a table with another cell, or without a column or a row, or with one twice."""
    rows = [line.split(",") for line in text.splitlines()]
    row, column = int(rng.integers(0, len(rows))), int(rng.integers(0, len(rows[0])))
    what = rng.random()
    if what < 0.5:
        rows[row][column] = _CELLS[rng.integers(0, len(_CELLS))]
    elif what < 0.6:
        rows = [[*cells[:column], *cells[column + 1 :]] for cells in rows]
    elif what < 0.7:
        del rows[row]
    elif what < 0.8:
        rows.insert(row, rows[row])
    else:
        other = int(rng.integers(0, len(rows[0])))
        rows = [[*cells[:column], cells[other], *cells[column + 1 :]] for cells in rows]
    return "".join(",".join(cells) + "\n" for cells in rows)


def main(seed: int, cases: int) -> dict[str, int]:
    rng, counts = np.random.default_rng(seed), Counter()
    with tempfile.TemporaryDirectory() as temporary:
        kinds = {kind: made(Path(temporary) / kind, kind) for kind in ("binary", "grades")}
        for case in range(cases):
            kind = [*kinds][case // 2 % 2]
            runs, where = kinds[kind], kinds[kind][1] / "evaluation" / "test"
            path = where / ("metrics.json", "predictions.csv")[case % 2]
            intact = path.read_bytes()
            if rng.random() < 0.25:
                found = damage(intact, [intact, (where / "metrics.json").read_bytes()], rng)
            elif path.suffix == ".json":
                found = json.dumps(mutated(json.loads(intact), rng)).encode()
            else:
                found = changed_table(intact.decode(), rng).encode("utf-8", "surrogatepass")
            path.write_bytes(found)
            try:
                counts[f"{kind} {path.name} {outcome(runs, path)}"] += 1
            except BaseException:
                print(f"case {case} of {seed}: {found!r}"[:9000], file=sys.stderr)
                raise
            path.write_bytes(intact)
    print(json.dumps(counts, indent=1))
    return counts


def outcome(runs: list[Path], path: Path) -> str:
    """Compare two runs, the second of which is damaged, in either order, without the drawings."""
    try:
        told = compare.load_runs(runs, "test")
        compare.check_comparable(told, "test")
    except ValueError as error:
        text = str(error)
        names = str(path) in text or str(runs[1]) in text
        assert names and "\n" not in text and len(text) < 1600, text
        assert "\x1b" not in text and "\u202e" not in text, text
        return "refused"
    for order in (told, told[::-1]):
        result = compare.result_of(order, "test")
        json.dumps(result, allow_nan=False)
        assert pd.notna(result["counts"]["images"])
        compare.rendered(order, result, command=["drtfx-compare"], figures=())
    return "compared"


if __name__ == "__main__":
    logging.disable()  # Not in `main`, which a test calls beside tests of other logs.
    main(int(sys.argv[1]), int(sys.argv[2]))
