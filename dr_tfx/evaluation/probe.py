"""A linear probe: what the backbone told of the labels before any of its layers learned.

A logistic regression on the features of the pre-trained backbone, pooled over the picture, is
fitted to training photographs as they are, and asked about those that are evaluated. It takes a
minute where a training takes an hour. A model that does not rank images better has learned nothing
by its training. Alain and Bengio, "Understanding intermediate layers using linear classifier
probes", 2016, https://arxiv.org/abs/1610.01644.
"""

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
import safetensors.numpy
import tensorflow as tf

from dr_tfx.config import specs, typed
from dr_tfx.dataset import folds, manifest, records
from dr_tfx.input_pipeline import loader, shard_reader
from dr_tfx.machine import progress
from dr_tfx.models import bundles, network, pretrained
from dr_tfx.statistics import multilabel
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.storage import files
from dr_tfx.tasks.judging import Ranking

_MOST = 2000  # Photographs that it is fitted to.
_STRENGTH = 1e-3  # C of the regression: there are several times as many features as photographs.
FILE = "probe.safetensors"


class Probe(NamedTuple):
    """What a linear probe says of photographs.

    Attributes:
      scores: float64 (images, rankings), higher where it takes an image for that; NaN where the
        training photographs are all of one sort.
      photographs: how many it was fitted to.
    """

    scores: npt.NDArray[np.float64]
    photographs: int


class _Fitted(NamedTuple):
    """Weights float64 (rankings, features) and biases (rankings,), for how many photographs."""

    weights: npt.NDArray[np.float64]
    biases: npt.NDArray[np.float64]
    photographs: npt.NDArray[np.int64]


def measure(
    bundle: bundles.Bundle, predictions: pd.DataFrame, *, workdir: Path, data_dir: Path, split: str
) -> Probe | None:
    """Return what a linear probe says of a split.

    It is fitted once for each run, and kept in WORKDIR/evaluation/probe.safetensors.

    Args:
      bundle: the model that it is to be compared with.
      predictions: of the split, what `evaluate.predict` returned.
      workdir: the folder of the bundle.
      data_dir: the data set that the model was trained on.
      split: which part of it.

    Returns:
      None where there is none: what `missing` says, the model gives maps, or joins those of several
      folds.
    """
    count = len(bundle.kind.judgement.rankings(predictions))
    joined = bundle.manifest.fold == manifest.EVERY_FOLD
    if not count or joined or missing(bundle.experiment):
        return None
    data = folds.load_trained_on(bundle.manifest, data_dir)
    built = network.build(_averaged(bundle))
    look, width = pooled(built), built.get_layer(network.POOLING).output.shape[-1]
    kept, key = workdir / "evaluation" / FILE, _key(bundle)
    fitted = _kept(kept, key, (count, width))
    if fitted is None:
        parts = list(_seen(bundle, look, data_dir, data=data, split="train", most=_MOST))
        rankings = bundle.kind.judgement.rankings(
            pd.concat([truth for _, truth in parts], ignore_index=True)
        )
        positive = np.stack([each.positive for each in rankings], axis=1)
        fitted = _fit(np.concatenate([features for features, _ in parts]), positive)
        content = safetensors.numpy.save(fitted._asdict(), metadata={"key": key})
        with contextlib.suppress(OSError):  # Of a folder that cannot be written.
            files.write(kept, content)
    scores = [
        features @ fitted.weights.T + fitted.biases
        for features, _ in _seen(bundle, look, data_dir, data=data, split=split)
    ]
    return Probe(np.concatenate(scores), int(fitted.photographs))


def missing(experiment: specs.Experiment) -> str:
    """Return a sentence on why no probe can stand beside a model; "" if one can."""
    if network.weights_are_here(experiment):
        return ""
    given = pretrained.asked(experiment)
    if given == pretrained.NONE:
        why = "the model began without pre-trained weights."
    elif pretrained.is_run(given):
        why = "the model began with the whole network of another run, which had learned the task."
    else:
        why = "the pre-trained weights that the model began with are not on this machine."
    return f"No linear probe stands beside the model: {why}"


def _averaged(bundle: bundles.Bundle) -> specs.Experiment:
    """Return the settings of a network whose features are averaged over the picture."""
    model = dataclasses.replace(bundle.experiment.model, pooling="average")
    return dataclasses.replace(bundle.experiment, model=model)


