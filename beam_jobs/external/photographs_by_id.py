"""The photographs of a folder by the ids that a build gives them."""

import collections

from beam_jobs.build_examples import photograph_names
from dr_tfx.sources import find_source, given


def find(image_dir: str) -> dict[str, given.GivenPhotograph]:
    """Return photographs by their ids; one whose id another has, too, is left out.

    Args:
      image_dir: a folder, a pattern, an archive, or several of these, as for a build.

    Raises:
      FileNotFoundError, ValueError: as `find_source.open_source`.
    """
    source = find_source.open_source(image_dir)
    found = [(photograph_names.identify(name), name) for name, _ in source.names()]
    count = collections.Counter(name for name, _ in found)
    return {
        one: given.GivenPhotograph(source.path(name), source, name)
        for one, name in found
        if count[one] == 1
    }
