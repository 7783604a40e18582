"""The command drtfx-predict: with --runner a Beam job, without one `dr_tfx.cli.predict` alone.

Beam takes seconds to load, which somebody with one photograph does not wait for.
"""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console, predict
from dr_tfx.sources import given
from dr_tfx.storage import locks

_RUNNER = "--runner"
# Flags that go with no runner.
_OTHERS = ("watch", "figures", "masks_dir", "lesions", "dicom_results")


def main(argv: Sequence[str]) -> None:
    """Read the photographs that the flags name as a Beam job; print the folder as the last line."""
    from beam_jobs.predict import job
    from beam_jobs.runners import beam_flags
    from dr_tfx.explanation import answering
    from dr_tfx.inference import prediction_files

    logging.getLogger("beam_jobs").setLevel(logging.INFO)
    logging.getLogger("apache_beam").setLevel(logging.WARNING)
    logging.getLogger("apache_beam.runners.common").setLevel(logging.CRITICAL)
    values = flags.FLAGS
    if there := [word for word in argv[1:] if os.path.exists(word)]:
        raise app.UsageError(
            f"{', '.join(there)}: with {_RUNNER}, photographs are named by --image_dir"
        )
    options = beam_flags.options(argv[1:])
    console.require("image_dir", others=argv[1:])
    values["figures"].value = values.figures and values["figures"].present
    if refused := [f"--{name}" for name in _OTHERS if values[name].value]:
        raise app.UsageError(
            f"{', '.join(refused)} cannot be given with {_RUNNER}: many photographs are read "
            "without figures, once. drtfx-explain draws heat maps of many as a Beam job"
        )
    folder = predict.model_folder()
    output_dir = Path(values.output_dir or folder / "predictions")
    beam_flags.check_folders(options, workdir=str(folder), output_dir=str(output_dir))
    found = given.photographs(values.image_dir, predict.recipe_of(folder))
    given.check_apart(found, output_dir)
    model = predict.opened(folder)
    marker = model.mark() if model.mark else None
    _, names = answering.names_of(model.experiment, marker, has_masks=False)
    seen = job.Model(
        folder.absolute(),
        is_export=bool(values.model),
        digest=model.digest,
        marks=marker is not None,
        answer_names=tuple(names),
    )
    with locks.held(output_dir):
        made = {**predict.made(folder, model), **model.facts()}
        answers = prediction_files.PredictionFiles(output_dir.absolute(), names, made)
        kept = model.kept(answers)
        recipe = model.experiment.dataset.recipe
        job.predict(seen, recipe, found, answers, options, kept=kept)
        answers.finish()
        told = model.drifted(answers, kept)
    print(told, file=sys.stderr)
    print(answers.in_short(), file=sys.stderr)
    print(output_dir)
    if not answers.decided():
        sys.exit(1)


def run() -> None:
    """Start the command."""
    if not any(word.split("=")[0] == _RUNNER for word in sys.argv[1:]):
        predict.run()
    console.run(
        main,
        module=predict.__name__,
        doc=predict.__doc__,
        flags_parser=console.known_flags,
        decodes=True,
    )


if __name__ == "__main__":
    run()
