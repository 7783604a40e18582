"""Drawn photographs with masks of lesions, and their data set."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from beam_jobs.build_examples import job, source_labels
from dr_tfx.dataset import manifest
from tests.helpers.builds import SPEC
from tests.helpers.drawn import draw, encode

PLAIN = dataclasses.replace(SPEC.recipe, name="plain", quality_gate="off")
MASKED = dataclasses.replace(
    SPEC, masks=("MA", "EX"), recipe=PLAIN, label_names=("without", "with")
)


def lesion(seed: int) -> np.ndarray:
    """A mask of a photograph of `draw`, 0 and 1."""
    mask = np.zeros((120, 160), np.uint8)
    rng = np.random.default_rng(seed)
    cv2.circle(mask, (int(rng.integers(60, 100)), 60), int(rng.integers(2, 9)), 1, -1)
    return mask


def draw_masked(folder: Path) -> Path:
    """Twelve photographs, of which the first six have exudates, and every third a MA."""
    for kind in ("MA", "EX"):
        (folder / "masks" / kind).mkdir(parents=True)
    for i in range(12):
        (folder / f"eye{i}.png").write_bytes(encode(draw(i), ".png"))
        if i < 6:
            (folder / "masks" / "EX" / f"eye{i}_EX.tif").write_bytes(encode(lesion(i), ".tif"))
        if i % 3 == 0:
            data = encode(lesion(100 + i) * 255, ".png")
            (folder / "masks" / "MA" / f"eye{i}.png").write_bytes(data)
    return folder


def build(
    folder: Path, spec=MASKED, labels: str = source_labels.MASKS, **kwargs
) -> manifest.Manifest:
    """Build the data set `data` beside the folder."""
    return job.build(
        spec,
        image_dir=str(folder),
        labels=labels,
        output_dir=str(folder.parent / "data"),
        **{"masks_dir": str(folder / "masks"), **kwargs},
    )
