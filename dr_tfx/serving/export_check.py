"""An export beside its bundle, on the pictures of a split: how far it is from it, and how fast."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dr_tfx.dataset import folds, manifest
from dr_tfx.evaluation import evaluate
from dr_tfx.explanation import gradcam
from dr_tfx.inference import exported, scoring
from dr_tfx.models import bundles

MOST = 1e-4
"""The largest difference between an output of an export in float32 and of the bundle."""
_MOST_OF_MAPS = 1e-3  # The same of a heat map, which goes from 0 to 1.
_MOST_AUC, _MOST_CHANGED = 0.005, 0.01  # By which one that is quantised may be worse.
_ROUNDS = 5  # Timed passes of each, of which the median counts.


class Compared(NamedTuple):
    """An export beside its bundle, on the pictures of a split.

    Attributes:
      split: its name.
      images: how many there were.
      outputs: the largest difference of an output.
      heatmaps: the largest difference of a heat map; None of a model that gives maps.
      auc: by how much the AUC falls, or the AUPR of a lesion; of several the most, and None where
        none is defined.
      changed: the share of the images that are decided otherwise, or of the pixels that either of
        the two marks and the other does not.
      times: seconds a batch of the export, divided by those of the bundle.
      bytes: the size of the export's files,
      of_bundle: divided by that of the bundle's weights.
    """

    split: str
    images: int
    outputs: float
    heatmaps: float | None
    auc: float | None
    changed: float
    times: float
    bytes: int = 0
    of_bundle: float = 0.0

    @property
    def words(self) -> tuple[str, str]:
        """What people call `auc`, and that of which `changed` is a share."""
        return ("AUPR", "marked pixels") if self.heatmaps is None else ("AUC", "decisions")


def compare(
    model: exported.ExportedModel | exported.ExportedMarker,
    bundle: bundles.Bundle,
    heatmaps: gradcam.HeatMaps | None,
    *,
    data_dir: Path,
    quantize: str,
) -> Compared:
    """Give both the pictures of a split, and refuse an export that is another model.

    The split is validation, but for the models of all folds, which have seen every picture. What is
    looked at is whether two programs compute the same, which any picture tells.

    Args:
      model: the export.
      bundle: what it was made of.
      heatmaps: those of the bundle; None of a model that gives maps.
      data_dir: folder of the data set.
      quantize: how the numbers of the export are stored, "" for float32.

    Returns:
      All that is known without the files.

    Raises:
      ValueError: they differ by too much.
    """
    split = "train" if bundle.manifest.fold == manifest.EVERY_FOLD else evaluate.SELECTION_SPLIT
    both = _Both(model, bundle, heatmaps)
    data = folds.load_trained_on(bundle.manifest, data_dir)
    scorers = both.of_bundle, both.of_export
    tables = scoring.side_by_side(bundle, scorers, data_dir, data=data, split=split)
    judgement = bundle.kind.judgement
    before, after = (judgement.areas_under_curves(judgement.checked(one)) for one in tables)
    found = Compared(
        split,
        len(tables[0]),
        both.outputs,
        both.maps if heatmaps else None,
        max((area - after[name] for name, area in before.items()), default=None),
        both.changed / max(1, both.decisions),
        both.times,
    )
    if quantize:
        _check_quantized(found, quantize, bundle.folder)
    elif not (found.outputs <= MOST and both.maps <= _MOST_OF_MAPS):
        raise ValueError(
            f"the export differs from {bundle.folder}: by {found.outputs:.2g} in an output and "
            f"{both.maps:.2g} in a heat map of {found.images} pictures of '{split}'; expected "
            f"at most {MOST:g} and {_MOST_OF_MAPS:g}. Nothing was written"
        )
    return found


class _Both:
    """The scorers of a bundle and of its export, of which the second is given what the first was.

    Attributes:
      outputs: the largest difference of an output so far.
      maps: the largest difference of a heat map so far.
      changed: the decisions so far that differ,
      decisions: of how many.
      times: seconds of the export for the first batch, divided by those of the bundle.
    """

    def __init__(
        self,
        model: exported.ExportedModel | exported.ExportedMarker,
        bundle: bundles.Bundle,
        heatmaps: gradcam.HeatMaps | None,
    ):
        self._model, self._bundle, self._heatmaps = model, bundle, heatmaps
        self._score = scoring.view_scorer(bundle)
        self._wanted = np.empty(0)
        self.outputs = self.maps = self.times = 0.0
        self.changed = self.decisions = 0

    def of_bundle(self, images: tf.Tensor) -> tf.Tensor:
        """Return the outputs of the bundle."""
        outputs = self._score(images)
        self._wanted = outputs.numpy()
        return outputs

    def of_export(self, images: tf.Tensor) -> tf.Tensor:
        """Return the outputs of the export, of the images that the bundle was given last."""
        wanted, rgb = self._wanted, images.numpy()
        if self._heatmaps and isinstance(self._model, exported.ExportedModel):
            outputs, maps = self._model.outputs_and_maps(rgb)
            self.maps = max(self.maps, float(np.abs(maps - self._heatmaps(rgb)[0]).max()))
        else:
            outputs = self._model.outputs(rgb)
        if not self.times:  # Both have compiled by now.
            of_bundle = _time(lambda: self._score(images).numpy())
            self.times = _time(lambda: self._model.outputs(rgb)) / of_bundle
        self.outputs = max(self.outputs, float(np.abs(outputs - wanted).max()))
        changed, decisions = self._bundle.kind.scores.changed(wanted, outputs, self._bundle.fitted)
        self.changed, self.decisions = self.changed + changed, self.decisions + decisions
        return tf.convert_to_tensor(outputs)


def _check_quantized(found: Compared, quantize: str, folder: Path) -> None:
    """Refuse a quantised export that is worse, or decides otherwise."""
    if (found.auc or 0.0) <= _MOST_AUC and found.changed <= _MOST_CHANGED:
        return
    area, what = found.words
    fallen = "" if found.auc is None else f"its {area} falls by {found.auc:.4f}, and "
    smaller = " or --quantize=float16" if quantize != "float16" else ""
    raise ValueError(
        f"the export in {quantize} is another model than {folder}: {fallen}"
        f"{100 * found.changed:.2f} % of the {what} change on {found.images} pictures of "
        f"'{found.split}'; expected at most {_MOST_AUC:g} and {100 * _MOST_CHANGED:g} %. Nothing "
        f"was written. Export without --quantize{smaller}"
    )


def _time(work: Callable[[], np.ndarray]) -> float:
    """Return the median of the seconds that some work takes."""
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
