"""Any haemorrhage and its five kinds on slices of head CT, several of which may be there at once.

The columns are those of RSNA's challenge of 2019, whose CSV is read as it is:

    drtfx-build-examples --config=ct_kinds --image_dir=stage_2_train \
        --labels=stage_2_train.csv --output_dir=DATA --config.dataset.image_column=ID \
        --config.dataset.patient_column=PatientID
    drtfx-train --config=ct_kinds --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

`--config=ct_kinds:neighbours` shows the slices beside each slice too, as ct_hemorrhage.py does.

Time and metric: not yet measured. The winners of the challenge had an AUC of .988 for `any`.
"""

import ml_collections

from dr_tfx.config import config_files, label_sets

COLUMNS = (
    "any",
    "epidural",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
)


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Return the recipe of ct_hemorrhage.py with six labels, of which `any` decides.

    Args:
      variant: "" for a slice alone, or `neighbours` for those beside it, too.

    Raises:
      ValueError: there is no such variant.
    """
    if variant not in ("", "neighbours"):
        raise ValueError(f"ct_kinds.py has no variant {variant!r}; expected '' or 'neighbours'")
    config = config_files.load_beside(__file__, "base.py", "multilabel")
    binary = config_files.load_beside(__file__, "ct_hemorrhage.py", variant)
    config.dataset, config.model, config.training = binary.dataset, binary.model, binary.training

    dataset = config.dataset
    dataset.label_column, dataset.label_names = ",".join(COLUMNS), label_sets.names(COLUMNS)
    dataset.split.strata = (0,) + (1,) * (len(dataset.label_names) - 1)  # Any haemorrhage.

    task = config.task
    task.name, task.class_names = "ct_kinds", ("no haemorrhage", "haemorrhage")
    task.decided_by, task.column_weights = "any", (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)

    training = config.training
    training.loss, training.balance = "cross_entropy", "none"
    training.select_by, training.early_stopping_monitor = "val_log_loss", "val_log_loss"

    config.evaluation.views = binary.evaluation.views
    return config
