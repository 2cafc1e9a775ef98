"""Moments of the tabletop suite to ask about: which episode, and the simulator's state in it."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Float64

from handeye.data.xvr.make.views import Studio
from handeye.protocols.presets import OPEN_AND_STILL
from handeye.sim import rendering, tabletop
from handeye.sim.config import Backend, SimConfig
from handeye.sim.tabletop_model import BASE, TABLE_TOP
from handeye.sim.task_env import TaskEnv
from handeye.types import EpisodeId

SUITE = "tabletop"
SETTLE = 10
ROBOT = np.array(BASE)
"""Where the robot stands; it looks along x, so its left is y."""

CENTRE = (0.0, 0.0, TABLE_TOP + 0.03)


@dataclass(frozen=True, eq=False)
class Moment:
    """What a picture is taken of."""

    episode: EpisodeId
    state: Float64[np.ndarray, "D"]
    """Time, qpos, qvel."""


class Stage:
    """Plays moments. One environment and one renderer a layout, since tasks of a layout share their model."""

    def __init__(self, size: int, backend: Backend = "auto") -> None:
        rendering.choose(backend)
        self.size, self.tasks = size, tabletop.tasks()
        self._envs: dict[int, TaskEnv] = {}
        self._studios: dict[int, Studio] = {}
        self._now: dict[int, EpisodeId] = {}

    def begin(self, task: int, seed: int) -> Moment:
        """A scene that has come to rest, the arm in its first pose."""
        episode = EpisodeId(suite=SUITE, task=task, initial_state=None, seed=seed)
        env = self._env(episode)
        env.reset(episode)
        self._now[task] = episode
        for _ in range(SETTLE):
            env.step(np.array(OPEN_AND_STILL))
        return Moment(episode, env.state())

    def later(self, moment: Moment, direction: Float64[np.ndarray, "3"], steps: int) -> Moment:
        """After the arm went along `direction` (in its own units, at most 1) for so many control steps."""
        env = self.play(moment)
        action = np.array(OPEN_AND_STILL, np.float64)
        action[:3] = direction
        for _ in range(steps):
            env.step(action)
        return Moment(moment.episode, env.state())

    def play(self, moment: Moment) -> TaskEnv:
        """The environment, in that moment."""
        env = self._env(moment.episode)
        if self._now.get(moment.episode.task) != moment.episode:
            env.reset(moment.episode)
            self._now[moment.episode.task] = moment.episode
        env.restore(moment.state)
        return env

    def studio(self, moment: Moment) -> Studio:
        model = self._env(moment.episode).model
        if id(model) not in self._studios:
            self._studios[id(model)] = Studio(model, self.size)
        return self._studios[id(model)]

    def data(self, moment: Moment) -> mujoco.MjData:
        return self.play(moment).data

    def hand(self, moment: Moment) -> Float64[np.ndarray, "3"]:
        """Where the gripper is."""
        return self.play(moment).proprio()[:3]

    def tops(self, moment: Moment) -> Float64[np.ndarray, "N 3"]:
        """The middle of the upper side of everything that can be moved."""
        env = self.play(moment)
        parts = [part for part in env.scene.parts.values() if part.movable]
        return np.array([env.data.body(part.body).xpos + np.array([0, 0, part.top]) for part in parts])

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *error: object) -> None:
        """Renderers must go before the graphics library does."""
        for studio in self._studios.values():
            studio.close()
        for env in self._envs.values():
            env.close()

    def _env(self, episode: EpisodeId) -> TaskEnv:
        if episode.task not in self._envs:
            self._envs[episode.task] = tabletop.make(self.tasks[episode.task], SimConfig(cameras=()))
        return self._envs[episode.task]
