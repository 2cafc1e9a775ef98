"""What the tests' workers do. Imported by worker processes, hence a file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handeye.errors import UserError


@dataclass(frozen=True)
class Setup:
    """Where a job leaves a mark each time it is tried."""

    marks: Path
    word: str = ""


def make(setup: Setup, ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Jobs are (what, number): `what` is tried in the way it says, its second try always works out."""
    hoard: list[bytearray] = []

    def do(job: tuple[str, int]) -> Any:
        what, number = job
        mark = setup.marks / f"{what}-{number}"
        again = mark.exists()
        with mark.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if what == "refuse":
            raise UserError("This cannot work.", fix="mend it")
        if what.endswith("always") or not again:
            misbehave(what.split("-")[0], hoard)
        if what == "ask":
            return ask(np.full((64, 64, 3), number, np.uint8))
        if what == "large":
            return np.full((3 << 20,), number, np.float64)  # 24 MB: more than the shared block holds
        if what == "slow":
            time.sleep(0.05)
        if what == "memory":
            hoard.append(bytearray(os.urandom(1 << 20) * 60))
        return (number, os.getpid())

    return do


def misbehave(how: str, hoard: list[bytearray]) -> None:
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(7)
    if how == "hang":
        time.sleep(3600)
    if how == "raise":
        raise ValueError("a fault that was asked for")
    if how == "end":
        raise EOFError("a file that ends too early")
    if how == "unpicklable":
        raise UnpicklableError(lambda: None)
    if how == "leak":
        hoard.append(bytearray(os.urandom(1 << 20) * 400))
        time.sleep(3600)


class UnpicklableError(Exception):
    pass


def lambdas(setup: Any, ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda job: lambda: job


def sleeper(setup: Path, ask: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A worker that never looks at its line again."""

    def do(job: int) -> None:
        (setup / f"{os.getpid()}").touch()
        deadline = time.monotonic() + 30  # should the test itself be killed
        while time.monotonic() < deadline:
            sum(range(10_000))
            time.sleep(0.001)  # two that spin without a pause can starve a small machine, the test included

    return do
