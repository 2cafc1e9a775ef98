"""What a worker process does: keep one environment, run the episodes it is given, ask the parent for actions."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from handeye.errors import UserError
from handeye.evaluate import video
from handeye.evaluate.config import Videos
from handeye.evaluate.rollout import Mind, Rollout, roll_out
from handeye.evaluate.surroundings import surroundings
from handeye.protocols.protocol import Protocol, differences
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

    videos: Videos
    surroundings: Mapping[str, Any]
    """Versions and libraries of the simulator that the plan is about; the worker's must be the same."""


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a worker sends home."""

    rollout: Rollout
    film: bytes | None
    """An mp4, if one was asked for of such an episode."""


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


def runner(config: WorkerConfig, ask: Ask) -> Callable[[EpisodeId], Played]:
    """For a crew: runs an episode, and keeps its task's environment for the next one."""
    _require_surroundings(config)
    tasks = {task.index: task for task in config.tasks}
    kept: dict[int, Env] = {}

    def run(episode: EpisodeId) -> Played:
        if episode.task not in kept:
            for env in kept.values():
                env.close()
            kept.clear()
            kept[episode.task] = suites.make(tasks[episode.task], config.sim)
        env = kept[episode.task]
        mind: Mind = Insider(env) if config.cameras is None else Distant(ask, config.cameras)
        film = None if config.videos == "none" else video.Film()
        rollout = roll_out(env, episode, mind, config.protocol, film=film)
        wanted = film is not None and (config.videos == "all" or not rollout.success)
        return Played(rollout=rollout, film=film.encoded() if wanted and film is not None else None)

    return run


def _require_surroundings(config: WorkerConfig) -> None:
    """A worker may be on another machine than the plan was made on."""
    here = surroundings(config.tasks[0].suite, config.sim)
    if differing := list(differences(config.surroundings, here)):
        raise UserError(
            f"The simulator on {platform.node()} is not the plan's.",
            why="plan | there: " + "; ".join(differing),
            fix="install the same versions there, or leave that machine out",
        )
