"""Data sets of synthetic fundus photographs, named and labelled like Kaggle's EyePACS.

`10_left.jpeg`, `10_right.jpeg`, ..., `labels.csv` with `image,level`, and a mask for every kind of
lesion on a photograph. `dr_tfx.synthetic.fundus` draws them.
"""

import json
import math
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from dr_tfx.config import seeds
from dr_tfx.storage import files, locks
from dr_tfx.synthetic import fundus

# Grades 0..4 in the training set of Kaggle's Diabetic Retinopathy Detection (2015).
EYEPACS_PROBABILITIES = (0.73, 0.07, 0.15, 0.03, 0.02)
FIRST_PATIENT = 10

_RECORD = "synthesis.json"


class _Drawing(NamedTuple):
    """One photograph that is to be drawn and written."""

    output_dir: Path
    seed: int
    patient: int
    eye: str
    level: int
    size: int


def patient_levels(
    *, seed: int, patient: int, grade_probabilities: Sequence[float] = EYEPACS_PROBABILITIES
) -> tuple[int, int]:
    """Draw the grades of a patient's left and right eye: mostly the same, else one apart.

    Each eye alone is distributed as `grade_probabilities` [5]: the right eye's grade is one
    Metropolis step from the left's, which leaves that distribution as it is.

    Raises:
      ValueError: `grade_probabilities` are not five numbers >= 0 with the sum 1.
    """
    odds = np.asarray(grade_probabilities, float)
    _check(
        odds.shape == (5,)
        and bool((odds >= 0).all())
        and math.isclose(odds.sum(), 1, abs_tol=1e-6),
        f"grade_probabilities are {list(grade_probabilities)}, expected five numbers >= 0, one for "
        "each grade from 0 to 4, with the sum 1",
    )
    rng = np.random.default_rng(seeds.stable_hash("levels", seed, patient))
    left = int(rng.choice(5, p=odds / odds.sum()))
    right = left + int(rng.choice([-1, 0, 1], p=[0.15, 0.7, 0.15]))
    # There is no grade below 0 and above 4, hence no odds: the step is not taken.
    if not 0 <= right <= 4 or rng.uniform() >= odds[right] / odds[left]:
        right = left
    return left, right


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _claim(output_dir: Path, made_with: dict[str, Any]) -> None:
    """Claim `output_dir`, or refuse it: no other photographs are overwritten or mixed in.

    Raises:
      ValueError: the folder holds something else, or a set made with other arguments.
    """
    record, text = output_dir / _RECORD, json.dumps(made_with, indent=2) + "\n"
    if record.exists():
        _check(
            record.read_text() == text,
            f"{output_dir} holds a set made with other arguments ({record} says which), expected "
            f"{json.dumps(made_with)}: choose another folder, or delete this one",
        )
    else:
        _check(
            all(path.name == locks.FILE for path in output_dir.iterdir()),
            f"{output_dir} is not empty and was not made by this program (it has no {_RECORD}): "
            "choose another folder",
        )
        _write(record, text.encode())


def _write(path: Path, data: bytes) -> None:
    """Write the whole file, or leave what was there."""
    temporary = path.with_name(f".{path.name}.tmp")
    with files.named(path):
        temporary.write_bytes(data)
    os.replace(temporary, path)


def _encode(extension: str, image: np.ndarray, *options: int) -> bytes:
    done, data = cv2.imencode(extension, image, options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode an image as {extension}")
    return data.tobytes()


def _write_photograph(drawing: _Drawing) -> None:
    output_dir, seed, patient, eye, level, size = drawing
    made = fundus.photograph(seed=seed, patient=patient, eye=eye, level=level, size=size)
    name = f"{patient}_{eye}"
    for kind in fundus.LESIONS:
        path = output_dir / "masks" / kind / f"{name}.png"
        if kind in made.masks:
            _write(path, _encode(".png", made.masks[kind].astype(np.uint8) * 255))
        else:
            path.unlink(missing_ok=True)  # An earlier version may have drawn one.
    quality = (cv2.IMWRITE_JPEG_QUALITY, made.jpeg_quality)
    _write(output_dir / f"{name}.jpeg", _encode(".jpeg", made.image[..., ::-1], *quality))


def _write_photographs(drawings: Sequence[_Drawing], processes: int) -> None:
    # Processes are spawned: a fork of one that has threads (OpenCV, TensorFlow) can hang.
    context = multiprocessing.get_context("spawn")
    with tqdm(total=len(drawings), unit="photograph", disable=None) as progress:
        if processes == 1:
            for drawing in drawings:
                _write_photograph(drawing)
                progress.update()
        else:
            with context.Pool(processes, cv2.setNumThreads, (1,)) as pool:
                for _ in pool.imap_unordered(_write_photograph, drawings, chunksize=8):
                    progress.update()


def synthesize(
    output_dir: Path,
    *,
    num_patients: int,
    seed: int = 0,
    size: int = 640,
    grade_probabilities: Sequence[float] = EYEPACS_PROBABILITIES,
    processes: int = 1,
) -> Path:
    """Write a data set of `num_patients` patients, two photographs each, like Kaggle's EyePACS.

    OUTPUT_DIR then holds `<patient>_<eye>.jpeg` (patients count from 10), `masks/<kind>/
    <patient>_<eye>.png` (0 or 255; no file where a photograph has no such lesion), `synthesis.json`
    (the arguments) and, written last, `labels.csv` (header `image,level`): no labels, no data set.
    A second run with the same arguments writes the same bytes again.

    Args:
      output_dir: an empty or new folder, or one that an equal run has begun.
      num_patients: at least 1.
      seed: names the data set.
      size: width of the photographs, pixels.
      grade_probabilities: probabilities of the grades 0 to 4.
      processes: the number of processes that draw. The files do not depend on it. With more than
        one, the calling script must be importable (`if __name__ == "__main__":`).

    Returns:
      `output_dir`.

    Raises:
      ValueError: an argument is out of range, or the folder holds something else.
      OSError: the folder cannot be written, or another process writes into it.
    """
    output_dir = Path(output_dir)
    _check(num_patients >= 1, f"num_patients is {num_patients}, expected at least 1")
    _check(processes >= 1, f"processes is {processes}, expected at least 1")
    _check(
        size >= fundus.MIN_SIZE,
        f"size is {size}, expected a width of at least {fundus.MIN_SIZE} pixels",
    )
    drawings = []
    for patient in range(FIRST_PATIENT, FIRST_PATIENT + num_patients):
        levels = patient_levels(seed=seed, patient=patient, grade_probabilities=grade_probabilities)
        for eye, level in zip(fundus.EYES, levels, strict=True):
            drawings.append(_Drawing(output_dir, seed, patient, eye, level, size))

    odds = [float(p) for p in grade_probabilities]
    made_with = {"num_patients": num_patients, "seed": seed, "size": size}
    with locks.held(output_dir):
        _claim(output_dir, {**made_with, "grade_probabilities": odds})
        labels = output_dir / "labels.csv"
        labels.unlink(missing_ok=True)
        for kind in fundus.LESIONS:
            (output_dir / "masks" / kind).mkdir(parents=True, exist_ok=True)
        _write_photographs(drawings, processes)
        rows = [f"{d.patient}_{d.eye},{d.level}\n" for d in drawings]
        _write(labels, "".join(["image,level\n", *rows]).encode())
    return output_dir
