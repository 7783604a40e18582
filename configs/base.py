"""Every setting with its default. Reports name their run's settings as changes of this file."""

import ml_collections

from dr_tfx import tasks
from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return the defaults of a binary task."""
    return config_files.to_config(tasks.from_config({}))
