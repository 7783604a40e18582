"""A bundle as files that read pictures without it, compared with it before they are written.

The files hold what `inference.scoring` and `explanation.gradcam` compute: the network, once for all
views of test-time augmentation, and the Grad-CAM of the photograph as it is, or the mean map of all
views. `formats` says them in the words of each runtime.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from dr_tfx.config import typed
from dr_tfx.dataset import folds, manifest, records
from dr_tfx.evaluation import evaluate, known_alarms, model_card
from dr_tfx.explanation import gradcam
from dr_tfx.inference import exported, scoring, views
from dr_tfx.input_pipeline import loader, shard_reader, tf_dataset
from dr_tfx.models import bundle_file, bundles, drift_file, export_file, last_features
from dr_tfx.serving import export_check, formats
from dr_tfx.serving.formats import TracedNetwork
from dr_tfx.storage import claims, files, locks

_RESAMPLED = {"rotate_10", "rotate_350", "zoom_in", "zoom_out"}
_CALIBRATING = 256  # Photographs of the training; 16 of them once moved a score by .24.
_AT_ONCE, _SHUFFLED = 16, 256


def export(
    *, workdir: Path, data_dir: Path, output_dir: Path, form: str = "onnx", quantize: str = ""
) -> export_check.Compared:
    """Write the networks of a run, the card of the run and, last, export.json.

    An export that differs from the bundle is refused.

    Args:
      workdir: folder of the bundle.
      data_dir: folder of its data set, whose pictures both are given.
      output_dir: receives the files.
      form: the format of the networks, a name in `export_file.ENDINGS`.
      quantize: how their numbers are stored: "" for float32, or a name in `export_file.QUANTIZED`.

    Raises:
      FileNotFoundError: there is no bundle or no data set.
      ValueError: nothing is fitted yet, the model says nothing of a photograph, the format cannot
        say a view, be quantised or be written here, or the export differs from the bundle.
      OSError: the folder cannot be written, or holds somebody else's files of these names.
    """
    module = formats.of(form, quantize)
    bundle = bundles.load(workdir, precision="float32")
    fitted = evaluate.require_fitted(bundle, workdir, "an export")
    _check_views(bundle, form, resamples=module.RESAMPLES)
    heatmaps = None
    if not bundle.kind.scores.gives_maps:
        bundle.kind.scores.check_explained(where=workdir)
        heatmaps = gradcam.HeatMaps(bundle.model, explained=bundle.kind.model.explained)
    with locks.held(output_dir):
        _claim(output_dir)
        pictures = _training_pictures(bundle, data_dir) if quantize == "int8" else None
        model = _model(bundle, heatmaps) if heatmaps else _maps(bundle)
        networks = {export_file.MODEL: module.write(model, quantize, pictures)}
        if heatmaps:
            networks[export_file.HEATMAP_MAKER] = module.write(_heatmap(bundle, heatmaps))
        alarms = tuple(alarm for found in known_alarms.of_run(workdir).values() for alarm in found)
        of_run = output_dir, bundle.experiment, bundle.manifest, fitted, alarms
        parts = networks[export_file.MODEL], networks.get(export_file.HEATMAP_MAKER)
        reader = exported.of(export_file.Exported(*of_run, form, *parts))
        compared = export_check.compare(
            reader, bundle, heatmaps, data_dir=data_dir, quantize=quantize
        )
        named = {n + end: data for n, parts in networks.items() for end, data in parts.items()}
        size, weights = sum(map(len, named.values())), workdir / bundles.WEIGHTS_FILE
        compared = compared._replace(bytes=size, of_bundle=size / weights.stat().st_size)
        # In integers, features are others: each photograph would look as if it had drifted.
        if quantize != "int8" and drift_file.of_run(workdir):
            named[drift_file.FILE] = drift_file.usual_path(workdir).read_bytes()
        content = export_file.ExportFile(
            experiment=typed.to_dict(bundle.experiment),
            manifest=bundle.manifest.to_dict(),
            fitted=fitted.to_dict(),
            alarms=alarms,
            compared=compared._asdict(),
            bundle=bundle_file.read(workdir).files[bundles.WEIGHTS_FILE],
            libraries={**bundle.libraries, **formats.versions(module)},
            files={name: bundle_file.digest(data) for name, data in named.items()},
            runtime=form,
            quantized=quantize,
        )
        named |= formats.beside(module, networks)
        _write(output_dir, named, content, card=model_card.of_run(workdir))
    return compared


def _write(
    folder: Path, named: Mapping[str, bytes], content: export_file.ExportFile, *, card: Path | None
) -> None:
    """Write the files of an export, by their names, and what says that they are there, last.

    Those of an earlier export go first, of whatever format.
    """
    for name in (export_file.EXPORT_FILE, *_names()):
        (folder / name).unlink(missing_ok=True)
    for name, data in named.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        files.write(folder / name, data)
    if card:
        files.write(folder / model_card.FILE, card.read_bytes())
    export_file.write(folder, content)


def usual_folder(workdir: Path, form: str = "onnx", quantize: str = "") -> Path:
    """Return the usual folder of a run's export."""
    return workdir / "export" / (f"{form}_{quantize}" if quantize else form)


