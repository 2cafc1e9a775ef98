"""A point that must reach a point: an environment for tests of everything around environments.

The property it has: an episode is a pure function of its identity and of the actions, and takes milliseconds. It
speaks LIBERO's conventions (7 actions, 8 numbers of proprioception, two cameras), so every policy can be asked.

Faults, for tests of the scheduler: $HANDEYE_FAKE_FAULTS names a directory. A file `1-3.kill` in it (or `.hang`,
`.raise`) makes that happen in the middle of task 1 from initial state 3. The file is removed first, so it happens once,
in whatever process; a copy named `1-3.raise.always` stays.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import EpisodeId, Observation, Step

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220), "yellow": (230, 200, 40)}
STEP = 0.08
"""How far a full action moves the point; the square's side is 1."""

REACH = 0.14
"""Near enough. Noise then succeeds in about a third of its episodes, so that tests see both outcomes."""

FAULT_STEP = 3


def tasks(suite: str) -> tuple[Task, ...]:
    return tuple(
        Task(suite=suite, index=index, name=f"reach_{colour}", language=f"move the point to the {colour} square")
        for index, colour in enumerate(COLOURS)
    )


def initial_state_count(task: Task) -> int:
    return 50


def make(task: Task, config: SimConfig) -> FakeEnv:
    return FakeEnv(task, config)


class FakeEnv:
    """Actions 0 and 1 move the point; success is being near the target."""

    def __init__(self, task: Task, config: SimConfig) -> None:
        self.task, self.config = task, config
        self._point: np.ndarray = np.full(2, 0.5)
        self._target: np.ndarray = self._point
        self._episode: EpisodeId | None = None
        self._scene = ""
        self._steps = 0
        self._announced = False

    def reset(self, episode: EpisodeId) -> None:
        rng = np.random.default_rng(episode.number("scene"))
        self._point = rng.uniform(0.1, 0.9, 2)
        inwards = np.arctan2(*(0.5 - self._point[::-1]))
        angle, distance = inwards + rng.uniform(-np.pi / 4, np.pi / 4), rng.uniform(0.25, 0.45)
        self._target = self._point + distance * np.array([np.cos(angle), np.sin(angle)])
        self._scene = hashlib.sha256(np.concatenate([self._point, self._target]).tobytes()).hexdigest()
        self._episode, self._steps, self._announced = episode, 0, True

    def step(self, action: Float[np.ndarray, "A"], *, look: bool = False) -> Step:
        self._steps += 1
        if self._steps == FAULT_STEP:
            self._fail_if_asked()
        self._point = np.clip(self._point + STEP * np.clip(action[:2], -1, 1), 0, 1)
        self._announced = look
        success = self.success()
        return Step(reward=float(success), success=success)

    def success(self) -> bool:
        return bool(np.linalg.norm(self._target - self._point) < REACH)

    def state(self) -> Float[np.ndarray, "D"]:
        return np.concatenate([[float(self._steps)], self._point, self._target])

    def proprio(self) -> Float[np.ndarray, "16"]:
        """Laid out as TaskEnv's: the end effector is the point, and looks the same way for ever."""
        return np.concatenate([self._point, [0, 0, 0, 0, 1], np.zeros(9)])

    def observe(self, *, seed: int = 0) -> Observation:
        if not self._announced:
            raise RuntimeError("nobody announced a look before the last step")
        proprio = np.zeros(8, np.float32)
        proprio[:2], proprio[2:4] = self._point, self._target
        images = {camera: self._draw() for camera in self.config.cameras}
        return Observation(images=images, proprio=proprio, prompt=self.task.language, seed=seed)

    def hashes(self) -> dict[str, str]:
        return {"model": hashlib.sha256(self.task.name.encode()).hexdigest(), "scene": self._scene}

    def close(self) -> None:
        """Nothing to free."""

    def _draw(self) -> UInt8[np.ndarray, "H W 3"]:
        size = self.config.camera_size
        image = np.full((size, size, 3), 240, np.uint8)
        for place, half, colour in (
            (self._target, 0.1, COLOURS[self.task.name.removeprefix("reach_")]),
            (self._point, 0.05, (30, 30, 30)),
        ):
            low = np.clip(np.round((place - half) * size), 0, size).astype(int)
            high = np.clip(np.round((place + half) * size), 0, size).astype(int)
            image[low[1] : high[1] + 1, low[0] : high[0] + 1] = colour
        return image

    def _fail_if_asked(self) -> None:
        folder = os.environ.get("HANDEYE_FAKE_FAULTS")
        if not folder or self._episode is None:
            return
        for kind in ("kill", "hang", "raise"):
            once = Path(folder, f"{self._episode.task}-{self._episode.initial_state}.{kind}")
            always = once.with_name(once.name + ".always")
            if not once.exists() and not always.exists():
                continue
            once.unlink(missing_ok=True)
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "hang":
                time.sleep(3600)
            raise RuntimeError(f"a fault that was asked for in {self._episode.key}")
