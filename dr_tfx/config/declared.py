"""What the records of the settings say of each: its type, its rules, its default, its meaning.

The meaning is the comment that stands beside the setting in the source, so that there is one text
for whoever reads the code, the manual and `drtfx-config`.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

_WIDTH = 100  # Characters of a line of text.


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of a record, and what its source says of it."""

    name: str
    kind: object
    annotation: str
    default: str
    comment: str

    @property
    def is_group(self) -> bool:
        """Whether it is a record of settings itself."""
        return dataclasses.is_dataclass(self.kind)


def settings(record: type, *, beyond: type = object) -> list[Setting]:
    """Return the settings of a record, those it inherits first, but for those of a class beyond."""
    classes = [each for each in reversed(record.__mro__) if dataclasses.is_dataclass(each)]
    return [field for each in classes if not issubclass(beyond, each) for field in _own(each)]


def described(record: Any, defaults: Any, path: str = "config") -> Iterator[str]:
    """Yield a paragraph on each setting of a record, and of the records in it.

    Args:
      record: the values to show.
      defaults: a record of the same class; a default is told where the value is another one.
      path: the dotted key of the record.
    """
    for setting in settings(type(record)):
        name = f"{path}.{setting.name}"
        value, usual = getattr(record, setting.name), getattr(defaults, setting.name)
        if dataclasses.is_dataclass(value):
            yield from described(value, usual, name)
            continue
        by_default = f"; by default {usual!r}" if value != usual else ""
        lines = [f"{name} = {value!r}"]
        for text in (f"{setting.annotation}{by_default}", setting.comment):
            lines += textwrap.wrap(text, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        yield "\n".join(lines)


def _own(record: type) -> Iterator[Setting]:
    """Yield the settings that a record itself declares, with the comments in its source."""
    source = textwrap.dedent(inspect.getsource(record))
    lines = source.splitlines()
    hints = inspect.get_annotations(record)
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    done = body.lineno  # Lines up to this one are no comments of the next field.
    for node in body.body:
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            before = [_comment(line) for line in lines[done : node.lineno - 1]]
            words = [word for word in before if word] + [_comment(lines[last - 1])]
            comment = " ".join(filter(None, words))
            while comment and not comment.endswith(".") and _is_comment(lines, last):
                comment += " " + _comment(lines[last])
                last += 1
            yield Setting(
                name=node.target.id,
                kind=hints[node.target.id],
                annotation=_type(hints[node.target.id]),
                default=ast.unparse(node.value) if node.value else "",
                comment=comment,
            )
        done = last


def _type(hint: Any) -> str:
    """Return a type as a cell shows it, with the words of its rules."""
    arguments = get_args(hint)
    if get_origin(hint) is Annotated:
        rules = "; ".join(rule.words for rule in hint.__metadata__)
        return f"{_type(arguments[0])}: {rules}"
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, arguments))
    if get_origin(hint) is tuple:
        parts = ["..." if argument is ... else _type(argument) for argument in arguments]
        return f"tuple[{', '.join(parts)}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).removeprefix("typing.")


def _comment(line: str) -> str:
    """Return the comment at the end of a line of code, or the line that is one."""
    found = re.search(r"(?:^|\s)# (.*)$", line)
    return found[1].strip() if found else ""


def _is_comment(lines: list[str], number: int) -> bool:
    return number < len(lines) and lines[number].lstrip().startswith("# ")
