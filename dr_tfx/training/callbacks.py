"""Keras callbacks of others in a run: they see its epochs, and may change the rate or end it."""

from collections.abc import Mapping, Sequence

import keras


class Guests:
    """Callbacks that were given to a run.

    The loop is the library's own, and steps are not waited for one by one; so callbacks are told of
    the epochs and not of the batches. A run that goes on after an interruption begins anew for
    them, with the number of its next epoch.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback]):
        """Tell nobody yet."""
        self._callbacks = list(callbacks)
        self._begun = False

    def meet(self, model: keras.Model, *, epochs: int, steps: int) -> None:
        """Give them the model of a stage, and tell them once that the training begins.

        Args:
          model: the compiled model that is trained; averages of its weights are another one.
          epochs: of the run, all stages together.
          steps: of an epoch.
        """
        for callback in self._callbacks:
            callback.set_model(model)
            if not self._begun:
                callback.set_params({"epochs": epochs, "steps": steps, "verbose": 0})
                callback.on_train_begin()
        self._begun = True

    def epoch_begins(self, epoch: int) -> None:
        """Tell them that an epoch begins, numbered from 0 on as Keras does."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch)

    def epoch_ends(self, epoch: int, row: Mapping[str, float]) -> None:
        """Tell them the figures of an epoch, its row of history.csv."""
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, dict(row))

    def leave(self) -> None:
        """Tell them that the training has come to its end."""
        if self._begun:
            for callback in self._callbacks:
                callback.on_train_end()
