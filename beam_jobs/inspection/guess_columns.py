"""The likely meaning of the columns of a table: photograph, label, patient, split."""

import dataclasses
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from dr_tfx.dataset import splits

MOST_LABELS = 50  # A column of more values is no label.
_LABEL = re.compile(
    r"label|level|grade|diagnos|class|target|severity|^dr$|^y$|등급|진단|라벨|레이블|분류|단계",
    re.IGNORECASE,
)
_IMAGE = re.compile(r"image|img|file|path|photo|fundus|scan|id_code|파일|사진|영상", re.IGNORECASE)
_PATIENT = re.compile(
    r"patient|subject|person|participant|\bpid\b|\bmrn\b|환자|피험자|대상자", re.IGNORECASE
)
_SPLIT = re.compile(r"split|subset|partition|usage|^set$|fold|구분|분할|용도", re.IGNORECASE)
_HEALTHY = re.compile(
    r"normal|healthy|negative|^neg|^no[ _-]|^no$|none|control|false|absent|정상|음성|없음",
    re.IGNORECASE,
)
_INTEGER = re.compile(r"\d{1,2}(?:\.0+)?")
_EYE = r"(?i)^(.+)[ _.-](?:left|right|l|r|od|os|좌안|우안|좌|우)$"


@dataclasses.dataclass(frozen=True)
class ColumnMeanings:
    """The columns that a build needs. "" and () stand for none."""

    image: tuple[str, ...]  # More than one: several photographs a row.
    label: tuple[str, ...]  # More than one: each row has a 1 in one of them, and 0 in the others.
    values: tuple[str, ...]  # The labels: numbers in their order, or names, healthy ones first.
    patient: str
    split: str


def guess(table: pd.DataFrame, named: Mapping[str, pd.Series]) -> ColumnMeanings:
    """Return the likely meaning of the columns.

    Args:
      table: text without spaces around it, some or all rows.
      named: column -> a number for the photograph that each row names, below 0 for none, for the
        columns that name any.
    """
    image = _images(table, named)
    rest = [column for column in table.columns if column not in image]
    split = next((c for c in rest if _SPLIT.search(c) and is_split(table[c])), "")
    split = split or next((c for c in rest if is_split(table[c])), "")
    patient = next((c for c in rest if c != split and _PATIENT.search(c)), "")
    rest = [column for column in rest if column not in (split, patient)]
    if one_hot := _one_hot(table, rest):
        return ColumnMeanings(image, one_hot, one_hot, patient, split)
    likely = {column: _likely_label(table[column]) for column in rest}
    label = max(rest, key=lambda column: likely[column], default="")
    if not likely.get(label):
        return ColumnMeanings(image, (), (), patient, split)
    return ColumnMeanings(image, (label,), tuple(order(table[label])), patient, split)


def is_split(values: pd.Series) -> bool:
    """Tell whether all values are words for splits, two of them at least."""
    found = {splits.named(value) for value in values.unique()}
    return "" not in found and len(found) > 1


def order(values: pd.Series) -> list[str]:
    """Return the values of a label: numbers in their order, texts with the healthy ones first."""
    found = [value for value in values.unique().tolist() if value]
    if all(map(_INTEGER.fullmatch, found)):
        return sorted({str(int(float(value))) for value in found}, key=int)
    return healthy_first(found)


def healthy_first(names: Sequence[str]) -> list[str]:
    """Return names sorted, those that mean that nothing was found first."""
    return sorted(names, key=lambda name: (not is_healthy(name), name))


def is_healthy(name: str) -> bool:
    """Tell whether the name of a label says that nothing was found."""
    return bool(_HEALTHY.search(name))


def is_number(values: Sequence[str]) -> bool:
    """Tell whether the values are whole numbers from 0 up."""
    return all(map(_INTEGER.fullmatch, values))


def patient_pattern(stems: Sequence[str]) -> str:
    """Return the pattern of the patient in names such as `10_left`, or "" if they are not so."""
    found = [match[1] for match in map(re.compile(_EYE).match, stems) if match]
    is_so = len(found) > 0.9 * len(stems) and len(set(found)) < len(found)
    return _EYE if is_so else ""


def _images(table: pd.DataFrame, named: Mapping[str, pd.Series]) -> tuple[str, ...]:
    """Return the column of the photographs; several if they name others, as one for each eye.

    A column of numbers, such as that of the rows, may happen to name photographs, too.
    """
    matched = {column: float((places >= 0).mean()) for column, places in named.items()}
    least = 0.5 * max(matched.values(), default=0.0)
    likely = sorted(
        (column for column, share in matched.items() if share > least),
        key=lambda c: (-round(matched[c], 2), not _IMAGE.search(c), -table[c].nunique()),
    )
    kept: list[str] = []
    for column in likely:
        places = named[column][named[column] >= 0]
        if not any(places.isin(named[other]).any() for other in kept):
            kept.append(column)
    return tuple(column for column in table.columns if column in kept)


def _one_hot(table: pd.DataFrame, columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of 0 and 1 if there are several, and each row has one 1."""
    binary = [c for c in columns if set(table[c].unique()) <= {"0", "1", "0.0", "1.0"}]
    if len(binary) < 2:
        return ()
    ones = table[binary].isin(["1", "1.0"]).sum(axis=1)
    return tuple(healthy_first(binary)) if (ones == 1).all() else ()


def _likely_label(values: pd.Series) -> float:
    """Return how likely a column is the label; 0 or less if it cannot be."""
    distinct = values[values != ""].unique().tolist()
    if not 2 <= len(distinct) <= min(MOST_LABELS, max(len(values) // 2, 2)):
        return 0.0
    numbers = is_number(distinct)
    score = 3.0 if _LABEL.search(str(values.name)) else 0.0
    score += 1.5 if numbers and min(float(value) for value in distinct) == 0 else 0.0
    score += 0.5 if not numbers and any(map(_HEALTHY.search, distinct)) else 0.0
    return score + 1 / len(distinct)
