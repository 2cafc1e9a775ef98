"""An expert for the fake simulator: it goes straight to the target. Imported by worker processes, hence a file."""

from __future__ import annotations

import numpy as np

from handeye.sim.fake import STEP, FakeEnv


class Straight:
    """Every third seed it goes the wrong way, so that some attempts fail."""

    def __init__(self, env: FakeEnv, *, noise: float, speed: float, seed: int) -> None:
        self._env, self._speed, self._sign = env, speed, -1 if seed % 3 == 0 else 1

    def act(self) -> np.ndarray:
        action = np.zeros(7)
        action[:2] = np.clip(self._sign * self._speed * (self._env._target - self._env._point) / STEP, -1, 1)
        return action


class Still(Straight):
    def act(self) -> np.ndarray:
        return np.zeros(7)
