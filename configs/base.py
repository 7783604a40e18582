"""Every setting with its default. Reports name their run's settings as changes of this file.

The defaults are those of a binary task; --config=base:KIND gives those of another kind.
"""

import ml_collections

from dr_tfx import tasks
from dr_tfx.config import config_files, specs


def get_config(kind: str = specs.Task.kind) -> ml_collections.ConfigDict:
    """Return the defaults of a kind of task.

    Args:
      kind: a name in `dr_tfx.tasks.KINDS`.
    """
    return config_files.to_config(tasks.defaults(kind))
