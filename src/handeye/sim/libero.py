"""LIBERO's five suites: 130 tasks, their sentences, problems and stored initial states, from the fetched files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from handeye.errors import UserError, unknown
from handeye.sim import assets, bddl, init_states
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.sim.world import Problem
from handeye.types import Env

_SCENE = re.compile(r"^[A-Z].*?SCENE\d+_")
"""KITCHEN_SCENE10_close_the_drawer: where a name starts with a capital letter, its scene is no part of the sentence."""


def tasks(suite: str) -> tuple[Task, ...]:
    names = assets.task_names()
    if suite not in names:
        raise unknown("LIBERO suite", suite, names, fix="name one of these")
    return tuple(
        Task(suite=suite, index=index, name=name, language=language(name)) for index, name in enumerate(names[suite])
    )


def language(name: str) -> str:
    """The sentence that policies were trained with: from the file's name. The task file's own differs for 29 tasks."""
    return _SCENE.sub("", name, count=1).replace("_", " ")


def problem(task: Task) -> Problem:
    return _problem(_file(task, "bddl_files", ".bddl"))


def initial_states(task: Task) -> init_states.States:
    """50 rows of time, qpos, qvel."""
    return init_states.load(_file(task, "init_states", ".npz"))


def initial_state_count(task: Task) -> int:
    return len(initial_states(task))


def make(task: Task, config: SimConfig) -> Env:
    from handeye.sim.scene import libero_scene
    from handeye.sim.task_env import TaskEnv

    return TaskEnv(task, libero_scene(problem(task)), config, initial_states(task))


@cache
def _problem(path: Path) -> Problem:
    return bddl.parse(path.read_text(errors="replace"), source=str(path))


def _file(task: Task, folder: str, suffix: str) -> Path:
    path = assets.libero_files() / folder / task.suite / f"{task.name}{suffix}"
    if not path.is_file():
        raise UserError(f"{path} does not exist.", fix="run `handeye fetch libero`: it repairs what is missing")
    return path
