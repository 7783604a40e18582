"""A bundle as ONNX files that read pictures without TensorFlow, compared with the bundle.

The files hold what `inference.scoring` and `explanation.gradcam` compute: the network in float32,
once for all views of test-time augmentation, and the Grad-CAM of the photograph as it is. The
conversion is tf2onnx's (https://github.com/onnx/tensorflow-onnx).
"""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx

import dr_tfx
from dr_tfx.config import typed
from dr_tfx.dataset import folds, manifest, records
from dr_tfx.evaluation import evaluate, known_alarms, model_card
from dr_tfx.explanation import gradcam
from dr_tfx.inference import exported, scoring, views
from dr_tfx.input_pipeline import loader
from dr_tfx.machine import progress
from dr_tfx.models import bundle_file, bundles, export_file
from dr_tfx.serving import onnx_gradients
from dr_tfx.storage import claims, files, locks

MOST = 1e-4
"""The largest difference between an output of the export and of the bundle."""
_MOST_OF_MAPS = 1e-3  # The same of a heat map, which goes from 0 to 1.
_OPSET = 17
_ROUNDS = 5  # Timed passes of each, of which the median counts.
_CANNOT = {"rotate_10", "rotate_350", "zoom_in", "zoom_out"}  # ONNX resamples otherwise.


class Compared(NamedTuple):
    """An export beside its bundle, on the pictures of a split.

    Attributes:
      split: its name.
      images: how many there were.
      outputs: the largest difference of an output.
      heatmaps: the largest difference of a heat map.
      times: seconds a batch of the export, divided by those of the bundle.
      bytes: the size of the export's files,
      of_bundle: divided by that of the bundle's weights.
    """

    split: str
    images: int
    outputs: float
    heatmaps: float
    times: float
    bytes: int
    of_bundle: float


def export(*, workdir: Path, data_dir: Path, output_dir: Path) -> Compared:
    """Write model.onnx, heatmap.onnx, the card of the run and, last, export.json.

    An export that differs from the bundle is refused.

    Args:
      workdir: folder of the bundle.
      data_dir: folder of its data set, whose pictures both are given.
      output_dir: receives the files.

    Raises:
      FileNotFoundError: there is no bundle or no data set.
      ValueError: nothing is fitted yet, the model gives maps, a view cannot be said in ONNX, or
        the export differs from the bundle.
      OSError: the folder cannot be written, or holds somebody else's files of these names.
    """
    bundle = bundles.load(workdir, precision="float32")
    fitted = evaluate.require_fitted(bundle, workdir, "an export")
    bundle.kind.scores.check_explained(where=workdir)  # An export has a heat map.
    _check_views(bundle)
    names = export_file.MODEL_FILE, export_file.HEATMAP_FILE
    with locks.held(output_dir):
        mark = export_file.EXPORT_FILE
        claims.check(output_dir, mark=mark, key="compared", results=names)
        (output_dir / mark).unlink(missing_ok=True)
        heatmaps = gradcam.HeatMaps(bundle.model, explained=bundle.kind.model.explained)
        networks = _model(bundle, heatmaps), _heatmap(bundle, heatmaps)
        alarms = [alarm for found in known_alarms.of_run(workdir).values() for alarm in found]
        of_run = output_dir, bundle.experiment, bundle.manifest, fitted, tuple(alarms)
        model = exported.ExportedModel(export_file.Exported(*of_run, *networks))
        size, weights = sum(map(len, networks)), (workdir / bundles.WEIGHTS_FILE).stat().st_size
        compared = Compared(*_compared(model, bundle, heatmaps, data_dir), size, size / weights)
        for name, data in zip(names, networks, strict=True):
            files.write(output_dir / name, data)
        content = export_file.ExportFile(
            experiment=typed.to_dict(bundle.experiment),
            manifest=bundle.manifest.to_dict(),
            fitted=fitted.to_dict(),
            alarms=tuple(alarms),
            compared=compared._asdict(),
            bundle=bundle_file.read(workdir).files[bundles.WEIGHTS_FILE],
            libraries={
                **bundle.libraries,
                "dr_tfx": dr_tfx.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime.__version__,
                "tf2onnx": tf2onnx.__version__,
            },
            files={n: bundle_file.digest(d) for n, d in zip(names, networks, strict=True)},
        )
        if card := model_card.of_run(workdir):
            files.write(output_dir / model_card.FILE, card.read_bytes())
        export_file.write(output_dir, content)
    return compared


def usual_folder(workdir: Path) -> Path:
    """Return the usual folder of a run's export."""
    return workdir / "export" / "onnx"


def _check_views(bundle: bundles.Bundle) -> None:
    """Refuse views that resample the photograph, for ONNX has no operation that does the same."""
    if found := sorted(_CANNOT & set(bundle.experiment.evaluation.views)):
        raise ValueError(
            f"{bundle.folder} averages over the views {', '.join(found)}, which ONNX cannot make "
            "as TensorFlow does. Train with views that only mirror, turn or brighten, such as "
            "--config.evaluation.views=identity,left_right"
        )


