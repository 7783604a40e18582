"""A Beam pipeline's run to its end, with errors that people can read."""

import re

import apache_beam as beam
from absl import logging

_OF_SYSTEM = re.compile(r"\[Errno (\d+)\] (.+?): '(.+?)'")  # The text of an OSError with a file.
# What Beam writes around the sentence of an error: its class, and the step of the job.
_BEAMS = re.compile(r"^[\w.]*(?:Error|Exception): | ?\[while running '[^']*'\]")


def run(pipeline: beam.Pipeline) -> None:
    """Run a pipeline and wait until it has ended.

    Raises:
      OSError: a worker could not read or write a file.
      ValueError: the sentence of a worker's error.
    """
    try:
        pipeline.run().wait_until_finish()
    # What a worker raised comes as text alone, what was raised here with words of Beam.
    except (RuntimeError, ValueError) as error:
        logging.debug("%s", error)
        last = _BEAMS.sub("", str(error).strip().splitlines()[-1])
        if of_system := _OF_SYSTEM.search(last):
            number, words, file = of_system.groups()
            raise OSError(int(number), words, file) from error
        raise ValueError(f"{last} (--verbosity=1 shows where.)") from error
