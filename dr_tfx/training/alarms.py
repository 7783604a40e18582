"""Alarms while a model trains, raised from a run's history when it has learnt nothing for a while.

The kind of task says what is wrong with one epoch. An alarm stands once it has held for `PATIENCE`
epochs in a row, because every model is at chance in its first epochs, and until an epoch in which
it does not hold. A loss without a meaning is an alarm of every task, and stands at once. The alarms
are a function of the history alone, so that a run that was killed and resumed repeats none.
"""

from collections.abc import Callable, Mapping, Sequence

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest

PATIENCE = 3  # Epochs in a row.
MEANINGLESS = 1e6
"""From this loss on the outputs mean nothing, though they may be finite: weights have grown until
every score is 0 or 1, and a rounding of float32 is more than a score can tell."""

_DIVERGED = "diverged"

Row = Mapping[str, float]
"""One row of history.csv."""


class Watch:
    """The alarms of one run."""

    def __init__(self, experiment: specs.Experiment, data: manifest.Manifest):
        """Ask the kind of task what is wrong with an epoch, judged on the validation split."""
        task = tasks.of(experiment)
        self._judgement = task.judgement
        self._images = list(task.images(data, "validation").values())

    def standing(self, history: Sequence[Row]) -> dict[str, str]:
        """Return the alarms that stand after the last epoch of a history; see `standing`."""
        return standing(history, self._wrong_with)

    def changes(self, history: Sequence[Row]) -> list[str]:
        """Return sentences on the alarms that the last epoch began and ended; see `changes`."""
        return changes(history, self._wrong_with, self._judgement.alarm_over)

    def _wrong_with(self, row: Row) -> dict[str, str]:
        return self._judgement.wrong_with(row, self._images)


def has_diverged(row: Row) -> bool:
    """Tell whether the weights of an epoch are beyond use, so that it cannot be the best one."""
    return not abs(row["val_loss"]) < MEANINGLESS


def standing(history: Sequence[Row], wrong_with: Callable[[Row], dict[str, str]]) -> dict[str, str]:
    """Return the alarms that stand after the last epoch, a sentence for each kind of alarm.

    Args:
      history: the rows of history.csv so far.
      wrong_with: returns what is wrong with one epoch, in the same form.
    """
    alarms = {}
    if history and has_diverged(history[-1]):
        alarms[_DIVERGED] = (
            f"The validation loss is {history[-1]['val_loss']:.2g}: the training has diverged, and "
            "this epoch cannot be the best one. Lower config.training.learning_rate."
        )
    if len(history) < PATIENCE:
        return alarms
    found = [wrong_with(row) for row in history[-PATIENCE:]]
    return alarms | {
        kind: text for kind, text in found[-1].items() if all(kind in one for one in found)
    }


def changes(
    history: Sequence[Row],
    wrong_with: Callable[[Row], dict[str, str]],
    over: Mapping[str, str],
) -> list[str]:
    """Return sentences on the alarms that the last epoch began and ended.

    Args:
      history: the rows of history.csv so far.
      wrong_with: returns what is wrong with one epoch, a sentence for each kind of alarm.
      over: a sentence for the end of each kind of alarm, without its full stop.
    """
    before, now = standing(history[:-1], wrong_with), standing(history, wrong_with)
    over = {_DIVERGED: "The validation loss has a meaning again", **over}
    began = [
        f"ALARM: {text}" if kind == _DIVERGED else f"ALARM: for {PATIENCE} epochs now: {text}"
        for kind, text in now.items()
        if kind not in before
    ]
    return began + [f"{over[kind]}." for kind in before if kind not in now]
