"""The Python face of dr_tfx: the stages of the commands as functions, for notebooks and scripts.

Everything here is a member of the package itself: `import dr_tfx` is light, and a member loads what
it needs when it is first used.

Examples:
  >>> import dr_tfx
  >>> raw = dr_tfx.synthesize("raw", num_patients=12, size=128)
  >>> experiment = dr_tfx.load_config({
  ...     "dataset": {"label_names": ["0", "1", "2", "3", "4"], "recipe": {"size": 64}},
  ...     "task": {"label_map": [0, 1, 1, 1, 1]},
  ...     "model": {"backbone": "SixConvolutions", "output_stride": 4, "weights": "none"},
  ...     "training": {"epochs": 1},
  ... })
  >>> data = dr_tfx.build(experiment, image_dir=raw, labels=raw / "labels.csv", output_dir="data")
  >>> sum(data.counts["train"].values()) + sum(data.counts["validation"].values())
  24
  >>> model = dr_tfx.train(experiment, data_dir="data", workdir="run")  # doctest: +ELLIPSIS
  epoch 1/1: loss ...
  >>> metrics = dr_tfx.evaluate("run", data_dir="data", split="validation")
  >>> model = dr_tfx.load_bundle("run")
  >>> sorted(model.predict(raw / "10_left.jpeg"))
  ['decision', 'probability', 'probability_threshold', 'score', 'threshold']
  >>> model.explain(raw / "10_left.jpeg").overlay.shape
  (64, 64, 3)
"""

import abc
import copy
import functools
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import config_files, specs
from dr_tfx.dataset import folds, manifest, places

if TYPE_CHECKING:
    import tensorflow as tf

    from dr_tfx.explanation.photographs import PhotographExplainer
    from dr_tfx.inference import exported
    from dr_tfx.inference.photographs import PhotographReader, RawPhotograph
    from dr_tfx.input_pipeline.examples import Examples
    from dr_tfx.models import bundles

JOBS = "dr_tfx.jobs"
"""Group of the entry points by which an installation names its jobs."""


