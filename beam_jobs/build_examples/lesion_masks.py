"""The masks of a build: what `config.dataset.masks` names, found beside the photographs."""

from collections.abc import Iterable

from beam_jobs.build_examples import photograph_names
from dr_tfx.config import specs
from dr_tfx.preprocessing import mask_files
from dr_tfx.sources import folders, refusals


def open_folder(
    masks_dir: str, spec: specs.DatasetSpec, source: folders.Source | None
) -> mask_files.MaskFolder | None:
    """List the masks that the settings name; None if they name none.

    Args:
      masks_dir: the folder of the masks, or "".
      spec: the data set's settings.
      source: the photographs. None: no mask is looked for.

    Raises:
      ValueError: there is no such folder, or the settings and what was given do not fit each other.
    """
    if masks_dir and not spec.masks:
        raise refusals.UnusableInput(
            "{masks_dir}={place} holds masks, but {masks} names none; set it to their folders, as "
            'in {masks}=\'("MA", "HE")\'',
            place=masks_dir,
        )
    if not spec.masks or source is None:
        return None
    if source.is_prepared:
        raise refusals.UnusableInput(
            "{masks} is {names}, but the photographs are an array that was prepared elsewhere, so "
            "that nobody knows which part of each they show. Give the photographs as {image_dir}",
            names=spec.masks,
        )
    if not masks_dir:
        raise refusals.UnusableInput(
            "{masks} is {names}: give the folder of these masks as {masks_dir}, or set {masks}=()",
            names=spec.masks,
        )
    try:
        return mask_files.open_folder(masks_dir, spec.masks)
    except ValueError as error:
        raise refusals.UnusableInput("{masks_dir}: {error}", error=error) from error


def find(masks: mask_files.MaskFolder, name: str) -> dict[str, mask_files.MaskFile]:
    """Return kind -> file of the masks of a photograph by its name in its source."""
    return masks.find(photograph_names.identify(name))


def has_any(masks: mask_files.MaskFolder, name: str) -> bool:
    """Tell whether a photograph has a mask; where all kinds are in one file, whether that has any.

    A file that cannot be read counts, as its photograph becomes a reject.
    """
    found = find(masks, name)
    if not (masks.is_coded and found):
        return bool(found)
    try:
        return any(mask.any() for mask in mask_files.read(found).values())
    except ValueError:
        return True


def check_names(masks: mask_files.MaskFolder, names: Iterable[str]) -> None:
    """Refuse masks of other photographs, and photographs whose masks cannot be told apart.

    Args:
      masks: what `open_folder` returned.
      names: of all photographs that are used, in their source.

    Raises:
      ValueError: two photographs share a stem, or no photograph has a mask.
    """
    stems: set[str] = set()
    has_mask = False
    for name in names:
        stem = photograph_names.identify(name)
        if stem in stems:
            raise refusals.UnusableInput(
                "two photographs are called {stem}: masks go by name and would be those of both. "
                "Rename one, with its masks",
                stem=stem,
            )
        stems.add(stem)
        has_mask = has_mask or bool(masks.find(stem))
    if not has_mask:
        stem, kind = min(stems), masks.kinds[0]
        raise refusals.UnusableInput(
            "{place} has no mask of any of the {count} photographs in {kinds}; for one of them, "
            "{stem}.png or {stem}_{kind}.png was expected",
            place=masks.folder,
            count=len(stems),
            kinds=", ".join(masks.kinds),
            stem=stem,
            kind=kind,
        )
