"""The label that a text in a file of labels means."""

import itertools
import re
from collections.abc import Collection

from beam_jobs.build_examples import text_streams
from dr_tfx.config import specs

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # More digits are no label, and slow to read.
_LONGEST = 60  # Characters of a text in a message.


class LabelTexts:
    """The texts that stand for the labels of a data set.

    A text is one of `label_values`, or the name of a label, or, without `label_values`, its number.
    Capitals do not matter where no two texts differ by them alone.
    """

    def __init__(self, spec: specs.DatasetSpec):
        self._names = spec.label_names
        self._values = specs.label_values(spec)
        named = {name: label for label, name in enumerate(self._names)} | self._values
        exact = {text_streams.composed(text): label for text, label in named.items()}
        folded: dict[str, set[int]] = {}
        for text, label in exact.items():
            folded.setdefault(text.casefold(), set()).add(label)
        self._label_of = {text: next(iter(of)) for text, of in folded.items() if len(of) == 1}
        self._label_of |= exact

    def label(self, text: str) -> int | None:
        """Return the label of a text, which may be out of range; None if it means none."""
        text = text_streams.composed(text)
        known = self._label_of.get(text)
        if known is None:
            known = self._label_of.get(text.casefold())
        if known is None and not self._values and _INTEGER.fullmatch(text):
            return int(text)
        return known

    def number(self, text: str) -> int:
        """Return the label of a text, 0 or more; -1 if it means none that there is."""
        label = self.label(text)
        return -1 if label is None or not 0 <= label < len(self._names) else label

    def is_label(self, text: str) -> bool:
        """Tell whether a text is one of the labels."""
        return self.number(text) >= 0

    def reject(self, text: str) -> tuple[str, str]:
        """Return reason and detail against a text that is no label."""
        if not text:
            return "missing_label", "the label is empty"
        expected = f"0 to {len(self._names) - 1}"
        if self._values:
            expected = f"one of {some(self._values)}"
        if self.label(text) is not None:
            return "label_out_of_range", f"label {text}, expected {expected}"
        return "unknown_label", f"label {short(text)!r}, expected {expected}"


def short(text: str) -> str:
    """Return a text as a message can hold it."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def some(texts: Collection[str], most: int = 5) -> str:
    """Return the first texts, quoted."""
    shown = ", ".join(repr(short(text)) for text in itertools.islice(texts, most))
    return shown + (f" and {len(texts) - most:,} more" if len(texts) > most else "")
