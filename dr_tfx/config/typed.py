"""Settings as frozen records: each value is checked by the type of its field.

The type of a field says what `record` accepts. `Annotated[int, Rule(...)]` narrows it further. A
record that has rules about several of its fields states them in a method `check`.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

_SHOWN = 200  # Characters of a value in an error.


class ConfigError(ValueError):
    """A config that cannot be run: says what was got, what was expected and the likely fix."""


class Rule(typing.NamedTuple):
    """A condition on the value of a setting, and the words that complete "expected ..."."""

    holds: Callable[[Any], bool]
    words: str


Count = Annotated[int, Rule(lambda n: n > 0, "more than 0")]
Positive = Annotated[float, Rule(lambda x: 0 < x < math.inf, "more than 0")]
NotNegative = Annotated[float, Rule(lambda x: 0 <= x < math.inf, "0 or more")]
Finite = Annotated[float, Rule(math.isfinite, "a finite number")]
Fraction = Annotated[float, Rule(lambda x: 0 < x < 1, "more than 0 and less than 1")]
Share = Annotated[float, Rule(lambda x: 0 <= x <= 1, "0 to 1")]
FractionOrZero = Annotated[float, Rule(lambda x: 0 <= x < 1, "0 or more and less than 1")]


def to_dict(spec: Any) -> dict[str, Any]:
    """Return a record as plain, JSON-ready dicts; `read` is the inverse."""
    return {field.name: plain(getattr(spec, field.name)) for field in dataclasses.fields(spec)}


def plain(value: Any) -> Any:
    """Return the value of a setting as JSON gives it back: tuples are lists, records are dicts."""
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted keys, so that two can be compared one by one."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, Mapping)
        result |= flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return result


def require(holds: bool, message: str) -> None:
    """Raise a ConfigError with this message unless the condition holds."""
    if not holds:
        raise ConfigError(message)


def record(kind: Any, given: Any, where: str, classes: Mapping[str, type] | None = None) -> Any:
    """Return plain names and values as a record, each value checked by the type of its field.

    Args:
      kind: the class of the record, a dataclass.
      given: what JSON, or a ConfigDict, holds of it.
      where: its dotted key or its file, for errors.
      classes: the classes of some of its fields, instead of the declared ones.

    Raises:
      ConfigError: a name is unknown or missing, a value has another type, or a rule is broken.
    """
    if not hasattr(given, "keys"):
        raise ConfigError(f"{where} is {_shown(given)}; expected a group of settings.")
    hints = typing.get_type_hints(kind, include_extras=True) | dict(classes or {})
    unknown = sorted(set(given.keys()) - set(hints), key=str)
    if unknown:
        raise ConfigError(
            f"{where} has no setting {', '.join(map(_shown, unknown[:5]))}; "
            f"it knows {', '.join(sorted(hints))}. A typing error?"
        )
    needed = [field.name for field in dataclasses.fields(kind) if _has_no_default(field)]
    missing = [name for name in needed if name not in given]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}.")
    made = kind(**{key: _value(hints[key], given[key], f"{where}.{key}") for key in given})
    if hasattr(made, "check"):
        made.check()
    return made


def check(shape: Any, given: Any, where: str) -> None:
    """Check the values that a shape declares in a text that others may have written.

    Args:
      shape: a type, as a field of a record may have it; a mapping of names to shapes, which ignores
        further names; or a list of one shape, which all items have.
      given: what JSON holds.
      where: its dotted key or its file, for errors.

    Raises:
      ConfigError: a name is missing, a value has another type, or a rule is broken.
    """
    if isinstance(shape, Mapping):
        if not isinstance(given, Mapping):
            raise ConfigError(f"{where} is {_shown(given)}; expected names and values.")
        missing = [name for name in shape if name not in given]
        if missing:
            raise ConfigError(f"{where} lacks {', '.join(missing)}.")
        for name, inner in shape.items():
            check(inner, given[name], f"{where}.{name}")
    elif isinstance(shape, list):
        if not isinstance(given, list):
            raise ConfigError(f"{where} is {_shown(given)}; expected a list.")
        for i, item in enumerate(given):
            check(shape[0], item, f"{where}[{i}]")
    else:
        _value(shape, given, where)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _shown(value: Any) -> str:
    """Return a value as an error shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _value(hint: Any, given: Any, where: str) -> Any:
    """Return a value as the type `hint`, or raise a ConfigError.

    Sequences become tuples and whole numbers become floats; nothing else is converted.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return record(hint, given, where)
    if origin is Annotated:
        value = _value(args[0], given, where)
        for rule in hint.__metadata__:
            require(rule.holds(value), f"{where} is {_shown(value)}; expected {rule.words}.")
        return value
    if origin is Literal:
        names = ", ".join(map(repr, args))
        require(given in args, f"{where} is {_shown(given)}; expected one of {names}.")
        return args[args.index(given)]
    if origin is tuple:
        if hasattr(given, "keys"):  # Names and values, as `label_values` may be written.
            given = [f"{key}={given[key]}" for key in given]
        if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
            raise ConfigError(f"{where} is {_shown(given)}; expected a sequence.")
        items = list(given)
        kinds = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
        if len(items) != len(kinds):
            raise ConfigError(f"{where} has {len(items)} values; expected {len(kinds)}.")
        both = enumerate(zip(kinds, items, strict=True))
        return tuple(_value(kind, item, f"{where}[{i}]") for i, (kind, item) in both)
    if origin in (Mapping, dict):
        if not hasattr(given, "keys"):
            raise ConfigError(f"{where} is {_shown(given)}; expected names and values.")
        if args[1] is Any:
            return _plain(given)
        return {str(key): _value(args[1], given[key], f"{where}.{key}") for key in given}
    if origin is types.UnionType:  # Of a type and None.
        return None if given is None else _value(args[0], given, where)
    number = isinstance(given, int) and not isinstance(given, bool)
    if number and not -(2**63) <= given < 2**63:
        raise ConfigError(f"{where} has more than 64 bits; expected a smaller number.")
    if hint is float and number:
        return float(given)
    if not isinstance(given, hint) or (hint is int and not number):
        raise ConfigError(f"{where} is {_shown(given)}; expected {hint.__name__}.")
    return given


def _plain(value: Any) -> Any:
    """Return nested mappings and sequences as dicts and lists, as JSON gives them back."""
    if hasattr(value, "keys"):
        return {str(key): _plain(value[key]) for key in value}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
