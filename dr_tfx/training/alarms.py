"""Alarms while a model trains: it learns nothing, said from a run's history after a few epochs.

What is wrong with one epoch is the task's to say. An alarm stands once it holds for `PATIENCE`
epochs in a row, as training begins with epochs in which every model is at chance, and until an
epoch in which it does not hold. What is said is a function of the history alone, so that a run that
was killed and goes on says nothing twice.
"""

from collections.abc import Callable, Mapping, Sequence

PATIENCE = 3

Row = Mapping[str, float]
"""One row of history.csv."""


def standing(history: Sequence[Row], wrong_with: Callable[[Row], dict[str, str]]) -> dict[str, str]:
    """Return the alarms that stand after the last epoch: the kind and a sentence.

    Args:
      history: the rows of history.csv so far.
      wrong_with: what is wrong with one epoch, in the same form.
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
      wrong_with: what is wrong with one epoch.
      over: a sentence for the end of each kind of alarm, without its full stop.
    """
    before, now = standing(history[:-1], wrong_with), standing(history, wrong_with)
    began = [
        f"ALARM: for {PATIENCE} epochs now: {text}"
        for kind, text in now.items()
        if kind not in before
    ]
    return began + [f"{over[kind]}." for kind in before if kind not in now]
