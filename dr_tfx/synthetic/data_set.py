"""Data sets of synthetic fundus photographs, and of synthetic head CT.

Photographs are named like those of Kaggle's EyePACS, `10_left.jpeg`, `10_right.jpeg`, ...;
`dr_tfx.synthetic.fundus` draws them. Head CT is a folder of DICOM files a patient; see `ct_series`.
"""

import json
import math
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from dr_tfx.config import seeds
from dr_tfx.machine import interrupts, progress
from dr_tfx.storage import locks
from dr_tfx.synthetic import ct_series, fundus, head_ct, writing

# Grades 0..4 in the training set of Kaggle's Diabetic Retinopathy Detection (2015).
EYEPACS_PROBABILITIES = (0.73, 0.07, 0.15, 0.03, 0.02)
FIRST_PATIENT = 10
CONDITIONS = ("retinopathy", "glaucoma", "hemorrhage")
DISC_MASKS = ("OD", "OC")  # Optic disc and optic cup.
PREVALENCE = 0.3  # Of glaucoma, per patient; in G1020, 29 % of the photographs.
# Mean, standard deviation and limits of the cup-to-disc ratio of healthy eyes and of others. The
# ranges overlap, as they do among people.
_CUP_TO_DISC = ((0.42, 0.10, 0.15, 0.65), (0.74, 0.08, 0.55, 0.92))

_RECORD = "synthesis.json"


class _Writable(Protocol):
    """Something that is to be drawn, and writes itself. Other processes can unpickle it."""

    def write(self) -> None: ...


class _Photograph(NamedTuple):
    """One photograph that is to be drawn and written."""

    output_dir: Path
    seed: int
    patient: int
    eye: str
    level: int
    size: int
    cup_to_disc: float | None = None  # None: that of a healthy eye.

    def write(self) -> None:
        made = fundus.photograph(
            seed=self.seed,
            patient=self.patient,
            eye=self.eye,
            level=self.level,
            size=self.size,
            cup_to_disc=self.cup_to_disc,
        )
        name, masks = f"{self.patient}_{self.eye}", made.masks
        if self.cup_to_disc is not None:
            masks = dict(zip(DISC_MASKS, (made.disc, made.cup), strict=True))
        writing.write_masks(self.output_dir, name, masks)
        quality = (cv2.IMWRITE_JPEG_QUALITY, made.jpeg_quality)
        jpeg = writing.encode(".jpeg", made.image[..., ::-1], *quality)
        writing.write(self.output_dir / f"{name}.jpeg", jpeg)


def cups(*, seed: int, patient: int) -> tuple[bool, tuple[float, float]]:
    """Draw whether a patient has glaucoma, in both eyes, and the cup-to-disc ratio of each eye."""
    rng = np.random.default_rng(seeds.stable_hash("glaucoma", seed, patient))
    is_ill = bool(rng.uniform() < PREVALENCE)
    mean, deviation, least, most = _CUP_TO_DISC[is_ill]
    of_patient = rng.normal(mean, deviation)
    left, right = np.clip(of_patient + rng.normal(0, 0.03, 2), least, most)
    return is_ill, (round(float(left), 3), round(float(right), 3))


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
        writing.write(record, text.encode())


def _write_one(drawing: _Writable) -> None:
    drawing.write()


def _write_all(drawings: Sequence[_Writable], processes: int) -> None:
    # Processes are spawned: a fork of one that has threads (OpenCV, TensorFlow) can hang.
    context = multiprocessing.get_context("spawn")
    with progress.bar(total=len(drawings), unit="image", title="drawing") as bar:
        if processes == 1:
            for drawing in drawings:
                drawing.write()
                bar.update()
        else:
            with interrupts.left_to_parent():
                started = context.Pool(processes, cv2.setNumThreads, (1,))
            with started as pool:
                for _ in pool.imap_unordered(_write_one, drawings, chunksize=8):
                    bar.update()


