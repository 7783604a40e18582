"""Errors about what a job was given, which each command tells in the words of its own flags.

`drtfx-build-examples` and `drtfx-evaluate` call the same functions, and a setting that one of them
calls `--config.dataset.image_column` is `--image_column` of the other. So an error keeps the
parameters that it is about apart from its text:

    raise UnusableInput("{place} holds no photographs: pass {image_dir}={inside}", place=..., ...)
"""

from collections.abc import Mapping

BUILD_FLAGS = {
    "image_dir": "--image_dir",
    "labels": "--labels",
    "masks_dir": "--masks_dir",
    "masks": "--config.dataset.masks",
    "output_dir": "--output_dir",
    "overwrite": "--overwrite",
    "image_column": "--config.dataset.image_column",
    "label_column": "--config.dataset.label_column",
    "label_pattern": "--config.dataset.label_pattern",
    "patient_column": "--config.dataset.patient_column",
    "split_method": "--config.dataset.split.method",
    "split_column": "--config.dataset.split.column",
    "split_folds": "--config.dataset.split.folds",
    "label_values": "--config.dataset.label_values",
    "label_names": "--config.dataset.label_names",
    "size": "--config.dataset.recipe.size",
}
"""Parameter of a build -> the flag or setting of `drtfx-build-examples` that gives it."""


class UnusableInput(ValueError):
    """An input that a build cannot use. Its text is that of `drtfx-build-examples`.

    Attributes:
      template: the text, with a `{field}` for each parameter and for each value.
      values: what stands in the fields that are no parameters.
    """

    def __init__(self, template: str, **values: object):
        self.template, self.values = template, values
        super().__init__(self.told(BUILD_FLAGS))

    def told(self, flags: Mapping[str, str]) -> str:
        """Return the text with other names of the parameters, those of BUILD_FLAGS."""
        return self.template.format(**flags, **self.values)


class MissingInput(UnusableInput, FileNotFoundError):
    """A file or folder that a build was given and that does not exist."""
