r"""Lets a backbone learn from photographs without labels, to begin other tasks from.

    drtfx-build-examples --config=pretrain --image_dir=RAW --labels=none --output_dir=DATA
    drtfx-pretrain --data_dir=DATA --workdir=RUN

It is drtfx-train with --config=pretrain, if no other config is given: the same flags, the same
folder of a run, and the same command again goes on. Two views of a photograph, changed by chance,
are to be alike, and those of different photographs are not (SimCLR). Labels are not read.

Any task begins from its backbone, which is in RUN/weights.safetensors:

    drtfx-train --config=lesions --data_dir=OTHER_DATA --workdir=TASK \\
        --config.model.weights=RUN
"""

import sys

from absl import flags

from dr_tfx.cli import console, train


def run() -> None:
    """Run the command; its console script calls this."""
    if not any(word.lstrip("-").partition("=")[0] == "config" for word in sys.argv[1:]):
        sys.argv.insert(1, "--config=pretrain")
    flags.mark_flags_as_required(["config", "data_dir", "workdir"])
    console.run(train.main, module=train.__name__, doc=__doc__)


if __name__ == "__main__":
    run()
