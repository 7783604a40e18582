"""The files that a run writes for TensorBoard."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import logging

PROFILED = (
    10,
    20,
)  # First and last step of --profile, counted from the start; the graph is traced by then.


class Board:
    """TensorBoard's files: every epoch's figures as Keras names them, and a profile of steps."""

    def __init__(self, folder: Path, profile_from: int | None):
        """Open no file yet.

        Args:
          folder: where the files go.
          profile_from: the global step at which this process starts, if it is to profile the steps
            `PROFILED` after it; None for no profile.
        """
        self._folder = folder
        self._writers: dict[str, Any] = {}
        self._profiled = None if profile_from is None else [profile_from + n for n in PROFILED]
        self._profiling = False

    def write(self, row: dict[str, float], epoch: int) -> None:
        """Write a row of history.csv; the column `val_x` becomes `epoch_x` of validation.

        Raises:
          OSError: the disk is full.
        """
        with self._full_disk_named():
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
        """Start or stop the profile; to be called before each step."""
        if self._profiled is None:
            return
        first, last = self._profiled
        if step == first:
            tf.profiler.experimental.start(str(self._folder))
            self._profiling = True
        elif step > last and self._profiling:
            self._stop_profile()

    def close(self) -> None:
        """Stop the profile and close the files."""
        if self._profiling:
            self._stop_profile()
        elif self._profiled:
            logging.warning(
                "No profile was written: this run had fewer than %d steps left.", PROFILED[0]
            )
        with self._full_disk_named():
            for writer in self._writers.values():
                writer.close()

    @contextlib.contextmanager
    def _full_disk_named(self) -> Iterator[None]:
        """Turn TensorFlow's error about a full disk, its word for all scarcity, into Python's."""
        try:
            yield
        except tf.errors.ResourceExhaustedError as error:
            code = errno.ENOSPC
            raise OSError(code, os.strerror(code), str(self._folder)) from error

    def _stop_profile(self) -> None:
        tf.profiler.experimental.stop()
        self._profiling, self._profiled = False, None
        logging.info("The profile is in %s: tensorboard --logdir=%s", self._folder, self._folder)
