"""Every setting with its default, from the specs themselves; the other configs change some."""

import ml_collections

from dr_tfx import tasks
from dr_tfx.config import specs


def get_config() -> ml_collections.ConfigDict:
    """Return the defaults of a binary task as a ConfigDict that refuses unknown keys."""
    defaults = specs.to_dict(tasks.from_config({}))
    return ml_collections.ConfigDict(_tuples(defaults), allow_dotted_keys=False)


def eyepacs() -> ml_collections.ConfigDict:
    """The defaults with Kaggle's EyePACS data set: `image,level`, files `<patient>_<eye>.jpeg`."""
    config = get_config()
    config.dataset.name = "eyepacs"
    config.dataset.label_names = ("no DR", "mild", "moderate", "severe", "proliferative")
    config.dataset.patient_pattern = r"^(.+)_(?:left|right)$"
    config.dataset.split.strata = (0, 1, 2, 3, 4)
    config.task.name = "dr_binary"
    config.task.class_names = ("normal", "abnormal")
    config.task.label_map = (0, 1, 1, 1, 1)
    return config


def _tuples(settings: dict) -> dict:
    """Lists become tuples, which a flag such as --config.model.hidden=(64,) can override."""
    return {
        key: _tuples(value)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in settings.items()
    }
