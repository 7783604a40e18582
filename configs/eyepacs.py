"""Kaggle's EyePACS data set, from which the configs of its tasks start.

The label CSV has the columns `image,level`, and the photographs are named `<patient>_<eye>.jpeg`.
The task is the binary one, grade 0 against grades 1 to 4. All other settings are the defaults:

    drtfx-build-examples --config=eyepacs --image_dir=RAW --labels=RAW/labels.csv \
        --output_dir=DATA

Time and metric: not measured, because dr_binary.py and reference.py are the recipes to run.
"""

import ml_collections

from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return the defaults with the columns, labels and patients of EyePACS."""
    config = config_files.load_beside(__file__, "base.py")
    config.dataset.label_names = ("no DR", "mild", "moderate", "severe", "proliferative")
    config.dataset.patient_pattern = r"^(.+)_(?:left|right)$"
    config.task.name = "dr_binary"
    config.task.class_names = ("normal", "abnormal")
    return config
