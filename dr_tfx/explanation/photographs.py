"""Raw photographs to probabilities and heat maps, batch by batch, without a data set or Beam."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.explanation import explainer, figures
from dr_tfx.models import bundles
from dr_tfx.preprocessing import decoding, recipes

TABLE_FILE = "predictions.csv"


@dataclasses.dataclass(frozen=True)
class ReadPhotograph:
    """One row of the table: either what the model says, or the reason why it says nothing.

    A reading may come with a warning: the photograph is `ungradable`, and was scored because the
    model's recipe only counts such photographs.
    """

    photo: str
    reading: tasks.Reading | None = None
    figure: str = ""  # File name.
    rejected: str = ""  # Reason.
    ungradable: str = ""  # What the quality gate calls it.


def find(arguments: Sequence[str]) -> list[Path]:
    """The files that arguments name, each once: a folder stands for the photographs in it."""
    paths: list[Path] = []
    for argument in map(Path, arguments):
        if argument.is_dir():
            inside = (p for p in argument.iterdir() if p.suffix.lower() in decoding.EXTENSIONS)
            paths += sorted(inside) or [argument]
        else:
            paths.append(argument)
    return list(dict.fromkeys(paths))


def read_all(
    bundle: bundles.Bundle,
    paths: Sequence[Path],
    *,
    output_dir: Path,
    method: str = specs.METHODS[0],
    average_views: bool = False,
    colormap: str = specs.COLORMAPS[0],
) -> Iterator[ReadPhotograph]:
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
) -> Iterator[ReadPhotograph]:
    output_dir.mkdir(parents=True, exist_ok=True)
    recipe = explain.bundle.experiment.dataset.recipe
    names, remaining = _figure_names(paths), iter(paths)
    while batch := list(itertools.islice(remaining, explain.at_once)):
        prepared = [_prepare(path, recipe) for path in batch]
        usable = [picture.rgb for picture in prepared if not isinstance(picture, str)]
        results: Iterator[tuple[np.ndarray, tasks.Reading]] = iter(())
        if usable:
            maps, table = explain(np.stack(usable))
            results = zip(maps, explain.read(table), strict=True)
        for path, picture in zip(batch, prepared, strict=True):
            if isinstance(picture, str):
                yield ReadPhotograph(str(path), rejected=picture)
                continue
            heatmap, reading = next(results)
            found = ReadPhotograph(str(path), reading, names[path], ungradable=picture.ungradable)
            caption = reading.words + f"   ungradable: {found.ungradable}" * bool(found.ungradable)
            title = f"{path.name}   {explain.title}"
            explained = figures.Explained(picture.rgb, heatmap, caption)
            png = figures.draw([explained], title=title, colormap=colormap)
            (output_dir / found.figure).write_bytes(png)
            yield found


def write_table(
    found: Sequence[ReadPhotograph], answer_names: Sequence[str], output_dir: Path
) -> Path:
    """Write predictions.csv, one row a photograph, and return its path."""
    rows = []
    for one in found:
        answer = one.reading.answer if one.reading else dict.fromkeys(answer_names)
        rest = {name: getattr(one, name) for name in ("figure", "rejected", "ungradable")}
        rows.append({"photo": one.photo, **answer, **rest})
    manifest.write_text(output_dir / TABLE_FILE, pd.DataFrame(rows).to_csv(index=False))
    return output_dir / TABLE_FILE


def _prepare(path: Path, recipe: specs.Recipe) -> recipes.Picture | str:
    """The photograph as the model sees it, or why there is none."""
    if path.is_dir():
        return "no photographs in this folder"
    try:
        return recipes.apply_recipe(path.read_bytes(), recipe)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    except decoding.RejectedImage as error:
        return str(error)


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
