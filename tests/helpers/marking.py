"""A model of lesions that marks pixels by their colour."""

import types
from collections.abc import Callable, Sequence

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import config_files
from tests.helpers.configs import FOLDER

SIZE = 64  # Pixels a side of the pictures that it takes.


class ColourMarker:
    """Marks kinds of lesions by a rule, as `lesions.PictureMarker` has it."""

    def __init__(self, kinds: Sequence[str], rule: Callable[[np.ndarray], Sequence[np.ndarray]]):
        """Take a rule from a picture, uint8 RGB (height, width, 3), to a mask of each kind."""
        settings = config_files.load(FOLDER / "lesions.py", "demo")
        settings.dataset.masks = tuple(kinds)
        settings.dataset.recipe.name, settings.dataset.recipe.size = "plain", SIZE
        settings.dataset.recipe.quality_gate = "off"
        self._rule = rule
        self.experiment = tasks.from_config(settings)
        self.manifest = types.SimpleNamespace(prepared="")

    def mark(self, rgb):
        decision = self.experiment.dataset.masks[0]
        reading = tasks.Reading(0.0, "", "marked", {"decision": decision}, {}, None)
        return [(reading, np.stack(self._rule(one))) for one in rgb]
