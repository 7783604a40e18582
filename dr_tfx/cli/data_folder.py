"""What --data_dir says to a command: the folder of a data set, wherever that is."""

from pathlib import Path

from absl import flags

from dr_tfx.dataset import places

WHERE = "A data set in an object store is read from there: gs://BUCKET/data."
"""The end of the help of --data_dir."""
_CACHE_DIR = flags.DEFINE_string(
    "cache_dir",
    None,
    "Where the examples of a data set in an object store are kept from run to run; ~/.cache/dr_tfx "
    "if not given.",
)
_CACHE_GB = flags.DEFINE_float(
    "cache_gb",
    None,
    "How many GB of 1e9 bytes these examples may take; half of what is free on the disk if not "
    "given. Splits that are read from end to end, as validation is, have to fit.",
    lower_bound=0.0,
)


def local(given: str) -> Path:
    """Return the local folder of a data set; see `places.folder`, which raises."""
    return places.folder(given, cache_dir=_CACHE_DIR.value, cache_gb=_CACHE_GB.value)
