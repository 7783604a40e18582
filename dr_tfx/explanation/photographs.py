"""Raw photographs to probabilities and heat maps, batch by batch, without a data set or Beam."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.explanation import explainer, figures
from dr_tfx.models import models
from dr_tfx.preprocessing import images
from dr_tfx.statistics import calibration

TABLE_FILE = "predictions.csv"


@dataclasses.dataclass(frozen=True)
class Reading:
    """One row of the table: either a score and a decision, or the reason there is none.

    A score may come with a warning: the photograph is `ungradable`, and was scored because the
    model's recipe only counts such photographs.
    """

    photo: str
    probability: float | None = None  # The score, calibrated by the temperature of validation.
    score: float | None = None  # Of the positive class, as the model gives it, over the views.
    decision: str = ""  # Class name.
    threshold: float | None = None  # From this score on, the positive class.
    figure: str = ""  # File name.
    rejected: str = ""  # Reason.
    ungradable: str = ""  # "black", "blown_out" or "no_retina".


def find(arguments: Sequence[str]) -> list[Path]:
    """The files that arguments name, each once: a folder stands for the photographs in it."""
    paths: list[Path] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            inside = (p for p in argument.iterdir() if p.suffix.lower() in images.EXTENSIONS)
            paths += sorted(inside) or [argument]
        else:
            paths.append(argument)
    return list(dict.fromkeys(paths))


def read_all(
    bundle: models.Bundle,
    paths: Sequence[Path],
    *,
    output_dir: Path,
    method: str = specs.METHODS[0],
    average_views: bool = False,
    colormap: str = specs.COLORMAPS[0],
) -> Iterator[Reading]:
    """Scores photographs and writes one figure for each; gives their rows in order.

    No more than one batch of photographs is held at a time.

    Args:
      bundle: the model.
      paths: files. Those that are missing or give no example are rejected, the others scored.
      output_dir: where the figures go, `<stem>.png`; created if need be.
      method: of the heat maps, a name in `specs.METHODS`.
      average_views: whether they are means over the views of test-time augmentation.
      colormap: of the figures, a name in `specs.COLORMAPS`.

    Raises:
      ValueError: at once: what was done to the training pictures is not known.
    """
    if bundle.manifest.prepared == manifest.ELSEWHERE:
        raise ValueError(
            "the model was trained on pictures that were prepared outside of dr_tfx (an .npy "
            "array): what was done to them is not known and cannot be done to a photograph, so "
            "that a probability would mean nothing. To read photographs, build the data set from "
            "the photographs themselves (drtfx-build-examples --image_dir) and train on it"
        )
    explain = explainer.Explainer(bundle, method, average_views=average_views)
    return _read_all(explain, paths, output_dir, colormap)


def _read_all(
    explain: explainer.Explainer, paths: Sequence[Path], output_dir: Path, colormap: str
) -> Iterator[Reading]:
    output_dir.mkdir(parents=True, exist_ok=True)
    experiment = explain.bundle.experiment
    names, remaining = _figure_names(paths), iter(paths)
    while batch := list(itertools.islice(remaining, explain.at_once)):
        prepared = [_prepare(path, experiment.dataset.recipe) for path in batch]
        usable = [picture.rgb for picture in prepared if not isinstance(picture, str)]
        results: Iterator[tuple[np.ndarray, np.ndarray]] = iter(())
        if usable:
            results = zip(*explain(np.stack(usable)), strict=True)
        for path, picture in zip(batch, prepared, strict=True):
            if isinstance(picture, str):
                yield Reading(str(path), rejected=picture)
                continue
            heatmap, score = next(results)
            reading = Reading(
                photo=str(path),
                probability=_calibrated(explain.bundle, float(score)),
                score=float(score),
                decision=explain.decide(float(score)),
                threshold=explain.threshold,
                figure=names[path],
                ungradable=picture.ungradable,
            )
            explained = figures.Explained(picture.rgb, heatmap, _caption(reading))
            title = f"{path.name}   {explain.title}"
            png = figures.draw([explained], title=title, colormap=colormap)
            (output_dir / reading.figure).write_bytes(png)
            yield reading


def write_table(readings: Sequence[Reading], output_dir: Path) -> Path:
    """Writes predictions.csv, one row a photograph, and returns its path."""
    table = pd.DataFrame([dataclasses.asdict(reading) for reading in readings])
    manifest.write_text(output_dir / TABLE_FILE, table.to_csv(index=False))
    return output_dir / TABLE_FILE


def _prepare(path: Path, recipe: specs.Recipe) -> images.Picture | str:
    """The photograph as the model sees it, or why there is none."""
    if path.is_dir():
        return "no photographs in this folder"
    try:
        return images.apply_recipe(path.read_bytes(), recipe)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except images.RejectedImage as error:
        return str(error)


def _calibrated(bundle: models.Bundle, score: float) -> float | None:
    """The probability that a score stands for; None where nothing is fitted yet."""
    if bundle.fitted is None:
        return None
    return float(calibration.apply_temperature(score, bundle.fitted.temperature))


def _caption(reading: Reading) -> str:
    said = [f"{reading.decision}", f"score {reading.score:.3f}, threshold {reading.threshold:.3f}"]
    if reading.probability is not None:
        said.insert(1, f"calibrated probability {reading.probability:.3f}")
    if reading.ungradable:
        said.append(f"ungradable: {reading.ungradable}")
    return "   ".join(said)


def _figure_names(paths: Sequence[Path]) -> dict[Path, str]:
    """`<stem>.png`, with -2, -3 ... where files of several folders or kinds share a stem."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in paths:
        candidates = (f"{path.stem}{end}.png" for end in _endings())
        names[path] = next(name for name in candidates if name not in taken)
        taken.add(names[path])
    return names


def _endings() -> Iterator[str]:
    yield ""
    yield from (f"-{n}" for n in itertools.count(2))
