"""Readers with defects, to see that they are found."""

from __future__ import annotations

import ctypes
import os
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from damage import sets
from damage.changes import in_bytes
from damage.kinds import Kind
from handeye.errors import UserError


def _raise(path: Path) -> None:
    raise KeyError("planted")


def _spin(path: Path) -> None:
    """As a library does: no signal is heard, and nothing is said."""
    ctypes.PyDLL(None).sleep(1000)


def _crash(path: Path) -> None:
    ctypes.string_at(0)


def _leave(path: Path) -> None:
    os._exit(0)


def _swell(path: Path) -> None:
    bytearray(600_000_000)


def _dawdle(path: Path) -> None:
    end = time.process_time() + 2
    while time.process_time() < end:
        pass


def _warn(path: Path) -> None:
    warnings.warn("overflow encountered", RuntimeWarning, stacklevel=1)


def _no_words(path: Path) -> None:
    raise UserError("It is broken.", fix="")


def _sound(path: Path) -> None:
    if path.stat().st_size % 2:
        raise UserError("It is odd.", fix="make it even")


DEFECTS: Mapping[str, Callable[[Path], None]] = {
    "raises": _raise, "spins": _spin, "crashes": _crash, "leaves": _leave, "swells": _swell, "dawdles": _dawdle,
    "warns": _warn, "has no words": _no_words,
}  # fmt: skip

KINDS: Mapping[str, Kind] = {
    name: Kind(make=partial(sets.picture, codec="png"), read=read, changes={"": in_bytes})
    for name, read in {**DEFECTS, "sound": _sound}.items()
}
