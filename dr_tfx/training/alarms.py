"""Alarms while a model trains, raised from a run's history when it has learnt nothing for a while.

The kind of task says what is wrong with one epoch. An alarm stands once it has held for `PATIENCE`
epochs in a row, because every model is at chance in its first epochs, and until an epoch in which
it does not hold. The alarms are a function of the history alone, so that a run that was killed and
resumed repeats none.
"""

from collections.abc import Callable, Mapping, Sequence

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest

PATIENCE = 3  # Epochs in a row.

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


def standing(history: Sequence[Row], wrong_with: Callable[[Row], dict[str, str]]) -> dict[str, str]:
    """Return the alarms that stand after the last epoch, a sentence for each kind of alarm.

    Args:
      history: the rows of history.csv so far.
      wrong_with: returns what is wrong with one epoch, in the same form.
    """
    if len(history) < PATIENCE:
        return {}
    found = [wrong_with(row) for row in history[-PATIENCE:]]
    return {kind: text for kind, text in found[-1].items() if all(kind in one for one in found)}


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
    began = [
        f"ALARM: for {PATIENCE} epochs now: {text}"
        for kind, text in now.items()
        if kind not in before
    ]
    return began + [f"{over[kind]}." for kind in before if kind not in now]
