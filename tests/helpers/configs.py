"""The repository's config files, by name."""

from pathlib import Path

import ml_collections

from dr_tfx.config import config_files

FOLDER = Path(__file__).parents[2] / "configs"


def load(name: str, *variant: str) -> ml_collections.ConfigDict:
    """Return what `get_config()` of configs/<name>.py returns, or that of a variant."""
    return config_files.load(FOLDER / f"{name}.py", *variant)