def _model(bundle: bundles.Bundle, heatmaps: gradcam.HeatMaps) -> bytes:
    """Return the network and its views as the bytes of an ONNX file."""
    names, size = bundle.experiment.evaluation.views, bundle.experiment.dataset.recipe.size

    def both(photographs: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels, count = tf.cast(photographs, tf.float32), tf.shape(photographs)[0]
        shown = [views.VIEWS[name].apply({records.IMAGE: pixels})[records.IMAGE] for name in names]
        # All views pass the network as one batch, so that the file holds the network once.
        features, found = heatmaps.features(tf.concat(shown, axis=0))
        by_view = tf.reshape(found, tf.concat([[len(names), count], tf.shape(found)[1:]], axis=0))
        places = [1, 0, *range(2, found.shape.rank + 1)]
        return {
            export_file.OUTPUTS: tf.transpose(by_view, places),
            export_file.FEATURES: features[:count],
        }

    spec = tf.TensorSpec((None, size, size, 3), tf.uint8, name=export_file.PHOTOGRAPHS)
    return _converted(both, spec)


def _heatmap(bundle: bundles.Bundle, heatmaps: gradcam.HeatMaps) -> bytes:
    """Return what makes a heat map of features as the bytes of an ONNX file.

    It is of one photograph: tf2onnx cannot say gradients whose shapes depend on the input.
    """
    shape = tuple(gradcam.last_features(bundle.model).output.shape)[1:]
    spec = tf.TensorSpec((1, *shape), tf.float32, name=export_file.FEATURES)
    return _converted(lambda features: {export_file.HEATMAP: heatmaps.of_features(features)}, spec)


def _converted(function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec) -> bytes:
    """Return a function of one input as the bytes of an ONNX file."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    traced = tf.function(function, input_signature=[spec])
    model, _ = tf2onnx.convert.from_function(
        traced, input_signature=[spec], opset=_OPSET, custom_op_handlers=onnx_gradients.HANDLERS
    )
    _fix_constants(model.graph, traced.get_concrete_function(), spec.name)
    found: bytes = model.SerializeToString()
    return found


def _fix_constants(graph: onnx.GraphProto, traced: Any, own: str) -> None:
    """Store constants of layers, such as those of Normalization, which tf2onnx takes for inputs."""
    values = {inside.name: outside for outside, inside in traced.graph.captures}
    used = {name for node in graph.node for name in node.input}
    for given in [one for one in graph.input if one.name != own]:
        graph.input.remove(given)
        if given.name in used:
            constant = values[given.name].numpy()
            graph.initializer.append(onnx.numpy_helper.from_array(constant, given.name))


def _compared(
    model: exported.ExportedModel,
    bundle: bundles.Bundle,
    heatmaps: gradcam.HeatMaps,
    data_dir: Path,
) -> tuple[str, int, float, float, float]:
    """Give both the pictures of a split; return the first five of `Compared`.

    It is validation, but for the models of all folds, which have seen every picture. What is looked
    at is whether two programs compute the same, which any picture tells.

    Raises:
      ValueError: they differ.
    """
    score = scoring.view_scorer(bundle)

    def of_bundle(rgb: np.ndarray) -> np.ndarray:
        outputs: np.ndarray = score(tf.convert_to_tensor(rgb)).numpy()
        return outputs

    split = "train" if bundle.manifest.fold == manifest.EVERY_FOLD else evaluate.SELECTION_SPLIT
    images, worst, worst_of_maps, ratio = 0, 0.0, 0.0, 0.0
    for rgb in _pictures(bundle, data_dir, split):
        wanted, given = of_bundle(rgb), model.outputs(rgb)
        maps = np.stack([one for _, one in model.explain(rgb)])
        worst = max(worst, float(np.abs(given - wanted).max()))
        worst_of_maps = max(worst_of_maps, float(np.abs(maps - heatmaps(rgb)[0]).max()))
        if not images:
            ratio = _time(model.outputs, rgb) / _time(of_bundle, rgb)
        images += len(rgb)
    if not (worst <= MOST and worst_of_maps <= _MOST_OF_MAPS):
        raise ValueError(
            f"the export differs from {bundle.folder}: by {worst:.2g} in an output and "
            f"{worst_of_maps:.2g} in a heat map of {images} pictures of '{split}'; expected at "
            f"most {MOST:g} and {_MOST_OF_MAPS:g}. Nothing was written"
        )
    return split, images, worst, worst_of_maps, ratio


def _pictures(bundle: bundles.Bundle, data_dir: Path, split: str) -> Iterator[np.ndarray]:
    """Yield the pictures of a split, uint8 RGB (n, size, size, 3)."""
    data = folds.load_trained_on(bundle.manifest, data_dir)
    batches = loader.evaluation_dataset(
        data_dir, data, split, batch_size=bundle.experiment.evaluation.batch_size, features={}
    )
    total = sum(shard.records for shard in data.shards_of(split))
    with (
        progress.bar(total=total, unit="image", title="compare") as bar,
        loader.damage_named(data_dir, data, split, {}),
    ):
        for batch in batches:
            rgb = batch[records.IMAGE].numpy()
            yield rgb
            bar.update(len(rgb))


def _time(work: Callable[[np.ndarray], np.ndarray], rgb: np.ndarray) -> float:
    """Return the median of the seconds that some work on pictures takes."""
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work(rgb)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
