r"""Look at photographs and labels, and print what they are and how to build them.

    drtfx-inspect RAW
    drtfx-inspect --labels=trainLabels.csv --image_dir=train.zip

The argument, or --image_dir, is what --image_dir of drtfx-build-examples takes: a folder, a quoted
pattern, a .zip archive, or several of them with commas between. Without --labels the tables in and
beside a folder are tried, and then the folders that the photographs lie in.

The command prints formats and sizes, damaged and identical files, the columns and what they seem to
mean, rows without a photograph and photographs without a row. These lines begin with `#`. Then it
prints a config and the build command, as lines for a shell, so that all of it can be typed, or run:

    drtfx-inspect RAW > build.sh
    sh build.sh

It decodes --sample photographs to find damaged ones; --sample=0 decodes all of them. Nothing is
written.
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence

from absl import app, flags

from beam_jobs.inspection import look_at_labels, look_at_photographs, proposal
from dr_tfx.cli import console
from dr_tfx.sources import find_source, frames, given
from dr_tfx.storage import seen_text

_LABELS = flags.DEFINE_string("labels", "", "The labels, as --labels of drtfx-build-examples.")
_IMAGE_DIR = flags.DEFINE_string("image_dir", None, "The same as the argument.")
_SAMPLE = flags.DEFINE_integer(
    "sample", 200, "Photographs to decode, spread over all; 0 for all.", lower_bound=0
)

_SHOWN = 5  # Names in a list.


def main(argv: Sequence[str]) -> None:
    """Print what the argument holds, and the lines that build it."""
    places = [*filter(None, [_IMAGE_DIR.value]), *argv[1:]]
    place, others = given.unexpanded(places[0] if places else None, places[1:])
    if place is None or others:
        raise app.UsageError(
            "expected one folder, pattern or archive of photographs, or several with commas between"
        )
    logging.getLogger("beam_jobs").setLevel(logging.INFO)
    source = find_source.open_source(place)
    photographs = look_at_photographs.look(source, given=place, sample=_SAMPLE.value)
    labels = look_at_labels.of_photographs(_LABELS.value, source.path(""), photographs)
    proposed = proposal.propose(photographs, labels)
    lines = [*_told(photographs), *_told_labels(labels)]
    for line in [*lines, *(proposed.look if proposed.command else [])]:
        print(f"# {seen_text.printable(line)}".rstrip())
    if not proposed.command:
        sys.exit(f"error: {proposed.look[0]}")
    print(proposal.script(proposed), end="")


def _told(found: look_at_photographs.PhotographFindings) -> Iterator[str]:
    """Yield lines on the photographs."""
    yield found.place
    yield f"  {found.where}; {found.size / 1e6:,.1f} MB"
    if cut := {name for name in map(frames.parts, found.names) if name}:
        count = len({name.file for name in cut})
        yield (
            f"  {len(cut):,} of them are frames of {count:,} DICOM files. Labels name a file, for "
            "all its frames, or a frame, such as " + str(min(cut))
        )
    for why, count in found.left_out.items():
        yield f"  left out: {count:,} pictures {why}"
    yield f"  decoded {found.looked_at:,} of {len(found.names):,}: {_counted(found.formats)}"
    yield f"  pixels: {_counted(found.sizes)}"
    if found.damaged:
        yield f"  {len(found.damaged):,} cannot be read:"
        yield from (f"    {name}: {why}" for name, why in found.damaged[:_SHOWN])
    if found.twins:
        yield f"  {len(found.twins):,} groups of identical files:"
        yield from (f"    {', '.join(names[:_SHOWN])}" for names in found.twins[:_SHOWN])


def _told_labels(found: look_at_labels.LabelFindings | None) -> Iterator[str]:
    """Yield lines on the labels."""
    if found:
        yield found.given
        yield from (f"  {line}" for line in found.told)


def _counted(counts: Mapping[str, int]) -> str:
    fullest = sorted(counts.items(), key=lambda one: -one[1])[:_SHOWN]
    told = [f"{count:,} {what}" for what, count in fullest]
    rest = len(counts) - len(told)
    return ", ".join([*told, f"and {rest:,} more kinds"] if rest else told) or "none"


def run() -> None:
    """Start the command."""
    console.run(main, module=__name__, doc=__doc__, decodes=True)


if __name__ == "__main__":
    run()
