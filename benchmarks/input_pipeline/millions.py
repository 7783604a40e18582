"""Ten million examples: the start of a training's input, its memory, and going on at a late step.

    python -m benchmarks.input_pipeline.millions                  # ten million, step 100,000
    python -m benchmarks.input_pipeline.millions --step=1000000 --workers=1

The examples are of 16 px, and most shards are hard links to one of each label, so that there are as
many files, records and rows of the index as in a real data set, and few bytes. Every row is one
worker of so many, which share batches of 64; figures are of processes of their own:

    start         CPU seconds from the manifest to the first batch of a new run
    MiB           the most memory of that process and its readers, above that of TensorFlow
    drawn         the same seconds of a run that goes on at --step, where no place in the order was
                  kept, so that all numbers before it are drawn
    kept          the same, where places were kept, as training does
"""

import argparse
import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import processes, synthetic_examples

BATCH = 64
AFTER = 3200  # Steps that are taken so that a place is kept.


def write(folder: str, count: int) -> None:
    """Write the examples."""
    synthetic_examples.write_shards(Path(folder) / "data", count, 16, linked=True)


def start(folder: str, first: int, workers: int, steps: int, kept: str) -> dict[str, float]:
    """Return the CPU seconds to the first batch, and the memory of TensorFlow in MiB.

    Args:
      folder: of the examples.
      first: the step to begin at.
      workers: how many share the batches; this is the first of them.
      steps: to be taken after that.
      kept: folder for places in the order, or "".
    """
    import keras

    from dr_tfx.dataset import manifest
    from dr_tfx.input_pipeline import loader

    keras.utils.set_random_seed(1)  # As `train` does.
    base = processes.of_tree(os.getpid()).total
    data, began = Path(folder) / "data", time.process_time()
    batches, _ = loader.train_batches(
        data,
        manifest.load(data),
        synthetic_examples.experiment(16, batch_size=BATCH),
        first_step=first,
        workers=workers,
        kept_in=Path(kept) if kept else None,
    )
    next(batches)
    seconds = time.process_time() - began
    for _ in itertools.islice(batches, steps):
        pass
    batches.close()
    return {"seconds": seconds, "base": base}


def table(count: int, step: int, workers: list[int], work_dir: str | None) -> pd.DataFrame:
    """Return the figures of one worker of so many, for each of these numbers."""
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(dir=work_dir) as folder:
        processes.run(__file__, "write", folder, count)
        for of in workers:
            kept = str(Path(folder) / f"order-{of}")

            def begin(first: int, steps: int, kept: str, of: int = of) -> tuple[Any, Any]:
                return processes.run(__file__, "start", folder, first, of, steps, kept)

            new, peak = begin(0, 100, "")
            drawn, _ = begin(max(0, step - AFTER), AFTER, kept)
            taken_up, _ = begin(step, 0, kept)
            rows[f"{of} workers"] = {
                "start": f"{new['seconds']:.1f}",
                "MiB": f"{peak.total - new['base']:.0f}",
                "drawn": f"{drawn['seconds']:.1f}",
                "kept": f"{taken_up['seconds']:.1f}",
            }
    return pd.DataFrame(rows).T


def main() -> None:
    """Print the table."""
    if processes.serve(write, start):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000_000, help="Number of examples.")
    parser.add_argument("--step", type=int, default=100_000, help="Where a run goes on.")
    parser.add_argument("--workers", default="1,8,64", help="Numbers of workers.")
    parser.add_argument("--work_dir", help="Folder in which the files are made and removed again.")
    given = parser.parse_args()
    print(f"{given.count:,} examples, batches of {BATCH}, step {given.step:,}")
    workers = [int(number) for number in given.workers.split(",")]
    print(table(given.count, given.step, workers, given.work_dir).to_string())


if __name__ == "__main__":
    main()
