"""Made-up demonstrations that cost what real ones cost: for measuring, never for training.

Their numbers obey the conventions (the arm moves as its actions say, the fingers as the gripper is told, the cameras
see it), so that a set of them passes `handeye data verify`. Their pictures are about as hard to compress as LIBERO's:
at 256 x 256 some 17 kB as JPEG of quality 95, 60 kB as PNG.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, UInt8

from handeye.conventions import image
from handeye.types import Episode

METRES = 0.011
"""That one unit of an action moves the arm in a step: verify finds 0.0108 to 0.0125 in LIBERO's demonstrations."""

REACH = 0.2
"""Metres from the middle to where the arm turns round."""

AGENT_UP = np.array([-0.6283, 0.0, 0.7780])
"""The upward direction in the agent's picture (data/verify/picture.py)."""

VERBS = ("pick up", "push", "open", "turn on", "close", "lift", "stack", "move")
THINGS = ("bowl", "plate", "mug", "drawer", "stove", "bottle", "book", "basket", "pan", "box")


class Maker:
    """Of episodes by number; the same number gives the same episode."""

    def __init__(self, *, size: int = 256, tasks: int = 10) -> None:
        self._size, self._tasks = size, tasks
        rng = np.random.default_rng(0)
        self._table, self._ground = _texture(rng, 2 * size), _texture(rng, 5 * size)

    def make(self, number: int, length: int) -> Episode:
        rng = np.random.default_rng([1, number])
        actions, proprio = _motion(rng, length)
        verb, thing = VERBS[number % self._tasks % len(VERBS)], THINGS[number % self._tasks % len(THINGS)]
        prompt = f"{verb} the {thing}" + ("" if self._tasks <= 40 else f" number {number % self._tasks}")
        return Episode(
            id=f"{prompt.replace(' ', '_')}/demo_{number // self._tasks}",
            task=prompt.replace(" ", "_"),
            prompt=prompt,
            images={"agentview": self._agent(rng, proprio[:, :3]), "wrist": self._wrist(rng, proprio[:, :3])},
            proprio=proprio,
            actions=actions,
            success=True,
            source={"made": "up", "number": number},
        )

    def _agent(self, rng: np.random.Generator, position: Float64[np.ndarray, "T 3"]) -> UInt8[np.ndarray, "T H W 3"]:
        """A still scene, and an arm that is a bar from the upper edge down to where the hand is."""
        size, at = self._size, rng.integers(0, self._size, 2)
        scene = self._table[at[0] : at[0] + size, at[1] : at[1] + size]
        out = np.repeat(scene[None], len(position), axis=0)
        scale, wide = 0.35 * size / REACH, size // 10
        rows = (size / 2 - scale * (position @ AGENT_UP)).astype(int)
        columns = (size / 2 + scale * position[:, 1]).astype(int)
        arm = self._ground[:size, :wide]
        for frame, row, column in zip(out, np.clip(rows, wide, size), np.clip(columns, 0, size - wide), strict=True):
            frame[row - wide : row, column : column + wide] = arm[:wide] // 2 + 110
        return out

    def _wrist(self, rng: np.random.Generator, position: Float64[np.ndarray, "T 3"]) -> UInt8[np.ndarray, "T H W 3"]:
        """A large ground that passes below the hand."""
        size, scale = self._size, 1.0 * self._size / REACH
        out = np.empty((len(position), size, size, 3), np.uint8)
        origin = (2 * size - scale * position[:, :2] * [1, 1]).astype(int) + rng.integers(-size // 2, size // 2, 2)
        for frame, (row, column) in zip(out, np.clip(origin, 0, 4 * size - 1), strict=True):
            frame[:] = self._ground[row : row + size, column : column + size]
        return out


def _motion(rng: np.random.Generator, length: int) -> tuple[Float64[np.ndarray, "T 7"], Float64[np.ndarray, "T 8"]]:
    """Towards one point after the other, in the directions of all three axes, opening and closing in between."""
    actions, proprio = np.zeros((length, 7)), np.zeros((length, 8))
    position: np.ndarray = rng.uniform(-REACH / 2, REACH / 2, 3)
    goal: np.ndarray = np.zeros(3)
    fingers, grip = 0.04, -1.0
    for step in range(length):
        if step % 20 == 0:
            goal = rng.uniform(-REACH, REACH, 3)
            grip = -grip if step else grip
        proprio[step] = [*position, np.pi, 0.0, 0.0, fingers, -fingers]
        toward = np.clip((goal - position) / METRES / 4, -0.9, 0.9) + rng.normal(0, 0.05, 3)
        actions[step] = [*np.clip(toward, -1, 1), *rng.uniform(-0.1, 0.1, 3), grip]
        position = position + METRES * actions[step, :3] + rng.normal(0, 3e-4, 3)  # no arm follows exactly
        fingers = float(np.clip(fingers - 0.02 * grip, 0.0, 0.04))
    return actions, proprio


def _texture(rng: np.random.Generator, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """Shades of several sizes, and a little grain."""
    out = np.full((size, size, 3), 120, np.float32)
    for cells, strength in ((4, 45), (16, 25), (64, 12), (size // 4, 6), (size, 2)):
        noise = np.clip(rng.normal(128, 50, (cells, cells, 3)), 0, 255).astype(np.uint8)
        out += np.float32(strength / 50) * (image.resize(noise, height=size, width=size, method="bilinear") - 128.0)
    return np.clip(out, 0, 255).astype(np.uint8)
