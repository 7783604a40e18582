"""Head CT with faint bleeds and more noise, on which models of slices can differ.

    python -m benchmarks.training.faint_slices --output_dir=RAW --num_patients=60 --slices=20

What drtfx-synthesize --condition=hemorrhage draws is found by any model. Every bleed of these heads
is 5 to 22 Hounsfield units fainter, and the noise of a head up to 2.2 times as strong. Of 20 slices
each is 5 mm from the next, and of 8, as drtfx-synthesize draws them, 14 mm. RAW then holds the same
files and labels.csv as there.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from dr_tfx.config import seeds
from dr_tfx.synthetic import ct_series, data_set, head_ct

_FAINTER = (5, 22)  # Hounsfield units.
_NOISIER = (1, 2.2)  # Times the noise.
_draw_patient = head_ct.draw_patient


def draw_patient(*, seed: int, patient: int) -> head_ct.Head:
    """Draw the head of a patient as `head_ct` does, with fainter bleeds in more noise."""
    head = _draw_patient(seed=seed, patient=patient)
    rng = np.random.default_rng(seeds.stable_hash("faint", seed, patient))
    bleeds = tuple(
        dataclasses.replace(bleed, units=bleed.units - rng.uniform(*_FAINTER))
        for bleed in head.bleeds
    )
    return dataclasses.replace(head, bleeds=bleeds, noise=head.noise * rng.uniform(*_NOISIER))


def main() -> None:
    """Draw the data set that the flags describe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--num_patients", type=int, default=60)
    parser.add_argument("--slices", type=int, default=20, help="of a patient")
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args()
    ct_series.SLICES, head_ct.draw_patient = flags.slices, draw_patient
    data_set.synthesize(
        flags.output_dir, num_patients=flags.num_patients, condition="hemorrhage", seed=flags.seed
    )


if __name__ == "__main__":
    main()
