"""Five grades of retinopathy by our recipe, on the very data set of dr_binary.py.

    drtfx-build-examples --config=dr_grade --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA
    drtfx-train --config=dr_grade --data_dir=DATA --workdir=RUN
    drtfx-evaluate --workdir=RUN --data_dir=DATA --split=validation

A data set that was built with dr_binary.py serves as it is. Time and metric on EyePACS: not yet
measured. On IDRiD: see docs/results.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return a recipe that respects the order of the grades.

    The head cannot contradict itself about P(grade > k), the loss and the selection count how far
    an error is, and the expected grade is rounded.
    """
    config = config_files.load_beside(__file__, "base.py", "grades")
    binary = config_files.load_beside(__file__, "dr_binary.py")
    config.dataset, config.model, config.training = binary.dataset, binary.model, binary.training

    config.task.name, config.task.head, config.task.refer_from = "dr_grade", "cumulative", 2

    training = config.training
    training.loss, training.balance = "cumulative", "none"
    training.select_by, training.early_stopping_monitor = "val_kappa", "val_kappa"
    training.plateau_monitor = "val_loss"

    config.evaluation.views = binary.evaluation.views
    config.evaluation.decide = "expected"
    return config
