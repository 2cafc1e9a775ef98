"""Every suite, its tasks in order, and how to make one an environment. Nothing heavy is imported before `make`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast, runtime_checkable

from handeye.errors import UserError, unknown
from handeye.sim.config import SimConfig
from handeye.types import Env


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task of a suite, by name only: nothing is loaded."""

    suite: str
    index: int
    """In the suite's own order."""

    name: str
    language: str
    """The sentence that a policy gets."""


SUITES = {
    "libero_spatial": "handeye.sim.libero",
    "libero_object": "handeye.sim.libero",
    "libero_goal": "handeye.sim.libero",
    "libero_10": "handeye.sim.libero",
    "libero_90": "handeye.sim.libero",
    "tabletop": "handeye.sim.tabletop",
    "fake": "handeye.sim.fake",
}
"""Every suite there is -> the module that offers `tasks(suite)`, `make(task, config)` and `initial_state_count(task)`.
Outside code is named by its import path: `--suite my_lab.suite`."""


@runtime_checkable
class Suite(Protocol):
    """What such a module offers."""

    tasks: Callable[[str], tuple[Task, ...]]
    make: Callable[[Task, SimConfig], Env]
    initial_state_count: Callable[[Task], int]


def tasks(suite: str) -> tuple[Task, ...]:
    return _module(suite).tasks(suite)


def task(suite: str, index: int) -> Task:
    all_tasks = tasks(suite)
    if not 0 <= index < len(all_tasks):
        raise UserError(
            f"{suite} has no task {index}.",
            why=f"its tasks are 0 to {len(all_tasks) - 1}",
            fix="choose one of these",
        )
    return all_tasks[index]


def make(task: Task, config: SimConfig) -> Env:
    return _module(task.suite).make(task, config)


def initial_state_count(task: Task) -> int:
    return _module(task.suite).initial_state_count(task)


def _module(suite: str) -> Suite:
    if suite not in SUITES and "." not in suite:
        raise unknown(
            "suite", suite, SUITES, fix="name one of these, or the import path of a module such as my_lab.suite"
        )
    path = SUITES.get(suite, suite)
    try:
        return cast(Suite, import_module(path))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"The suite {suite!r} cannot be imported.", why=str(error), fix="check the import path"
        ) from None
