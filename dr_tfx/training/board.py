"""What a run writes for TensorBoard."""

from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

PROFILED = (10, 20)  # First and last step of --profile, after a start; tracing is over by then.


class Board:
    """TensorBoard's files: every epoch's figures as Keras names them, and a profile of steps."""

    def __init__(self, folder: Path, profile_from: int | None):
        """Args: the folder, and the global step of the start if some steps shall be profiled."""
        self._folder = folder
        self._writers: dict[str, Any] = {}
        start = profile_from
        self._profiled = None if start is None else [start + step for step in PROFILED]
        self._profiling = False

    def write(self, row: dict[str, float], epoch: int) -> None:
        """Writes a row of history.csv; `val_x` becomes validation's `epoch_x`."""
        for name, value in row.items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(str(self._folder / part))
            if name != "epoch":
                with self._writers[part].as_default():
                    tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value, step=epoch)
        for writer in self._writers.values():
            writer.flush()

    def before(self, step: int) -> None:
        """Starts and stops the profile, between steps."""
        if self._profiled is None:
            return
        first, last = self._profiled
        if step == first:
            tf.profiler.experimental.start(str(self._folder))
            self._profiling = True
        elif step > last and self._profiling:
            self._stop_profile()

    def close(self) -> None:
        """Ends what is open."""
        if self._profiling:
            self._stop_profile()
        elif self._profiled:
            logging.warning("No profile: there were fewer than %d steps left.", PROFILED[0])
        for writer in self._writers.values():
            writer.close()

    def _stop_profile(self) -> None:
        tf.profiler.experimental.stop()
        self._profiling, self._profiled = False, None
        logging.info("The profile is in %s: tensorboard --logdir=%s", self._folder, self._folder)
