"""Frozen dataclasses <-> plain JSON values, checked: specs, pipeline steps and statistics travel inside checkpoints.

What JSON lacks is restored from the field's type: tuples, enumerations (by name), nested dataclasses. An unknown
field, a missing one or a value of another type is a UserError that names the place; nothing is defaulted while
reading. A field whose metadata says `declared: False` (where a file lies at the moment) is no part of it.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from enum import Enum
from typing import Any, TypeVar

from handeye.errors import UserError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """A dataclass, or anything found inside one, as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in _declared(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple):
        return [to_plain(part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} cannot be declared as plain data")


def from_plain(kind: type[T], plain: Any, *, what: str) -> T:
    """`what` names the value in the error: "the pipeline's step Resize"."""
    if not isinstance(plain, dict):
        raise _bad(what, f"expected an object, found {plain!r}")
    hints = typing.get_type_hints(kind)
    fields = [field.name for field in _declared(kind)]
    if extra := sorted(set(plain) - set(fields)):
        raise _bad(what, f"unknown field '{extra[0]}'; known: {', '.join(fields)}")
    if missing := [name for name in fields if name not in plain]:
        raise _bad(what, f"field '{missing[0]}' is missing")
    return kind(**{name: _restore(hints[name], plain[name], f"{what}: {name}") for name in fields})


def _declared(kind: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(kind) if field.metadata.get("declared", True)]


def _restore(hint: Any, plain: Any, what: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        if plain in arguments:
            return plain
        raise _bad(what, f"{plain!r} is none of {', '.join(map(repr, arguments))}")
    if origin in (typing.Union, types.UnionType):  # only `X | None` occurs
        return None if plain is None else _restore(next(a for a in arguments if a is not type(None)), plain, what)
    if origin is tuple:
        if not isinstance(plain, list):
            raise _bad(what, f"expected a list, found {plain!r}")
        kinds = [arguments[0]] * len(plain) if arguments[1:] == (...,) else list(arguments)
        if len(kinds) != len(plain):
            raise _bad(what, f"expected {len(kinds)} values, found {len(plain)}")
        return tuple(
            _restore(kind, part, f"{what}[{i}]") for i, (kind, part) in enumerate(zip(kinds, plain, strict=True))
        )
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast(type, hint), plain, what=what)
    if isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(plain, str) and plain in hint.__members__:
            return hint[plain]
        raise _bad(what, f"{plain!r} is none of {', '.join(hint.__members__)}")
    if hint is float and isinstance(plain, int | float) and not isinstance(plain, bool):
        if not abs(plain) <= sys.float_info.max:
            raise _bad(what, f"{plain!r:.40} is not a finite number")
        return float(plain)
    if isinstance(hint, type) and type(plain) is hint:
        return plain
    raise _bad(what, f"expected {getattr(hint, '__name__', hint)}, found {plain!r}")


def _bad(what: str, why: str) -> UserError:
    return UserError(
        f"{what} cannot be read.", why=why, fix="the file was edited, damaged or made by another version: make it again"
    )
