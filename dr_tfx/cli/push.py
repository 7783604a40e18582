"""Writes an evaluated run into a repository of the Hub of Hugging Face.

    drtfx-push --workdir=RUN --repository=USER/NAME

USER/NAME receives, in one commit, bundle.json, weights.safetensors, model.keras and, as README.md,
the model card of RUN/evaluation: that of the test split, or else of validation. A run that has not
been evaluated is refused. No photograph, no report and no table of predictions is sent, and names
of photographs and patients are numbered.

It needs `pip install 'dr_tfx[hub]'`, and a token: `hf auth login`, or HF_TOKEN. HF_ENDPOINT names
another Hub.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from dr_tfx.cli import console

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the evaluated run.", required=True)
_REPOSITORY = flags.DEFINE_string(
    "repository", None, "USER/NAME on the Hub; created if it is missing.", required=True
)
_PUBLIC = flags.DEFINE_bool("public", False, "Make a new repository public; it is private if not.")


def main(argv: Sequence[str]) -> None:
    """Make the call that the flags describe; print the address of the commit."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {' '.join(argv[1:])}")
    from dr_tfx.serving import hub  # Not above: --help need not wait for it.

    print(hub.push(Path(_WORKDIR.value), _REPOSITORY.value, private=not _PUBLIC.value))


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__)


if __name__ == "__main__":
    run()
