"""The languages of pages and figures.

The code speaks English, and so do terminals and JSON files. A catalogue is the file CODE.toml of
this folder, a line a sentence: "English" = "what it is in the other language", both with the same
names in braces. Where a sentence is missing, the page shows it in English.

The table `templates` is of sentences that a page writes itself (`template`). A page also shows
sentences that it was handed, some of them read from the JSON files of other commands, whose values
stand in them already: `said` finds the line of the table `sentences` that gives such a one, and
takes the values out of it.
"""

import contextlib
import functools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path

ENGLISH = "en"
NAME = "English"
"""The line of a catalogue that gives the language's own name."""

_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")
_COUNT = "n"  # The name of values that are numbers, which "drawn photographs" has none of.
_BETWEEN = re.compile("(; |, )")  # The sentences of a list.


class Language:
    """One language.

    Attributes:
      code: of the language, as HTML's `lang` has it.
      catalogue: what English sentences are in it.
    """

    def __init__(
        self, code: str, *, templates: Mapping[str, str] | None = None, sentences: Mapping[str, str]
    ):
        self.code = code
        self.catalogue = {**(templates or {}), **sentences}
        self._sentences = sentences

    def template(self, english: str) -> str:
        """Return a sentence, with names in braces where values belong.

        Args:
          english: the sentence; lines of it may be broken anywhere.
        """
        sentence = " ".join(english.split())
        return self.catalogue.get(sentence, sentence)

    def said(self, sentence: str) -> str:
        """Return a finished English sentence in this language; one that it does not know, as it is.

        Of the lines that fit, the one with most words of its own counts. A value stays as it is,
        for it may be a name; where the translation writes `{value:words}`, it is itself a sentence,
        and where it writes `{value:list}`, it is several.
        """
        if sentence in self.catalogue:
            return self.catalogue[sentence]
        for pattern, translation in self._patterns:
            if found := pattern.fullmatch(sentence):
                values = {k: _Value(v).spoken_by(self) for k, v in found.groupdict().items()}
                return translation.format(**values)
        return sentence

    def listed(self, sentences: str) -> str:
        """Return several sentences, with commas or semicolons between them; see `said`."""
        return "".join(map(self.said, _BETWEEN.split(sentences)))

    @functools.cached_property
    def _patterns(self) -> Sequence[tuple[re.Pattern[str], str]]:
        with_values = {k: v for k, v in self._sentences.items() if _PLACE.search(k)}
        order = sorted(with_values, key=lambda english: -len(_PLACE.sub("", english)))
        return [(_pattern(english), with_values[english]) for english in order]


class _Value(str):
    """A value that was found in a sentence."""

    _language: Language

    def spoken_by(self, language: Language) -> "_Value":
        self._language = language
        return self

    def __format__(self, spec: str) -> str:
        how = {"words": self._language.said, "list": self._language.listed}.get(spec)
        return how(str(self)) if how else format(str(self), spec)


def _pattern(english: str) -> re.Pattern[str]:
    """Return what matches the sentence with any values, and with numbers where it counts."""
    texts = _PLACE.split(english)  # Text, name and spec by turns.
    parts = [
        re.escape(text) if i % 3 == 0 else f"(?P<{text}>{'[0-9.,]+' if text == _COUNT else '.+?'})"
        for i, text in enumerate(texts)
        if i % 3 < 2
    ]
    return re.compile("".join(parts), re.DOTALL)


def places(sentence: str) -> set[str]:
    """Return the names in braces."""
    return {name for name, _ in _PLACE.findall(sentence)}


@functools.cache
def codes() -> tuple[str, ...]:
    """Return the languages that there are, English first."""
    return (ENGLISH, *sorted(path.stem for path in Path(__file__).parent.glob("*.toml")))


@functools.cache
def of(code: str) -> Language:
    """Return a language.

    Raises:
      ValueError: there is no such language; says which there are.
    """
    if code not in codes():
        raise ValueError(f"there is no language {code!r}; expected one of {', '.join(codes())}")
    if code == ENGLISH:
        return Language(code, sentences={})
    text = Path(__file__).with_name(f"{code}.toml").read_text(encoding="utf-8")
    return Language(code, **tomllib.loads(text))


_CURRENT: ContextVar[str] = ContextVar("language", default=ENGLISH)


def current() -> Language:
    """Return the language of pages and figures here."""
    return of(_CURRENT.get())


@contextlib.contextmanager
def speaking(code: str) -> Iterator[Language]:
    """Make pages and figures within it in a language.

    Raises:
      ValueError: there is no such language.
    """
    language = of(code)
    token = _CURRENT.set(code)
    try:
        yield language
    finally:
        _CURRENT.reset(token)
