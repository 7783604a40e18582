"""The patient of each photograph: by a column of the CSV, by a pattern, or by tags of DICOM files.

In tags are the names that hospitals give. They are never written: a data set holds keyed hashes of
them (HMAC with SHA-256, RFC 2104). The key is the environment variable `DRTFX_PATIENT_KEY`; with
the same key, a patient has the same name in several data sets, so that one who is in two of them is
found. Without it, the key is made of all patients of the data set together and stored nowhere: the
same input gives the same bytes, and nobody can try out names who does not have the whole list.
"""

import hashlib
import hmac
import logging
import os

import pandas as pd

from beam_jobs.build_examples import label_table
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.sources import arrays, folders, refusals

KEY = "DRTFX_PATIENT_KEY"
_DIGITS = 16  # Hexadecimal digits of a name: 64 bits.

_LOG = logging.getLogger(__name__)


def named(
    table: label_table.LabelTable, spec: specs.DatasetSpec, source: folders.Source | None
) -> pd.DataFrame:
    """Return the rows with `patient`, and `is_told`: whether a column or the pattern tells it."""
    rows, pattern = table.rows, "" if isinstance(source, arrays.Arrays) else spec.patient_pattern
    patient = splits.patients(rows["id"], pattern)
    is_told = patient != splits.patients(rows["id"], "")
    if pattern and table.paths is not table.stems:
        paths = table.paths[rows.index[~is_told]]
        by_path = splits.patients(paths, pattern)
        by_path = by_path[by_path != splits.patients(paths, "")]
        patient.loc[by_path.index], is_told.loc[by_path.index] = by_path, True
    if pattern and not spec.patient_column and not is_told.any():
        _LOG.warning(
            "no id matches config.dataset.patient_pattern %r (first id: %r)",
            pattern,
            rows["id"].iloc[0],
        )
    if "patient" in rows:
        by_column = rows["patient"] != ""
        patient, is_told = rows["patient"].where(by_column, patient), is_told | by_column
    return rows.assign(patient=patient, is_told=is_told.to_numpy(dtype=bool))


def check_key(spec: specs.DatasetSpec) -> None:
    """Refuse patients of tags whose names would change with other patients, before any reading.

    Raises:
      UnusableInput: the split is by hash, and there is no key.
    """
    if spec.split.method == "hash" and spec.patient_tags == "hashed" and not os.environ.get(KEY):
        raise refusals.UnusableInput(
            "{split_method} is 'hash', which no other patient may change, but patients of tags get "
            "names with a key that all of them make: set the environment variable {key} to some "
            "words that only you know",
            key=KEY,
        )


def with_tags(
    rows: pd.DataFrame, found: pd.DataFrame, told: pd.Series, spec: specs.DatasetSpec
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all rows, and those with a photograph, with the patients that tags tell.

    Args:
      rows: all rows.
      found: those with a photograph.
      told: what the tag of the patient says of each of these, "" where a file has none.
      spec: `patient_column` is the tag's name, and `patient_tags` says how it is written.

    Raises:
      UnusableInput: no file has the tag.
    """
    told = _written(told.tolist(), spec).set_axis(found.index)
    told = told[told != ""]
    rows, found = rows.copy(), found.copy()
    for table in (rows, found):
        table.loc[told.index, "patient"], table.loc[told.index, "is_told"] = told, True
    return rows, found


def _written(told: list[str], spec: specs.DatasetSpec) -> pd.Series:
    """Return the name by which each patient is written, a Series of TEXT; "" for those of no tag.

    Raises:
      UnusableInput: no file has the tag.
    """
    known = sorted({*told} - {""})
    if not known:
        raise refusals.UnusableInput(
            "{csv_column} is a tag of DICOM files, as no column has this name, but none of the "
            "{count} files has it. Set {patient_column} to the right column or tag, or to '' if "
            "nothing tells the patient",
            csv_column=spec.patient_column,
            count=len(told),
        )
    if spec.patient_tags == "hashed":
        key = os.environ.get(KEY, "").encode() or hashlib.sha256("\n".join(known).encode()).digest()
        name_of = {text: _hashed(key, text) for text in known}
        told = [name_of.get(text, "") for text in told]
    return splits.text([told])


def _hashed(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:_DIGITS]
