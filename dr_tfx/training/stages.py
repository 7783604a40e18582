"""The stages of a run: which layers learn in which epochs, and how fast.

A stage begins as a resumed run does, from the checkpoint that the one before has left, but with a
new optimizer. So a run that was killed between two stages, or anywhere, goes on exactly.
"""

import dataclasses
import math
from typing import NamedTuple

from dr_tfx.config import specs


class Phase(NamedTuple):
    """A stage of a run.

    Attributes:
      number: from 0 on.
      begin: epochs of the run at its begin.
      end: epochs of the run at its end, those of earlier stages included.
      is_last: whether no stage follows. Only the last one may stop early.
      experiment: the settings of the run, with the layers and the learning rate of the stage.
      where: dotted key of the group that holds its learning rate.
    """

    number: int
    begin: int
    end: int
    is_last: bool
    experiment: specs.Experiment
    where: str

    def rate(self, epochs: float) -> float:
        """Return the learning rate that the schedule `cosine` has after so many epochs of the run.

        It rises in a line, and then falls as half a wave of the cosine, to 0 at the end of the
        stage: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR
        2017, https://arxiv.org/abs/1608.03983, without the restarts.
        """
        training, length = self.experiment.training, self.end - self.begin
        warm, passed = training.warmup_epochs, epochs - self.begin
        if passed < warm or length <= warm:
            return training.learning_rate * passed / warm
        return (
            training.learning_rate * (1 + math.cos(math.pi * (passed - warm) / (length - warm))) / 2
        )


def of(experiment: specs.Experiment) -> list[Phase]:
    """Return the stages of a run, in order."""
    found: list[Phase] = []
    begin = 0
    for number, stage in enumerate(experiment.training.stages):
        during = dataclasses.replace(
            experiment,
            model=dataclasses.replace(experiment.model, trainable_layers=stage.trainable_layers),
            training=dataclasses.replace(experiment.training, learning_rate=stage.learning_rate),
        )
        end, where = begin + stage.epochs, f"config.training.stages[{number}]"
        found.append(Phase(number, begin, end, is_last=False, experiment=during, where=where))
        begin = end
    end = begin + experiment.training.epochs
    last = Phase(len(found), begin, end, True, experiment=experiment, where="config.training")
    return [*found, last]
