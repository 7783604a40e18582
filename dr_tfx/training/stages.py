"""The stages of a run: which layers learn in which epochs, and how fast.

A stage begins as a resumed run does, from the checkpoint that the one before has left, but with a
new optimizer. So a run that was killed between two stages, or anywhere, goes on exactly.
"""

import dataclasses
from typing import NamedTuple

from dr_tfx.config import specs


class Phase(NamedTuple):
    """A stage of a run.

    Attributes:
      number: from 0 on.
      end: epochs of the run at its end, those of earlier stages included.
      is_last: whether no stage follows. Only the last one may stop early.
      experiment: the settings of the run, with the layers and the learning rate of the stage.
      where: dotted key of the group that holds its learning rate.
    """

    number: int
    end: int
    is_last: bool
    experiment: specs.Experiment
    where: str


def of(experiment: specs.Experiment) -> list[Phase]:
    """Return the stages of a run, in order."""
    found: list[Phase] = []
    for number, stage in enumerate(experiment.training.stages):
        during = dataclasses.replace(
            experiment,
            model=dataclasses.replace(experiment.model, trainable_layers=stage.trainable_layers),
            training=dataclasses.replace(experiment.training, learning_rate=stage.learning_rate),
        )
        where = f"config.training.stages[{number}]"
        end = (found[-1].end if found else 0) + stage.epochs
        found.append(Phase(number, end, is_last=False, experiment=during, where=where))
    end = (found[-1].end if found else 0) + experiment.training.epochs
    last = Phase(len(found), end, is_last=True, experiment=experiment, where="config.training")
    return [*found, last]