def load_config(
    config: str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> specs.Experiment:
    """Return the settings of a run, validated.

    Args:
      config: the name of a config, such as "dr_binary", the path of a file of your own, or a nested
        mapping of the settings that differ from the defaults.
      changes: further settings by their dotted names, such as `{"training.epochs": 2}`.

    Raises:
      FileNotFoundError: there is no such file.
      ConfigError: unknown key, wrong type, value out of range or contradicting settings.
    """
    if isinstance(config, str | Path):
        file, _, argument = config_files.find(os.path.expanduser(config)).partition(":")
        settings = config_files.load(Path(file), *filter(None, [argument])).to_dict()
    else:
        settings = copy.deepcopy(dict(config))
    for name, value in (changes or {}).items():
        *groups, last = name.split(".")
        group = settings
        for key in groups:
            group = group.setdefault(key, {})
        group[last] = value
    return tasks.from_config(settings)


def build(
    experiment: specs.Experiment,
    *,
    image_dir: str | Path,
    labels: str | Path,
    output_dir: str | Path,
    masks_dir: str | Path = "",
    overwrite: bool = False,
) -> "Dataset":
    """Build a data set from photographs and a label CSV in this process, or resume its build.

    The command drtfx-build-examples does the same in several processes or on a cluster.

    Args:
      experiment: its `dataset` says what to make.
      image_dir: photographs: a folder, a pattern or a .zip archive.
      labels: the CSV, or what else the guide to your own photographs lists.
      output_dir: folder of the data set.
      masks_dir: the masks that `dataset.masks` names, in a folder for each kind.
      overwrite: delete what an earlier build left there.

    Raises:
      FileNotFoundError, ValueError: unusable input, too many rejects, or a folder that holds
        something else.
    """
    (job,) = importlib.metadata.entry_points(group=JOBS, name="build")
    job.load()(
        experiment.dataset,
        image_dir=os.path.expanduser(image_dir),
        labels=os.path.expanduser(labels),
        output_dir=os.path.expanduser(output_dir),
        masks_dir=os.path.expanduser(masks_dir),
        overwrite=overwrite,
    )
    return load_dataset(output_dir)


def synthesize(folder: str | Path, *, num_patients: int, seed: int = 0, size: int = 640) -> Path:
    """Draw fundus photographs of so many patients, with labels.csv and lesion masks.

    Args:
      folder: an empty or new folder, or one that an equal call has begun.
      num_patients: each has two photographs.
      seed: names the data set.
      size: width of the photographs in pixels.

    Returns:
      The folder.

    Raises:
      ValueError: an argument is out of range, or the folder holds something else.
    """
    from dr_tfx.synthetic import data_set

    return data_set.synthesize(_path(folder), num_patients=num_patients, seed=seed, size=size)


def load_dataset(
    folder: str | Path,
    *,
    fold: int | None = None,
    cache_dir: str | Path | None = None,
    cache_gb: float | None = None,
) -> "Dataset":
    """Return a data set that was built.

    Args:
      folder: where it is: a folder, or an address in an object store such as gs://BUCKET/data. Of
        the latter, `Dataset.folder` is a local folder that fills itself when it is read.
      fold: of a data set with folds, the one that is to be `test`; the next one is `validation`,
        the others are `train`. None: the splits are the folds themselves, `fold-0` and so on.
      cache_dir: where examples of object stores are kept from run to run; None: ~/.cache/dr_tfx.
      cache_gb: how many GB they may take; None: half of what is free on the disk.

    Raises:
      FileNotFoundError: no manifest (the build did not finish), or a shard is missing.
      ValueError: the manifest is damaged, a shard has another size than it says, or there is no
        such fold.
    """
    local = places.folder(_at_home(folder), cache_dir=cache_dir, cache_gb=cache_gb)
    data = manifest.load(local)
    return Dataset(local, data if fold is None else folds.view(data, fold, where=str(folder)))


class Dataset(NamedTuple):
    """A data set.

    Attributes:
      folder: where it is on this machine.
      manifest: what it is and how it was made.
    """

    folder: Path
    manifest: manifest.Manifest

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Examples by split and name of the label."""
        return self.manifest.counts

    def examples(self, split: str) -> "Examples":
        """Return the examples of a split by their numbers, for PyTorch, Grain and others.

        Args:
          split: one of the data set's.

        Raises:
          ValueError: there is no such split, or a shard is damaged.
        """
        from dr_tfx.input_pipeline.examples import Examples

        return Examples(self.folder, self.manifest, split)

    def as_tf_dataset(
        self, split: str, *, experiment: specs.Experiment | None = None, **settings: Any
    ) -> "tf.data.Dataset":
        """Return a split as batches of (images, targets, weights) for anybody's `model.fit`.

        Args:
          split: `train`, which is shuffled and mixed by label; `validation` or `test`, in order.
          experiment: its task says what targets and weights are. None: the target is the label.
          **settings: of `dr_tfx.input_pipeline.tf_dataset.as_tf_dataset`: batch_size,
            label_weights, shuffle_buffer, seed, repeat and prefetch.

        Raises:
          ValueError: there is no such split, or the cache of an object store, into which all of it
            is fetched first, has no room for it.
          StoreError: it cannot be fetched.
        """
        from dr_tfx.input_pipeline import tf_dataset

        return tf_dataset.as_tf_dataset(
            self.folder, self.manifest, split, experiment=experiment, **settings
        )


def train(
    experiment: specs.Experiment,
    *,
    data_dir: str | Path,
    workdir: str | Path,
    callbacks: Sequence[Any] = (),
) -> "TrainedModel":
    """Train a model, or go on with a training that was interrupted or has ended, and return it.

    Args:
      experiment: the settings; those of its data set are DATA_DIR's. More epochs go on.
      data_dir: folder of the data set, or its address in an object store.
      workdir: folder of the run.
      callbacks: of Keras, which are told of the epochs and not of the batches.

    Raises:
      FileNotFoundError, ValueError: no data set, or one that the task does not fit, or a folder
        that holds another run.
    """
    from dr_tfx.training import train as training

    run = _path(workdir)
    training.train(experiment, data_dir=_data(data_dir), workdir=run, given=callbacks)
    return load_bundle(run)


def evaluate(
    workdir: str | Path,
    *,
    data_dir: str | Path,
    split: str = "validation",
    output_dir: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate a trained model on a split of its data set.

    Thresholds and calibration are fitted on `validation`, which comes first, and are merely used
    on every other split. `output_dir`, by default WORKDIR/evaluation/<split>, receives report.html,
    metrics.json, predictions.csv and the figures. `settings` are some of `evaluation`, by name, in
    place of those of the training, and change no score.

    Returns:
      The content of metrics.json.

    Raises:
      FileNotFoundError, ValueError: no bundle, no data set or no such split, nothing is fitted
        yet, or a setting cannot be given.
    """
    from dr_tfx.evaluation import evaluate as evaluation

    page = evaluation.evaluate(
        workdir=_path(workdir),
        data_dir=_data(data_dir),
        split=split,
        output_dir=_path(output_dir) if output_dir else None,
        settings=settings,
    )
    return json.loads((page.parent / "metrics.json").read_text(encoding="utf-8"))


def crossvalidate(
    experiment: specs.Experiment, *, data_dir: str | Path, workdir: str | Path
) -> dict[str, Any]:
    """Train and evaluate a model on every fold of a data set, or go on with what was interrupted.

    Args:
      experiment: the settings; those of its data set are DATA_DIR's.
      data_dir: folder of the data set, or its address in an object store.
      workdir: receives a run for each fold, and in `out_of_fold` the report over all photographs.

    Returns:
      The content of WORKDIR/out_of_fold/metrics.json.

    Raises:
      FileNotFoundError, ValueError: no data set or none with folds, or a folder that holds other
        runs.
    """
    from dr_tfx.evaluation import crossvalidate as crossvalidation

    page = crossvalidation.crossvalidate(
        experiment, data_dir=_data(data_dir), workdir=_path(workdir)
    )
    return json.loads((page.parent / "metrics.json").read_text(encoding="utf-8"))


def ensemble(runs: Iterable[str | Path], *, output_dir: str | Path) -> "TrainedModel":
    """Join trained runs to one model, the mean of their calibrated probabilities, and return it.

    Args:
      runs: folders of two runs or more of one task, trained on one data set and evaluated on
        `validation`; or those of all folds of a cross-validation.
      output_dir: folder of the ensemble, which is evaluated and used like that of a run.

    Raises:
      FileNotFoundError, ValueError: a folder holds no run, or one that was not evaluated, or the
        runs do not go together.
    """
    from dr_tfx.evaluation import ensemble as joining

    folders = [_path(run) for run in runs]
    return load_bundle(joining.ensemble(folders, output_dir=_path(output_dir)))


def load_bundle(folder: str | Path) -> "TrainedModel":
    """Return the model that a training left in a folder.

    Raises:
      FileNotFoundError: no bundle: the training did not finish, or the folder is another one.
      ValueError: the bundle is damaged.
    """
    from dr_tfx.models import bundles

    return TrainedModel(bundles.load(_path(folder)))


def export(
    workdir: str | Path,
    *,
    data_dir: str | Path,
    output_dir: str | Path,
    format: str = "onnx",
    quantize: str = "",
) -> "LoadedExport":
    """Write a trained model for another runtime, compare it with the bundle, and return it.

    Args:
      workdir: folder of the run, evaluated on validation.
      data_dir: folder of its data set.
      output_dir: receives the files of the networks and export.json.
      format: onnx, saved_model, litert, openvino or triton.
      quantize: float16 or int8 to make the files smaller; "" for float32.

    Raises:
      FileNotFoundError, ValueError: no bundle or no data set, nothing is fitted yet, the format
        cannot be written, or the export differs from the bundle.
    """
    from dr_tfx.serving import export as exporting

    exporting.export(
        workdir=_path(workdir),
        data_dir=_data(data_dir),
        output_dir=_path(output_dir),
        form=format,
        quantize=quantize,
    )
    return load_export(output_dir)


def load_export(folder: str | Path) -> "LoadedExport":
    """Return a model that `export` or drtfx-export wrote.

    Only a `saved_model` needs TensorFlow. It is a program, too, so that nobody's is to be loaded
    who is not trusted; the files of the other formats only compute.

    Raises:
      FileNotFoundError: there is none in the folder.
      ValueError: a file is damaged, exchanged, or of another version, or what runs its format is
        not installed.
    """
    from dr_tfx.inference import exported

    return LoadedExport(exported.load(_path(folder)))


def _path(given: str | Path) -> Path:
    """Return a path; `~` at its beginning is the person's home."""
    return Path(given).expanduser()


def _at_home(given: str | Path) -> str:
    """Return a path or an address; `~` at the beginning of a path is the person's home."""
    return os.path.expanduser(os.fspath(given))


def _data(given: str | Path) -> Path:
    """Return the local folder of a data set."""
    return places.folder(_at_home(given))


class Explanation(NamedTuple):
    """An answer of the model for one photograph, and the places that it looks at.

    Attributes:
      answer: what `PhotographModel.predict` gives.
      photograph: the photograph as the model sees it, uint8 RGB (size, size, 3).
      heatmap: float32 (h, w), 0 to 1, at the resolution of the method.
    """

    answer: dict[str, Any]
    photograph: np.ndarray
    heatmap: np.ndarray

    @property
    def overlay(self) -> np.ndarray:
        """The heat map's colours over the photograph, uint8 RGB (size, size, 3)."""
        from dr_tfx.explanation import overlays

        return overlays.overlay(self.photograph, self.heatmap)


class PhotographModel(abc.ABC):
    """A model with everything needed to read a raw photograph."""

    def predict(
        self, photograph: "RawPhotograph", others: "Sequence[RawPhotograph]" = ()
    ) -> dict[str, Any]:
        """Return what the model says of a raw photograph, as plain JSON types.

        For a binary task: the calibrated `probability` (None until `evaluate` has fitted it), the
        `score`, the `decision` and its `threshold`. For grades: the `decision`, the expected
        `grade`, the probability of one that is `referred`, and that of each grade.

        Args:
          photograph: the path of a file, its bytes, or pixels, uint8 RGB (height, width, 3).
          others: more slices of its series, for a model that sees the slices beside a slice.

        Raises:
          ValueError: the photograph cannot be read, or is refused by the quality gate.
        """
        (found,) = self._reader([photograph], others)
        if found.reading is None:
            raise ValueError(f"{found.name or 'the photograph'} is rejected: {found.rejected}")
        return found.reading.answer

    def explain(
        self,
        photograph: "RawPhotograph",
        method: str = specs.METHODS[0],
        others: "Sequence[RawPhotograph]" = (),
    ) -> Explanation:
        """Return what the model says of a raw photograph, with a heat map of where it looks.

        Args:
          photograph: as for `predict`.
          method: gradcam, gradcam++, hirescam or occlusion; an exported model has gradcam alone.
          others: as for `predict`.

        Raises:
          ValueError: the photograph is rejected, or there is no such method.
        """
        (found,) = self._explainer(method)([photograph], others)
        if found.reading is None or found.picture is None or found.heatmap is None:
            raise ValueError(f"{found.name or 'the photograph'} is rejected: {found.rejected}")
        return Explanation(found.reading.answer, found.picture.rgb, found.heatmap)

    @property
    @abc.abstractmethod
    def _reader(self) -> "PhotographReader": ...

    @abc.abstractmethod
    def _explainer(self, method: str) -> "PhotographExplainer": ...


class TrainedModel(PhotographModel):
    """The model of a training.

    Attributes:
      bundle: the model's settings, data set, network, and what was fitted on validation.
    """

    def __init__(self, bundle: "bundles.Bundle"):
        self.bundle = bundle
        self._explainers: dict[str, PhotographExplainer] = {}

    @functools.cached_property
    def _reader(self) -> "PhotographReader":
        from dr_tfx.inference import scoring
        from dr_tfx.inference.photographs import PhotographReader

        return PhotographReader(scoring.BundleReader(self.bundle))

    def _explainer(self, method: str) -> "PhotographExplainer":
        from dr_tfx.explanation import explainer
        from dr_tfx.explanation.photographs import PhotographExplainer

        if method not in self._explainers:
            model = explainer.Explainer(self.bundle, method)
            self._explainers[method] = PhotographExplainer(model)
        return self._explainers[method]


class LoadedExport(PhotographModel):
    """A model that drtfx-export wrote, which needs no TensorFlow.

    Attributes:
      export: the model's settings, network, and what was fitted on validation.
    """

    def __init__(self, export: "exported.ExportedModel | exported.ExportedMarker"):
        self.export = export

    @property
    def _reader(self) -> "PhotographReader":
        from dr_tfx.inference.photographs import PhotographReader

        return PhotographReader(self.export)

    def _explainer(self, method: str) -> "PhotographExplainer":
        from dr_tfx.explanation.photographs import PhotographExplainer
        from dr_tfx.inference.exported import ExportedModel

        model = self.export
        if not isinstance(model, ExportedModel):
            raise ValueError(
                f"the export {model.folder} marks lesions, and draws no heat maps. drtfx-predict "
                "outlines what it marks"
            )
        if method != specs.METHODS[0]:
            raise ValueError(
                f"the method is {method!r}; an exported model has {specs.METHODS[0]} alone"
            )
        return PhotographExplainer(model)
