"""Labels without a file: folders, names or masks of the photographs tell them, or nothing does."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence

from beam_jobs.build_examples import label_texts, lesion_masks, photograph_names
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import mask_files
from dr_tfx.sources import arrays, folders, refusals

FOLDERS = "folders"  # In place of a file: the folder of a photograph is its label.
NAMES = "names"  # In place of a file: the names of photographs carry their labels.
MASKS = "masks"  # In place of a file: the label is whether a photograph has a mask.
NONE = "none"  # In place of a file: all photographs have the first label.
WORDS = (FOLDERS, NAMES, MASKS, NONE)


def rows(
    way: str,
    spec: specs.DatasetSpec,
    source: folders.Source | None,
    masks: mask_files.MaskFolder | None,
) -> Iterator[tuple[list[str], list[str], list[str] | None]]:
    """Yield photographs, their labels and, if the split is one of folders, these, as text.

    Args:
      way: one of WORDS.
      spec: the labels, and where they are found.
      source: the photographs.
      masks: their masks.

    Raises:
      ValueError: there is nothing that could tell the labels.
    """
    if source is None or isinstance(source, arrays.Arrays):
        raise refusals.UnusableInput(
            "{labels}={way} takes the {way} of photographs for their labels: give {image_dir}",
            way=way,
        )
    if way == NAMES and not spec.label_pattern:
        raise refusals.UnusableInput(
            "{labels}=names takes the labels from the names of photographs: set {label_pattern} to "
            "a regular expression whose first (group) is the label, such as '^([gn])' for "
            "g0001.jpg and n0001.jpg"
        )
    if way == MASKS and (masks is None or len(spec.label_names) != 2):
        raise refusals.UnusableInput(
            "{labels}=masks labels a photograph by whether it has a mask: give {masks_dir} and set "
            '{masks}, and {label_names} to two names, such as ("without", "with")'
        )
    ways: dict[str, Callable[[str], str]] = {
        FOLDERS: functools.partial(_label_of_folder, texts=label_texts.LabelTexts(spec)),
        NAMES: functools.partial(_label_in_name, spec=spec),
        MASKS: lambda name: spec.label_names[bool(masks and lesion_masks.has_any(masks, name))],
        NONE: lambda name: spec.label_names[0],
    }
    label_of = ways[way]
    names = sorted(name for name, _ in source.names())
    for start in range(0, len(names), splits.CHUNK):
        piece = names[start : start + splits.CHUNK]
        labels = [label_of(name) for name in piece]
        official = None
        if spec.split.method == "column":
            official = [next(filter(splits.named, _folders(name)), "") for name in piece]
        yield piece, labels, official


def _folders(name: str) -> Sequence[str]:
    """Return the folders above a photograph, from the outermost on."""
    return photograph_names.parts(photograph_names.normalise(name)).folders


def _label_of_folder(name: str, texts: label_texts.LabelTexts) -> str:
    """Return the folder nearest to a photograph that is a label, or else the nearest folder."""
    above = _folders(name)
    return next(filter(texts.is_label, reversed(above)), above[-1] if above else "")


def _label_in_name(name: str, spec: specs.DatasetSpec) -> str:
    """Return what the pattern finds in the file's name, or else in the path."""
    path = photograph_names.normalise(name)
    for text in (photograph_names.base_of(path), path):
        if found := re.search(spec.label_pattern, text):
            return found[1] or ""
    return ""
