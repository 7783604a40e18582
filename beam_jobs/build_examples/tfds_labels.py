"""The rows of labels of a data set that TensorFlow Datasets has prepared: its own labels."""

from collections.abc import Iterator
from itertools import islice

from beam_jobs.build_examples.label_arrays import LabelRows
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.sources import refusals, tfds

_NONE = "-1"  # TFDS writes this for a label that is not known.


def rows(spec: specs.DatasetSpec, source: tfds.TfdsFolder) -> Iterator[LabelRows]:
    """Yield the photographs that have a label, with what the data set tells of them.

    If its splits are two or three of train, validation and test, they are the official split, and
    photographs of other splits have no row. Folds are dealt from all splits together.

    Args:
      spec: `patient_column` may name a feature; the label's is the only ClassLabel, or the one
        that `label_column` names.
      source: the photographs.

    Raises:
      UnusableInput: there is no such feature, or no photograph has a label.
    """
    label = tfds.feature_of(source.folder, "ClassLabel", usual=spec.label_column)
    patient, known = spec.patient_column, tfds.features(source.folder)
    if patient and patient not in known:
        raise refusals.UnusableInput(
            "{place} has no feature {patient!r}; it has {known}. Set {patient_column} to the right "
            "one, or to '' if there is none",
            place=source.folder,
            patient=patient,
            known=", ".join(known),
        )
    texts = {str(i): name for i, name in enumerate(tfds.label_names(source.folder, label))}
    official = {shard.split: splits.named(shard.split) for shard in source.shards}
    is_official = len({*official.values()} - {""}) > 1 and not spec.split.folds
    labelled = (
        (name, texts.get(number, number), values.get(patient, ""), official[split])
        for name, split, values in source.values({label, patient})
        if (number := values.get(label, _NONE)) != _NONE and (official[split] or not is_official)
    )
    is_empty = True
    while piece := list(islice(labelled, splits.CHUNK)):
        found, labels, patients, of_splits = map(list, zip(*piece, strict=True))
        yield LabelRows(
            found, labels, patients if patient else None, of_splits if is_official else None
        )
        is_empty = False
    if is_empty:
        raise refusals.UnusableInput(
            "{place}: no photograph has a {label}, which TFDS writes as -1. Give the labels as "
            "{labels}=labels.csv",
            place=source.folder,
            label=label,
        )
