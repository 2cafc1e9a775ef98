"""The built-in suite: twelve language-conditioned tasks on a table, nothing to download, quick to draw.

The arm, cameras, controller, actions and proprioception are LIBERO's; the scenes are our own. Initial states 0..49 are
for evaluation: each is drawn from its own random stream, which no sampled episode (`initial_state=None`, what
demonstrations use) ever touches.
"""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from handeye.errors import UserError
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.sim.tabletop_tasks import TASKS, problem
from handeye.types import EpisodeId

if TYPE_CHECKING:
    from handeye.sim.task_env import TaskEnv
    from handeye.sim.world import Scene

INITIAL_STATES = 50  # per task, as in LIBERO


def tasks(suite: str = "tabletop") -> tuple[Task, ...]:
    return tuple(
        Task(suite=suite, index=index, name=task.name, language=task.language) for index, task in enumerate(TASKS)
    )


def initial_state_count(task: Task) -> int:
    return INITIAL_STATES


def make(task: Task, config: SimConfig) -> TaskEnv:
    from handeye.sim.task_env import TaskEnv

    return TaskEnv(task, scene(task), config, initial_states=lambda index: initial_state(task, index))


@cache
def scene(task: Task) -> Scene:
    from handeye.sim.tabletop_model import compose

    return compose(problem(TASKS[task.index]))


@cache
def initial_state(task: Task, index: int) -> Float64[np.ndarray, "D"]:
    """Time, qpos and qvel of one stored initial state. Computed, not stored: it takes a few milliseconds."""
    import mujoco

    from handeye.sim.controller import ARM, FINGERS, FINGERS_AT_RESET
    from handeye.sim.placement import place

    if not 0 <= index < INITIAL_STATES:
        raise UserError(
            f"Task {task.index} of {task.suite} has no initial state {index}.",
            why=f"there are {INITIAL_STATES}, counted from 0",
            fix=f"use 0 to {INITIAL_STATES - 1}",
        )
    world = scene(task)
    model = copy.copy(world.model)  # placing writes into it
    data = mujoco.MjData(model)
    data.qpos[ARM], data.qpos[FINGERS] = world.init_qpos, FINGERS_AT_RESET
    identity = EpisodeId(suite=task.suite, task=task.index, initial_state=index)
    place(world, model, data, np.random.RandomState(identity.number("stored initial state")), loads=1)
    row = np.concatenate([[0.0], data.qpos, data.qvel])
    row.flags.writeable = False  # the cache hands out the same array every time
    return row
