"""A worker process of the local runner: Beam's own, which ends when its job does."""

import logging
import sys

from dr_tfx.machine import interrupts, resources, tensorflow_start


def _main() -> None:
    # With a handler of its own, the first warning of a library does not make Python print them all:
    # Beam hands what is logged to the process of the job.
    logging.getLogger().addHandler(logging.NullHandler())
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    interrupts.end_with_parent()
    resources.end_quickly()
    if "tensorflow" in sys.argv:  # The work needs it.
        tensorflow_start.load()
    # It prints the traceback of an error, which the job raises too.
    sdk_worker.print = lambda *words, **settings: None
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    _main()
