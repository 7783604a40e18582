"""Builds of the `raw` fixture in this process."""

from pathlib import Path

from beam_jobs.build_examples import job
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from tests.helpers.drawn import eyepacs_like

SPEC = eyepacs_like()


def build(
    raw: Path, output_dir: Path, *, spec: specs.DatasetSpec = SPEC, **kwargs
) -> manifest.Manifest:
    return job.build(
        spec,
        image_dir=str(raw),
        labels=str(raw / "labels.csv"),
        output_dir=str(output_dir),
        **kwargs,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
