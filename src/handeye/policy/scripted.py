"""Baselines that look at nothing. A rate means little until one knows what doing nothing and thrashing about reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.types import ActionChunk, EpisodeId, Observation

BLIND = libero.specs(camera_size=128, cameras=())
"""What these two need: LIBERO's actions, no camera."""

CHUNK = 8


@dataclass(frozen=True)
class Zero:
    """Stands still with an open gripper."""

    specs: Specs = BLIND

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        still = np.zeros((CHUNK, self.specs.action.width), np.float32)
        still[:, self.specs.action.gripper_index] = -1.0  # opens: Gripper.PM1_CLOSE
        return [ActionChunk(actions=still.copy()) for _ in observations]


@dataclass(frozen=True)
class Noise:
    """Uniform noise over the whole range of every action, a pure function of the observation's seed."""

    specs: Specs = BLIND

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Nothing to forget."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [ActionChunk(actions=self._draw(observation.seed)) for observation in observations]

    def _draw(self, seed: int) -> np.ndarray:
        action = self.specs.action
        drawn = np.random.default_rng(seed).uniform(action.low, action.high, (CHUNK, action.width))
        return drawn.astype(np.float32)


SCRIPTED: dict[str, Callable[[], Zero | Noise]] = {"zero": Zero, "noise": Noise}
"""Address -> policy."""
