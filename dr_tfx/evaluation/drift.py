"""What the photographs of validation looked like to a run, kept for comparison with later ones."""

import contextlib

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from dr_tfx.dataset import manifest, records
from dr_tfx.evaluation.scored import SELECTION_SPLIT, Scored
from dr_tfx.inference import drift as watching
from dr_tfx.models import drift_file, last_features
from dr_tfx.statistics import drift
from dr_tfx.storage import files

_MOST = 1000  # Photographs that are looked at. More would find differences that nobody minds.


def keep(scored: Scored) -> None:
    """Write WORKDIR/evaluation/drift.json, if it is validation that was evaluated.

    Nothing is written where drift cannot be told (`drift_file.untold`), or nothing can be written.
    """
    if scored.name != SELECTION_SPLIT:
        return
    path = drift_file.usual_path(scored.workdir)
    clusters = scored.clustered["cluster"].to_numpy()
    few = len(np.unique(clusters)) < drift.FEWEST
    with contextlib.suppress(OSError):
        if few or scored.bundle.manifest.fold == manifest.EVERY_FOLD:
            path.unlink(missing_ok=True)
            return
        key = drift_file.key(scored.weights, scored.fitted.to_dict())
        files.write(path, drift_file.to_bytes(_reference(scored), key=key))


def _reference(scored: Scored) -> drift.Reference:
    clusters = scored.clustered["cluster"].to_numpy()
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.permutation(len(clusters))[:_MOST])
    scores, table = scored.bundle.kind.scores, scored.predictions.iloc[numbers]
    told = watching.scores_of(scores.read(table, scored.fitted), scores.watched)
    pictures, features = _seen(scored, numbers)
    verdicts, judged = watching.verdicts_of(scored.data)
    return drift.reference(
        dict(zip(scores.watched, told.T, strict=True)),
        dict(zip(watching.PICTURES, pictures.T, strict=True)),
        features,
        clusters[numbers],
        verdicts=verdicts,
        judged=judged,
    )


def _seen(
    scored: Scored, numbers: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
    """Return the numbers of pictures, and the features of the network, (n, channels).

    A model that gives maps has none.
    """
    bundle, pictures, features = scored.bundle, [], []
    look = None if bundle.kind.scores.gives_maps else last_features.seeing(bundle.model)
    size = bundle.experiment.evaluation.batch_size
    for start in range(0, len(numbers), size):
        rgb = scored.images(numbers[start : start + size])[records.IMAGE]
        pictures += [watching.numbers_of(one) for one in rgb]
        if look:
            features.append(look.predict_on_batch(tf.cast(rgb, tf.float32))[1])
    seen = np.concatenate(features) if look else np.empty((len(numbers), 0))
    return np.stack(pictures), seen.astype(np.float32)