def _seen(
    bundle: bundles.Bundle,
    look: Callable[[tf.Tensor], tf.Tensor],
    data_dir: Path,
    *,
    data: manifest.Manifest,
    split: str,
    most: int | None = None,
) -> Iterator[tuple[npt.NDArray[np.float64], pd.DataFrame]]:
    """Yield features of a batch of photographs, (images, features), and what each of them is.

    Images are in the order of `scoring.predict_split`; or they are as many as are wanted, drawn by
    chance. The table can be given to `JudgementSide.rankings`.
    """
    kind, shards = bundle.kind, data.shards_of(split)
    schema = loader.schema_of(data, kind.data.features)
    reader = shard_reader.ShardReader(data_dir, shards, schema)
    numbers = np.arange(len(reader))
    if most is not None:
        numbers = np.sort(np.random.default_rng(0).permutation(numbers)[:most])
    size = bundle.experiment.evaluation.batch_size
    output = (len(bundle.experiment.evaluation.views), *bundle.model.output_shape[1:])
    with progress.bar(total=len(numbers), unit="image", title=f"probe {split}") as bar:
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            batch = reader.batch(part)
            features = look(tf.constant(batch.pop(records.IMAGE))).numpy().astype(np.float64)
            # What a model would say plays no part in what the photographs are.
            said = bundle.columns(np.full((len(part), *output), 0.5))
            yield features, pd.DataFrame(kind.data.truth(batch) | said)
            bar.update(len(part))


def _fit(features: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> _Fitted:
    """Return the regressions of each column of truth (images, rankings)."""
    weights = np.full((truth.shape[1], features.shape[1]), np.nan)
    biases = np.full(truth.shape[1], np.nan)
    for k, column in enumerate(truth.T):
        if 0 < column.sum() < len(column):
            scaler, classifier = regression().fit(features, column)
            weights[k] = classifier.coef_[0] / scaler.scale_
            biases[k] = classifier.intercept_[0] - weights[k] @ scaler.mean_
    return _Fitted(weights, biases, np.array(len(features)))


def judged(
    probe: Probe | None,
    rankings: Sequence[Ranking],
    bootstrap: Callable[[], PatientBootstrap],
) -> dict[str, Any] | None:
    """Return `probe` of metrics.json, which `evaluate` lists.

    Args:
      probe: what `measure` returned.
      rankings: what the kind of task tells apart in the predictions.
      bootstrap: makes that of the predictions.

    Returns:
      None where there is no probe, or all images are of one sort.
    """
    if probe is None or np.isnan(probe.scores).any():
        return None
    truth = np.stack([each.positive for each in rankings], axis=1)
    if not any(0 < column.sum() < len(column) for column in truth.T):
        return None
    drawn = bootstrap()
    told = {"auc": probe.scores, "model": np.stack([each.score for each in rankings], axis=1)}
    value = {name: multilabel.mean_auc(truth, scores) for name, scores in told.items()}
    samples = {name: multilabel.auc_samples(truth, scores, drawn) for name, scores in told.items()}
    return {
        "auc": percentiles(value["auc"], samples["auc"]).to_dict(),
        "difference": percentiles(
            value["model"] - value["auc"], samples["model"] - samples["auc"]
        ).to_dict(),
        "model": value["model"],
        "photographs": probe.photographs,
    }


def alarms(found: Mapping[str, Any] | None) -> list[str]:
    """Return an alarm if the model does not rank the images better than the probe."""
    if found is None or found["difference"]["value"] > 0:
        return []
    return [
        f"A linear probe, for which no layer of the backbone learned, ranks the images with an AUC "
        f"of {found['auc']['value']:.3f}, the model with {found['model']:.3f}. Its training is "
        "not shown to have paid: try a lower learning rate, fewer layers that learn, or more "
        "photographs."
    ]


def pooled(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function: pictures (n, size, size, 3), 0 to 255 -> pooled features, (n, k)."""
    features = keras.Model(model.inputs, model.get_layer(network.POOLING).output)
    pixels = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    look = tf.function(
        lambda images: features(images, training=False), input_signature=[pixels], autograph=False
    )
    return lambda images: look(tf.cast(images, tf.float32))


def regression() -> Any:
    """Return the classifier that is fitted to pooled features."""
    from sklearn.linear_model import LogisticRegression  # Loads for a second, which few need.
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=300))


def _key(bundle: bundles.Bundle) -> str:
    """Return what the fitted probe depends on."""
    model = typed.to_dict(bundle.experiment)["model"]
    told = [model, bundle.manifest.fingerprint, bundle.manifest.fold]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _kept(path: Path, key: str, shape: tuple[int, int]) -> _Fitted | None:
    """Return what was fitted before; None if nothing is there that belongs to the model.

    Args:
      path: of the file.
      key: what `_key` returned.
      shape: how many rankings and features there are.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as stored:
            if (stored.metadata() or {}).get("key") != key:
                return None
            fitted = _Fitted(*(stored.get_tensor(name) for name in _Fitted._fields))
    except (OSError, safetensors.SafetensorError):
        return None
    whole = fitted.weights.shape == shape and fitted.biases.shape == shape[:1]
    return fitted if whole else None
