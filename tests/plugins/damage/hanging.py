"""Readers for the workers of `data verify` and `data convert` that hang or crash at one episode, as a library may."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from handeye.data.convert import run as convert
from handeye.data.verify import run as verify

AT = 2
"""Number of the episode."""


def verifying(setup: Any, ask: Any) -> Callable[[int], Any]:
    return _hanging(verify._make(setup, ask))


def converting(setup: Any, ask: Any) -> Callable[[int], Any]:
    return _hanging(convert._make(setup, ask))


def crashing(setup: Any, ask: Any) -> Callable[[int], Any]:
    do = verify._make(setup, ask)

    def measure(number: int) -> Any:
        return ctypes.string_at(0) if number == AT else do(number)

    return measure


def _hanging(do: Callable[[int], Any]) -> Callable[[int], Any]:
    def read(number: int) -> Any:
        if number == AT:
            ctypes.PyDLL(None).sleep(1000)  # holds the interpreter: no signal is heard
        return do(number)

    return read
