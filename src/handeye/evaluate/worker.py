"""What a worker process does: keep one environment, run the episodes it is given, ask the parent for actions."""

from __future__ import annotations

import os
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

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
from handeye.types import Env, EpisodeId, Observation


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
class Alive:
    """Worker to parent, once: imported and listening. Before it, silence is only a slow start."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Worker to parent: what now?"""

    observation: Observation


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Worker to parent: an episode is over, by success, failure or an exception."""

    rollout: Rollout | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """Worker to parent: this cannot work for any episode until the user mends something."""

    error: UserError


Message = Alive | Question | Ended | Refused


@dataclass(frozen=True)
class Distant:
    """The policy, which lives in the parent."""

    connection: Connection
    cameras: tuple[str, ...]

    def begin(self, episode: EpisodeId) -> None:
        """The parent resets its policy when it hands the episode out."""

    def answer(self, observation: Observation | None) -> Float[np.ndarray, "T A"]:
        assert observation is not None
        self.connection.send(Question(observation=observation))
        actions: Float[np.ndarray, "T A"] = self.connection.recv()
        return actions


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


def work(connection: Connection, config: WorkerConfig) -> None:
    """A worker's life. It ends when the parent closes the connection, also by dying."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then lets the workers go
    tasks = {task.index: task for task in config.tasks}
    env: Env | None = None
    current: Task | None = None
    try:
        connection.send(Alive())
        while True:
            episode: EpisodeId = connection.recv()
            try:
                if env is None or current != tasks[episode.task]:
                    if env is not None:
                        env.close()
                    env, current = None, tasks[episode.task]
                    env = suites.make(current, config.sim)
                connection.send(Ended(rollout=_run(env, episode, connection, config), error=None))
            except UserError as error:
                connection.send(Refused(error=error))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except Exception:  # whatever the simulator threw: the episode's outcome is `error`, not the run's end
                env = None
                connection.send(Ended(rollout=None, error=traceback.format_exc()))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the parent is gone: nobody is left to report to


def _run(env: Env, episode: EpisodeId, connection: Connection, config: WorkerConfig) -> Rollout:
    mind: Mind = Insider(env) if config.cameras is None else Distant(connection, config.cameras)
    film = None if config.videos == "none" else video.Film()
    rollout = roll_out(env, episode, mind, config.protocol, film=film)
    if film is not None and (config.videos == "all" or not rollout.success):
        film.save(video.path(config.out, episode))
    return rollout
