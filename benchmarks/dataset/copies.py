"""Error rates of the search for copies of a photograph, and its time, as two tables.

    python -m benchmarks.dataset.copies                                # drawn photographs, minutes
    python -m benchmarks.dataset.copies --image_dir=RAW --photographs=400
    python -m benchmarks.dataset.copies --fingerprints=35126,1000000

Every row of the first table is one way of changing a photograph: --photographs of --image_dir, or
drawn eyes, two a patient, are changed and compared with what they were. `missed` are those that are
not known again, `correlation` is the least of a copy with its original. The line below tells how
many of all pairs of different photographs were taken for copies, and the next correlations.

The second table is of made fingerprints, of which a hundredth are copies of others, with as much
noise as copies have: `groups` finds those within one data set, as a build does, `matches` finds
those of --given other photographs in it, as an external evaluation does. Seconds are of processor
time of all threads; `found` are the copies that were found, of all.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from dr_tfx.dataset import copies
from dr_tfx.preprocessing import fingerprint
from dr_tfx.synthetic import fundus

_SIDES = (fingerprint.SIDE, fingerprint.SIDE)


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    data = cv2.imencode(".jpeg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _cropped(image: np.ndarray, share: float) -> np.ndarray:
    """Return an image without a share of the dark border around its field."""
    lit = image.max(axis=2) > 25
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    height, width = lit.shape
    top, bottom = round(share * rows[0]), height - round(share * (height - 1 - rows[-1]))
    left, right = round(share * columns[0]), width - round(share * (width - 1 - columns[-1]))
    return image[top:bottom, left:right]


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half the side": lambda image: _resized(image, 0.5),
    "a third of the side": lambda image: _resized(image, 1 / 3),
    "JPEG, quality 50": lambda image: _compressed(image, 50),
    "JPEG, quality 20": lambda image: _compressed(image, 20),
    "half the side, JPEG, quality 50": lambda image: _compressed(_resized(image, 0.5), 50),
    "without half of the dark border": lambda image: _cropped(image, 0.5),
    "without the dark border": lambda image: _cropped(image, 1.0),
    "stretched to 256 x 256": lambda image: cv2.resize(image, (256, 256), cv2.INTER_AREA),
    "a tenth brighter": lambda image: cv2.convertScaleAbs(image, alpha=1.1),
    "a third darker": lambda image: cv2.convertScaleAbs(image, alpha=2 / 3),
}


def photographs(image_dir: Path | None, count: int) -> list[np.ndarray]:
    """Return photographs, uint8 BGR, no side of them much above 1,500 pixels."""
    if image_dir:
        paths = sorted(path for path in image_dir.rglob("*") if path.suffix.lower() in _SUFFIXES)
        read = (cv2.imread(str(path)) for path in paths[:count])
        return [image if max(image.shape) < 2000 else _resized(image, 0.5) for image in read]
    eyes = ((n // 2, fundus.EYES[n % 2]) for n in range(count))
    drawn = (fundus.photograph(seed=0, patient=p, eye=eye, level=p % 5) for p, eye in eyes)
    return [np.ascontiguousarray(one.image[..., ::-1]) for one in drawn]


_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif")


def prints(images: list[np.ndarray]) -> np.ndarray:
    """Return the fingerprints of images, uint8 (images, fingerprint.BYTES)."""
    marks = b"".join(fingerprint.of(np.ascontiguousarray(image)) for image in images)
    return np.frombuffer(marks, np.uint8).reshape(-1, fingerprint.BYTES)


def error_rates(images: list[np.ndarray]) -> list[str]:
    """Return the lines of the first table."""
    known = prints(images)
    lines = [f"{'change':34}  missed   of  correlation"]
    for name, change in CHANGES.items():
        same = copies.correlations(prints([change(image) for image in images]), known)
        missed = int((~(same >= copies.SAME)).sum())
        lines.append(f"{name:34}  {missed:6}  {len(same):3}  {np.nanmin(same):11.3f}")
    details = copies.details(known)
    others = np.sort((details @ details.T)[np.triu_indices(len(details), 1)])[::-1]
    taken = int((others >= copies.SAME).sum())
    largest = ", ".join(f"{one:.3f}" for one in others[taken : taken + 3])
    lines.append(f"{taken} of {len(others):,} pairs were taken for copies; the next: {largest}")
    return lines


def made(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return made fingerprints, and the pairs of places that are copies, int (pairs, 2)."""
    rng = np.random.default_rng(0)
    marks = np.empty((count, fingerprint.BYTES), np.uint8)
    for start in range(0, count, 4096):
        block = marks[start : start + 4096]
        coarse = rng.normal(0, 8, (len(block), 16, 16)).repeat(2, axis=1).repeat(2, axis=2)
        fine = rng.normal(0, 3, (len(block), *_SIDES))
        block[:] = np.clip(110 + coarse + fine, 0, 255).reshape(block.shape)
    pairs = rng.permutation(count)[: 2 * (count // 100)].reshape(-1, 2)
    noise = rng.normal(0, 1.5, (len(pairs), fingerprint.BYTES))
    marks[pairs[:, 1]] = np.clip(marks[pairs[:, 0]] + noise, 0, 255)
    return marks, pairs


def times(count: int, given: int) -> list[str]:
    """Return the lines of the second table for one number of fingerprints."""
    marks, pairs = made(count)
    started = time.process_time()
    groups = {tuple(group.tolist()) for group in copies.groups(marks)}
    taken = time.process_time() - started
    expected = {tuple(sorted(pair)) for pair in pairs.tolist()}
    lines = [
        f"{count:12,}  groups        {taken:8.1f}  {len(groups & expected):6} of {len(expected)}; "
        f"{len(groups - expected)} others"
    ]
    noise = np.random.default_rng(1).normal(0, 1.5, (min(given, count), fingerprint.BYTES))
    here = np.clip(marks[: len(noise)] + noise, 0, 255).astype(np.uint8)
    started = time.process_time()
    found = copies.matches(here, marks)
    taken = time.process_time() - started
    same = int((found[:, 0] == found[:, 1]).sum())
    lines.append(f"{count:12,}  {len(here):6} in it  {taken:8.1f}  {same:6} of {len(here)}")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image_dir", type=Path, help="Photographs. By default they are drawn.")
    parser.add_argument("--photographs", type=int, default=100, help="So many of them.")
    parser.add_argument(
        "--fingerprints", default="35126", help="Fingerprints in the data sets, with commas."
    )
    parser.add_argument("--given", type=int, default=1000, help="Photographs to be looked for.")
    flags = parser.parse_args()
    print("\n".join(error_rates(photographs(flags.image_dir, flags.photographs))))
    print(f"\n{'fingerprints':>12}  work           seconds  found")
    for count in flags.fingerprints.split(","):
        print("\n".join(times(int(count), flags.given)), flush=True)


if __name__ == "__main__":
    main()
