"""Several folders, patterns and archives as one source."""

import collections
import dataclasses
import functools
from collections.abc import Iterator, Sequence

from dr_tfx.sources import folders


@dataclasses.dataclass(frozen=True)
class Several(folders.Source):
    """The photographs of several sources, each once.

    A photograph is named by its path below the folder that all sources have in common, so that
    `raw/a` and `raw/b` give `a/1.jpeg` and `b/1.jpeg`.
    """

    sources: tuple[folders.Source, ...]

    @functools.cached_property
    def _common(self) -> str:
        """The folder that all sources have in common; it ends with `/`, or is ""."""
        parts = [source.path("").rstrip("/").split("/") for source in self.sources]
        same = 0
        for at in zip(*parts, strict=False):
            if len(set(at)) > 1:
                break
            same += 1
        return "".join(f"{part}/" for part in parts[0][:same])

    @functools.cached_property
    def _by_prefix(self) -> list[tuple[str, folders.Source]]:
        """The sources by what the names of their photographs begin with, the longest first."""
        found = [(source.path("").removeprefix(self._common), source) for source in self.sources]
        return sorted(found, key=lambda one: -len(one[0]))

    def names(self) -> Iterator[tuple[str, int]]:
        prefixes = [prefix for prefix, _ in self._by_prefix]
        nested = any(
            one.startswith(other)
            for i, one in enumerate(prefixes)
            for j, other in enumerate(prefixes)
            if i != j
        )
        seen: set[str] = set()
        for prefix, source in self._by_prefix:
            for name, size in source.names():
                if nested:
                    if prefix + name in seen:
                        continue
                    seen.add(prefix + name)
                yield prefix + name, size

    def left_out(self) -> collections.Counter[str]:
        return sum((source.left_out() for source in self.sources), collections.Counter[str]())

    def read(self, name: str) -> bytes:
        source, inside = self._find(name)
        return source.read(inside)

    def blocks(self, name: str) -> Iterator[bytes]:
        source, inside = self._find(name)
        return source.blocks(inside)

    def part(self, name: str, offset: int, length: int) -> bytes:
        source, inside = self._find(name)
        return source.part(inside, offset, length)

    def size(self, name: str) -> int:
        source, inside = self._find(name)
        return source.size(inside)

    def path(self, name: str) -> str:
        return self._common + name

    def modified(self, name: str) -> float:
        source, inside = self._find(name)
        return source.modified(inside)

    def _find(self, name: str) -> tuple[folders.Source, str]:
        """Return the source of a photograph and its name there."""
        for prefix, source in self._by_prefix:
            if name.startswith(prefix):
                return source, name.removeprefix(prefix)
        raise KeyError(name)


def join(sources: Sequence[folders.Source]) -> folders.Source:
    """Return one source of all these photographs."""
    return sources[0] if len(sources) == 1 else Several(tuple(sources))
