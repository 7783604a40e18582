"""Several labels an image, of which any number may hold: each set of them is one label.

A data set has one whole number an image. With n columns it is the set of those that are 1, a bit
each, the first column the lowest; its name says which. So splits and shards, which are stratified
by the label, know of sets nothing more than of grades.
"""

import itertools
from collections.abc import Sequence

MOST = 8
NONE = "none"


def names(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the name of every set, 2**n of them.

    >>> names(("any", "subdural"))
    ('none', 'any', 'subdural', 'any+subdural')
    """
    rows = itertools.product((False, True), repeat=len(columns))
    return tuple("+".join(itertools.compress(columns, held[::-1])) or NONE for held in rows)


def columns_of(label_column: str, label_names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns whose sets the labels of a data set are; () if they are none.

    Args:
      label_column: the setting, columns with commas between.
      label_names: the setting.
    """
    columns = tuple(part.strip() for part in label_column.split(","))
    is_sets = 1 < len(columns) <= MOST and tuple(label_names) == names(columns)
    return columns if is_sets else ()