def _names() -> list[str]:
    """Return the files that exports of all formats have, besides what says that they are there."""
    networks = export_file.MODEL, export_file.HEATMAP_MAKER
    endings = [ending for some in export_file.ENDINGS.values() for ending in some]
    return [network + ending for network in networks for ending in endings] + [
        *export_file.OF_TRITON,
        drift_file.FILE,
    ]


def _claim(folder: Path) -> None:
    """Refuse a folder that holds somebody else's files of these names."""
    results = {name.split("/")[0] for name in _names()}
    claims.check(folder, mark=export_file.EXPORT_FILE, key="compared", results=results)


def _check_views(bundle: bundles.Bundle, form: str, *, resamples: bool) -> None:
    """Refuse views that resample the photograph where nothing can do so.

    That is in a format without such an operation, and in tiles, which lack what is around them.
    """
    found = sorted(_RESAMPLED & set(bundle.experiment.evaluation.views))
    in_tiles = bundle.kind.side < bundle.experiment.dataset.recipe.size
    if not found or (resamples and not in_tiles):
        return
    why = f"the format {form} cannot make as TensorFlow does. Export with --format=saved_model, or"
    if in_tiles:
        why = "cannot be made of the tiles that an export reads. Set others and"
    raise ValueError(
        f"{bundle.folder} averages over the views {', '.join(found)}, which {why} train with views "
        "that only mirror, turn or brighten, such as --config.evaluation.views=identity,left_right"
    )


def _training_pictures(bundle: bundles.Bundle, data_dir: Path) -> np.ndarray:
    """Return photographs of the training, uint8 RGB (n, size, size, 3), mixed as the training was.

    They are the same every time. Of a model that reads tiles, they are tiles of whole pictures.
    """
    data = folds.load_trained_on(bundle.manifest, data_dir)
    side = bundle.kind.side
    if side < bundle.experiment.dataset.recipe.size:
        return _training_tiles(data_dir, data, side)
    batches = tf_dataset.as_tf_dataset(
        *(data_dir, data, "train"),
        experiment=bundle.experiment,
        batch_size=_AT_ONCE,
        shuffle_buffer=_SHUFFLED,
    )
    found = [images.numpy() for images, _, _ in batches.take(_CALIBRATING // _AT_ONCE)]
    pictures: np.ndarray = np.concatenate(found).astype(np.uint8)
    return pictures


def _training_tiles(data_dir: Path, data: manifest.Manifest, side: int) -> np.ndarray:
    """Return tiles of the photographs of the training, drawn alike every time."""
    rng, found = np.random.default_rng(0), []
    shards = data.shards_of("train")
    photographs = sum(shard.records for shard in shards)
    each, every = -(-_CALIBRATING // photographs), -(-photographs // _CALIBRATING)
    reader = shard_reader.ShardReader(data_dir, shards, loader.schema_of(data, {}))
    for number in range(0, len(reader), every):
        (rgb,) = reader.batch(np.array([number]))[records.IMAGE]
        for top, left in rng.integers(0, len(rgb) - side + 1, (each, 2)):
            found.append(rgb[top : top + side, left : left + side])
    return np.stack(found)


def _maps(bundle: bundles.Bundle) -> TracedNetwork:
    """Return what makes the mean map of all views of a tile, or of a whole photograph.

    Mirrored and turned tiles give what those of a mirrored and turned photograph give: see `tiles`.
    """
    shown = [views.VIEWS[name] for name in bundle.experiment.evaluation.views]
    side, model = bundle.kind.side, scoring.map_maker(bundle)

    def maps(photographs: tf.Tensor) -> dict[str, tf.Tensor]:
        pixels = {records.IMAGE: tf.cast(photographs, tf.float32)}
        # All views pass the network as one batch, so that the file holds the network once.
        given = tf.concat([view.apply(pixels)[records.IMAGE] for view in shown], axis=0)
        found = tf.split(model(given, training=False), len(shown))
        return {export_file.OUTPUTS: scoring.mean_map(shown, found)}

    spec = tf.TensorSpec((None, side, side, 3), tf.uint8, name=export_file.PHOTOGRAPHS)
    return TracedNetwork(maps, spec)


def _model(bundle: bundles.Bundle, heatmaps: gradcam.HeatMaps) -> TracedNetwork:
    """Return the network and its views."""
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
    return TracedNetwork(both, spec)


def _heatmap(bundle: bundles.Bundle, heatmaps: gradcam.HeatMaps) -> TracedNetwork:
    """Return what makes a heat map of features.

    It is of one photograph: tf2onnx cannot say gradients whose shapes depend on the input.
    """
    shape = tuple(last_features.layer(bundle.model).output.shape)[1:]
    spec = tf.TensorSpec((1, *shape), tf.float32, name=export_file.FEATURES)
    return TracedNetwork(
        lambda features: {export_file.HEATMAP: heatmaps.of_features(features)}, spec
    )
