"""What a worker process does: keep one environment, run the episodes it is given, ask the parent for actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from handeye.errors import UserError
from handeye.evaluate import video
from handeye.evaluate.config import Videos
from handeye.evaluate.rollout import Mind, Rollout, roll_out
from handeye.protocols.protocol import Protocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import Env, EpisodeId, Observation, Policy

Ask = Callable[[Any], Any]


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Everything a worker needs to know; sent to it once."""

    tasks: tuple[Task, ...]
    protocol: Protocol
    sim: SimConfig
    cameras: tuple[str, ...] | None
    """What the policy looks through; None: the expert acts, inside the worker."""

    out: Path
    videos: Videos


@dataclass(frozen=True, kw_only=True)
class Question:
    """What now?"""

    observation: Observation
    begins: EpisodeId | None
    """The episode, if this is its first question."""


@dataclass
class Distant:
    """The policy, which lives in the parent."""

    ask: Ask
    cameras: tuple[str, ...]
    note: str = ""
    _begins: EpisodeId | None = None

    def begin(self, episode: EpisodeId) -> None:
        self._begins = episode

    def answer(self, observation: Observation | None) -> Float[np.ndarray, "T A"]:
        assert observation is not None
        actions: Float[np.ndarray, "T A"] = self.ask(Question(observation=observation, begins=self._begins))
        self._begins = None
        return actions


@dataclass
class Local:
    """The policy, in this process."""

    policy: Policy
    cameras: Sequence[str]
    note: str = ""

    def begin(self, episode: EpisodeId) -> None:
        self.policy.reset([episode])

    def answer(self, observation: Observation | None) -> Float[np.ndarray, "T A"]:
        assert observation is not None
        [chunk] = self.policy.act([observation])
        return chunk.actions


class Insider:
    """The scripted expert: it reads the environment's state and answers with one action at a time."""

    cameras = None

    def __init__(self, env: Env) -> None:
        self._env = env

    def begin(self, episode: EpisodeId) -> None:
        from handeye.expert.solve import Expert
        from handeye.sim.task_env import TaskEnv

        if not isinstance(self._env, TaskEnv):
            raise UserError(
                "The expert cannot act in this suite.",
                why="it reads the state of handeye's own MuJoCo environments",
                fix="evaluate it on tabletop or on a suite of LIBERO",
            )
        self._expert = Expert(self._env)

    def answer(self, observation: Observation | None) -> Float[np.ndarray, "T A"]:
        return np.asarray(self._expert.act())[None]

    @property
    def note(self) -> str:
        """Why it gave up, as far as it knows."""
        again = f"{self._expert.losses} skills began again" if self._expert.losses else ""
        return "; ".join(filter(None, [self._expert.note, again]))


def runner(config: WorkerConfig, ask: Ask) -> Callable[[EpisodeId], Rollout]:
    """For a crew: runs an episode, and keeps its task's environment for the next one."""
    tasks = {task.index: task for task in config.tasks}
    kept: dict[int, Env] = {}

    def run(episode: EpisodeId) -> Rollout:
        if episode.task not in kept:
            for env in kept.values():
                env.close()
            kept.clear()
            kept[episode.task] = suites.make(tasks[episode.task], config.sim)
        env = kept[episode.task]
        mind: Mind = Insider(env) if config.cameras is None else Distant(ask, config.cameras)
        film = None if config.videos == "none" else video.Film()
        rollout = roll_out(env, episode, mind, config.protocol, film=film)
        if film is not None and (config.videos == "all" or not rollout.success):
            film.save(video.path(config.out, episode))
        return rollout

    return run
