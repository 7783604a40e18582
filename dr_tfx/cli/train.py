"""Train a model on a data set that drtfx-build-examples has written.

This writes into --workdir: the bundle (weights.safetensors, model.keras and bundle.json, all that
is needed to score a raw photograph), history.csv, checkpoints/ and tensorboard/. If it is
interrupted, the same command resumes at the last checkpoint; there is one after every epoch, and
one after as many steps as --config.training.checkpoint_steps says.

Example:

    drtfx-train --config=dr_binary --data_dir=DATA --workdir=RUN

Any setting can be changed on the command line; the list is below the flags, and drtfx-config has
it, too:

    drtfx-train --config=dr_binary --data_dir=DATA --workdir=RUN \\
        --config.training.epochs=2 --config.model.weights=none

The settings of the data set, such as --config.dataset.recipe.size, are those that DATA was built
with, whatever the config says of them.

The same command with a larger --config.training.epochs goes on with a finished run. A rate that
falls at plateaus goes on as it was. A cosine has ended at 0, so the further epochs are another wave
of it, and the bundle says so.

--config.model.weights says how the network starts: imagenet (downloaded), none (from scratch), the
folder of a run (the whole network, or, of drtfx-pretrain, the backbone), or the path of a file of
weights of the backbone. --config.training.precision is auto, float32, mixed_float16 or
mixed_bfloat16.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx import tasks
from dr_tfx.cli import console, data_folder, run_settings
from dr_tfx.config import declared, specs
from dr_tfx.machine import resources, tensorflow_start

_CONFIG = run_settings.define()
flags.declare_key_flag("config")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, f"Folder written by drtfx-build-examples. {data_folder.WHERE}"
)
flags.adopt_module_key_flags(data_folder)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; created if it is missing.")
_FOLD = flags.DEFINE_integer(
    "fold",
    None,
    "The fold that is tested, from 0 on, of a data set built with --config.dataset.split.folds; "
    "the next one is the validation split, the others are trained on. Overrides "
    "config.training.fold.",
    lower_bound=0,
)
_MAX_MEMORY_GB = flags.DEFINE_float(
    "max_memory_gb",
    None,
    "Memory ceiling of all processes of the run together, in GB of 1e9 bytes. At the ceiling the "
    "run saves a checkpoint and stops with an error before the system kills it; the same command "
    "with a higher ceiling resumes it. Overrides config.training.max_memory_gb.",
    lower_bound=0.0,
)
_DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    None,
    "Make the weights bit-identical in every run on the same machine, however often it is "
    "interrupted; this is slower. Overrides config.training.deterministic.",
)
_PROFILE = flags.DEFINE_bool(
    "profile",
    False,
    "Write a profile of 10 steps into WORKDIR/tensorboard, which shows whether the input or the "
    "model takes the time. Look at it with `tensorboard --logdir=WORKDIR/tensorboard`, tab Profile "
    "(pip install tensorboard-plugin-profile).",
)
_TRACKER = flags.DEFINE_multi_enum(
    "tracker",
    [],
    ["mlflow", "wandb"],
    "Tell MLflow or Weights & Biases, too, what TensorBoard is told: the figures of every epoch. "
    "Their own settings, such as MLFLOW_TRACKING_URI and WANDB_MODE=offline, say where it goes. It "
    "can be given twice (pip install 'dr_tfx[mlflow]' or 'dr_tfx[wandb]').",
)


def main(argv: Sequence[str]) -> None:
    """Read the flags and make one call."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(argv[1:])}.")
    config = _CONFIG.value
    for flag in (_FOLD, _MAX_MEMORY_GB, _DETERMINISTIC):
        if flag.value is not None:
            config.training[flag.name] = flag.value
    data_dir = data_folder.local(_DATA_DIR.value)
    experiment = run_settings.read(_CONFIG, data_dir)
    resources.tune_malloc()
    tensorflow_start.load()
    from dr_tfx.models import bundle_file
    from dr_tfx.training import train  # Late, so that --help and refusals are fast.

    workdir = train.train(
        experiment,
        data_dir=data_dir,
        workdir=Path(_WORKDIR.value),
        profile=_PROFILE.value,
        tracked_by=_TRACKER.value,
        config=bundle_file.Config(*run_settings.unchanged(_CONFIG)),
    )
    print(workdir)
    console.tell_next("drtfx-evaluate", f"--workdir={workdir}", f"--data_dir={_DATA_DIR.value}")


def run() -> None:
    """Run the command; its console script calls this."""
    flags.mark_flags_as_required(["config", "data_dir", "workdir"])
    console.run(main, module=__name__, doc=__doc__, below_help=_settings)


def _settings() -> str:
    """Return the settings of the default task, for --help."""
    defaults = tasks.defaults(specs.Task.kind)
    paragraphs = declared.described(defaults, defaults, path="--config")
    head = "The settings of a binary task; drtfx-config shows those of any config:"
    return "\n\n".join([head, *paragraphs])


if __name__ == "__main__":
    run()