def synthesize(
    output_dir: Path,
    *,
    num_patients: int,
    condition: str = "retinopathy",
    seed: int = 0,
    size: int | None = None,
    grade_probabilities: Sequence[float] = EYEPACS_PROBABILITIES,
    processes: int = 1,
) -> Path:
    """Write a data set of `num_patients` patients, two photographs or one series of slices each.

    OUTPUT_DIR then holds `<patient>_<eye>.jpeg` (patients count from 10), `masks/<kind>/
    <patient>_<eye>.png` (0 or 255; no file where a photograph has nothing of the kind),
    `synthesis.json` (the arguments) and, written last, `labels.csv`: no labels, no data set.
    A second run with the same arguments writes the same bytes again.

    With the condition `retinopathy`, the header is `image,level` and the masks are those of
    lesions. With `glaucoma`, it is `image,glaucoma,cup_to_disc`, the masks are those of the optic
    disc (`OD`) and its cup (`OC`), and the size of the cup alone tells the label. With
    `hemorrhage`, it holds head CT as DICOM files, a folder a patient, as `ct_series` has them.

    Args:
      output_dir: an empty or new folder, or one that an equal run has begun.
      num_patients: at least 1.
      condition: one of `CONDITIONS`.
      seed: names the data set.
      size: width of the photographs or slices, pixels; None: 640, or 192 for slices.
      grade_probabilities: probabilities of the grades 0 to 4 of retinopathy.
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
    _check(condition in CONDITIONS, f"condition is {condition!r}, expected one of {CONDITIONS}")
    is_ct = condition == "hemorrhage"
    size = size or (192 if is_ct else 640)
    least = head_ct.MIN_SIZE if is_ct else fundus.MIN_SIZE
    _check(size >= least, f"size is {size}, expected a width of at least {least} pixels")
    patients = range(FIRST_PATIENT, FIRST_PATIENT + num_patients)
    made_with: dict[str, Any] = {"num_patients": num_patients, "seed": seed, "size": size}
    drawings: Sequence[_Writable]
    if condition != "retinopathy":
        made_with["condition"] = condition
    if is_ct:
        drawings, lines, kinds = ct_series.plan(output_dir, seed, patients, size)
    elif condition == "glaucoma":
        drawings, lines, kinds = _glaucoma(output_dir, seed, patients, size)
    else:
        made_with["grade_probabilities"] = [float(p) for p in grade_probabilities]
        drawings, lines, kinds = _retinopathy(output_dir, seed, patients, size, grade_probabilities)
    with locks.held(output_dir):
        _claim(output_dir, made_with)
        labels = output_dir / "labels.csv"
        labels.unlink(missing_ok=True)
        for kind in kinds:
            (output_dir / "masks" / kind).mkdir(parents=True, exist_ok=True)
        _write_all(drawings, processes)
        writing.write(labels, "".join(f"{line}\n" for line in lines).encode())
    return output_dir


def _retinopathy(
    output_dir: Path, seed: int, patients: range, size: int, odds: Sequence[float]
) -> tuple[list[_Photograph], list[str], tuple[str, ...]]:
    """Return what is to be drawn, the lines of labels.csv and the kinds of masks."""
    drawings, lines = [], ["image,level"]
    for patient in patients:
        levels = patient_levels(seed=seed, patient=patient, grade_probabilities=odds)
        for eye, level in zip(fundus.EYES, levels, strict=True):
            drawings.append(_Photograph(output_dir, seed, patient, eye, level, size))
            lines.append(f"{patient}_{eye},{level}")
    return drawings, lines, fundus.LESIONS


def _glaucoma(
    output_dir: Path, seed: int, patients: range, size: int
) -> tuple[list[_Photograph], list[str], tuple[str, ...]]:
    """Return the same for glaucoma."""
    drawings, lines = [], ["image,glaucoma,cup_to_disc"]
    for patient in patients:
        is_ill, ratios = cups(seed=seed, patient=patient)
        for eye, ratio in zip(fundus.EYES, ratios, strict=True):
            drawings.append(_Photograph(output_dir, seed, patient, eye, 0, size, ratio))
            lines.append(f"{patient}_{eye},{int(is_ill)},{ratio}")
    return drawings, lines, DISC_MASKS
