"""The commands: flags and one call each, and what every command does before."""

import sys

from dr_tfx.cli import endings

sys.excepthook = endings.told_before_start
