"""Demonstrations in which the numbers belong together: the arm obeys its actions, and both cameras see it move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.conventions.rotation import axis_angle_robosuite
from handeye.conventions.spec import Specs
from handeye.data.source import EpisodeRef, Stored
from handeye.data.verify.kinematics import hand
from handeye.types import Episode

STEPS = 60
PIXELS = 64


def obedient(number: int) -> Episode:
    """The joints wander smoothly; each action is what moved the hand from its row to the next."""
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(number)
    time = np.arange(STEPS + 1) / 10
    rest = np.array([0, -0.16, 0, -2.44, 0, 2.23, np.pi / 4])
    waves = rng.uniform(0.2, 0.6, (3, 7, 1)) * np.sin(
        rng.uniform(0.5, 3, (3, 7, 1)) * time + rng.uniform(0, 6, (3, 7, 1))
    )
    joints = rest + 0.4 * waves.sum(0).T + rng.normal(scale=0.008, size=(STEPS + 1, 7))  # no motion foretells the next
    position, turn = hand(joints)
    position = position + np.array([-0.6, 0, 0.9])
    quaternion = Rotation.from_matrix(turn).as_quat()
    for row in range(1, len(quaternion)):  # one sign all the way, as a simulator's
        quaternion[row] *= np.sign(quaternion[row] @ quaternion[row - 1])
    quaternion *= -np.sign(np.median(quaternion[:, 3]) or 1)
    command = np.where(np.sin(2 * time) > 0, 1.0, -1.0)
    width = np.zeros(STEPS + 1)
    for row in range(STEPS):
        width[row + 1] = np.clip(width[row] - 0.01 * command[row], 0, 0.08)
    actions = np.zeros((STEPS, 7))
    actions[:, :3] = np.diff(position, axis=0) / 0.0125
    actions[:, 3:6] = rng.normal(scale=0.05, size=(STEPS, 3))
    actions[:, :6] = np.clip(actions[:, :6], -1, 1)
    actions[:, 6] = command[:-1]
    fingers = np.stack([width / 2, -width / 2], axis=1)
    proprio = np.concatenate([position, axis_angle_robosuite(quaternion), fingers], axis=1)
    return Episode(
        id=f"task_{number % 2}/demo_{number}", task=f"task_{number % 2}", prompt=f"do the thing {number % 2}",
        images={"agentview": _agent(position, rng), "wrist": _wrist(position, turn, rng)},
        proprio=proprio[:-1], actions=actions, joints=joints[:-1], success=True,
    )  # fmt: skip


def _agent(position: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A light square before a dark wall, where the camera sees the hand."""
    frames = np.repeat(rng.integers(0, 30, (1, PIXELS, PIXELS, 3), dtype=np.uint8), STEPS, 0)
    up = np.array([-0.6283, 0, 0.7780])
    centre = np.stack([-(position @ up), position[:, 1]], axis=1)
    pixel = (PIXELS / 2 + 55 * (centre - centre.mean(0))).round().astype(int).clip(6, PIXELS - 7)
    for frame, (row, column) in zip(frames, pixel, strict=False):
        frame[row - 5 : row + 6, column - 5 : column + 6] = 220
    return frames


def _wrist(position: np.ndarray, turn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A textured ground that moves against the hand."""
    ground = np.kron(rng.integers(0, 255, (120, 120)), np.ones((4, 4))).astype(np.uint8)
    moved = np.einsum("nji,nj->ni", turn[:-1], np.diff(position, axis=0))
    shift = np.concatenate([[[0, 0]], np.cumsum(np.stack([moved[:, 0], -moved[:, 1]], axis=1), axis=0)])
    pixel = (200 - 120 * shift).round().astype(int).clip(0, 400)
    frames = [ground[row : row + PIXELS, column : column + PIXELS] for row, column in pixel[:STEPS]]
    return np.repeat(np.array(frames)[..., None], 3, axis=-1)


@dataclass(frozen=True)
class InMemory:
    """A source whose episodes are at hand."""

    held: tuple[Episode, ...]
    stored: Stored
    root: Path = Path("memory")
    warnings: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()

    @property
    def specs(self) -> Specs:
        image = replace(libero.IMAGE, height=PIXELS, width=PIXELS)
        return Specs(action=libero.ACTION, image=image, proprio=libero.PROPRIO)

    @property
    def episodes(self) -> tuple[EpisodeRef, ...]:
        return tuple(
            EpisodeRef(id=e.id, task=e.task, prompt=e.prompt, length=len(e), where={"number": number})
            for number, e in enumerate(self.held)
        )

    def load(self, ref: EpisodeRef, *, images: bool = True) -> Episode:
        held = self.held[ref.where["number"]]
        return held if images else replace(held, images={})

    def frames(self, ref: EpisodeRef, steps: Sequence[int]) -> dict[str, np.ndarray]:
        return {name: frames[list(steps)] for name, frames in self.load(ref).images.items()}

    def stored_vectors(self, ref: EpisodeRef) -> tuple[np.ndarray, np.ndarray]:
        held = self.load(ref)
        return held.actions, held.proprio


@pytest.fixture(scope="session")
def sound() -> tuple[Episode, ...]:
    return tuple(obedient(number) for number in range(6))


@pytest.fixture
def source_of() -> Callable[..., InMemory]:
    def make(*episodes: Episode, format: str = "rlds", version: str = "1.0.0") -> InMemory:
        from handeye.conventions.image import Orientation

        stored = Stored(
            format=format, version=version, orientation=Orientation.UPRIGHT, codec="raw", observed="before", lacks=()
        )  # fmt: skip
        return InMemory(held=episodes, stored=stored)

    return make
