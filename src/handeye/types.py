"""The plain types that cross package borders, in numpy. Nothing here knows torch, mujoco or a file.

Shape letters: H height, W width, S proprio width, T chunk steps, A action width, N steps of an episode, D state width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, UInt8

SceneStream = Literal["episode", "published", "reseeded"]


@dataclass(frozen=True, kw_only=True)
class EpisodeId:
    """What makes an episode the same episode. Its scene and its noise are functions of these six values alone."""

    suite: str
    task: int
    """Index in the suite's own order."""

    initial_state: int | None
    """Row of the task's stored initial states; None: drawn from the task's own placement regions by `seed`."""

    stream: SceneStream = "episode"
    """`episode`: fixtures are placed from this identity. `published`: as in the reference's (initial_state + 1)-th
    reset after `numpy.random.seed(seed)` (design 3.4). `reseeded`: as in a reset right after
    `numpy.random.seed(seed + initial_state)`, which is what LeRobot does."""

    seed: int = 0
    attempt: int = 0
    """Counts repetitions of the same episode on purpose (noise studies); re-runs after a crash keep the number."""

    @property
    def key(self) -> str:
        """A readable, unique name: `libero_goal/3/init12/episode-7/0`."""
        start = "sampled" if self.initial_state is None else f"init{self.initial_state}"
        return f"{self.suite}/{self.task}/{start}/{self.stream}-{self.seed}/{self.attempt}"

    def number(self, purpose: str) -> int:
        """A 32-bit seed for one purpose ("scene", "noise/3", ...), independent of every other purpose and episode."""
        return int.from_bytes(hashlib.sha256(f"{self.key}|{purpose}".encode()).digest()[:4], "little")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What a policy is asked with."""

    images: Mapping[str, UInt8[np.ndarray, "H W 3"]]
    """Camera name -> upright RGB (top row first, not mirrored)."""

    proprio: Float32[np.ndarray, "S"]
    """As the ProprioSpec declares; LIBERO: eef position 3 (m), axis-angle 3 (rad), finger positions 2 (m)."""

    prompt: str
    """The task's sentence, as the suite gives it."""

    seed: int = 0
    """For policies that sample: made from the episode's identity and the index of this question, so an answer depends
    neither on its neighbours in a batch nor on what was asked before."""


@dataclass(frozen=True, kw_only=True)
class ActionChunk:
    """The next actions, in the environment's own convention, ready to be executed."""

    actions: Float32[np.ndarray, "T A"]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A recorded demonstration. Step i holds what was seen before action i, and the action. Vectors keep the precision
    of the files they come from."""

    id: str
    task: str
    """Which demonstrations belong together: the name of the task, one of them per sentence and suite."""

    prompt: str
    images: Mapping[str, UInt8[np.ndarray, "N H W 3"]]
    """Camera name -> upright RGB. Empty where they were not asked for."""

    proprio: Float[np.ndarray, "N S"]
    actions: Float[np.ndarray, "N A"]
    states: Float[np.ndarray, "N D"] | None = None
    """Simulator states (time, qpos, qvel), where the source has them."""

    joints: Float[np.ndarray, "N J"] | None = None
    """Positions of the arm's joints in radians, where the source has them."""

    success: bool | None = None
    """The last action reached the goal. None: the source does not say."""

    source: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from and how it was made; JSON values."""

    def __len__(self) -> int:
        return len(self.actions)


@runtime_checkable
class Policy(Protocol):
    """Answers observations with chunks. Stateless between episodes after `reset`."""

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """These episodes begin now."""
        ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """One chunk per observation, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one control step came to."""

    reward: float
    success: bool
    """The task's goal holds after this step."""

    unstable: bool = False
    """The simulation exploded in this step and was put back to its start by MuJoCo, as it is in the reference."""


@runtime_checkable
class Env(Protocol):
    """One task as an environment. Rendering happens only when somebody looks."""

    def reset(self, episode: EpisodeId) -> None:
        """Put the episode's scene in place. The same identity gives the same scene, whatever happened before."""
        ...

    def step(self, action: Float[np.ndarray, "A"], *, look: bool = False) -> Step:
        """One control step. `look` announces that `observe` will be called after it: the reference samples in the
        middle of a step, so images cannot be had afterwards."""
        ...

    def observe(self, *, seed: int = 0) -> Observation:
        """What cameras and joints showed at the last sampling moment. RuntimeError if nobody announced a look."""
        ...

    def hashes(self) -> dict[str, str]:
        """Of the compiled model (`model`) and of the placed scene at the start of the episode (`scene`)."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class VectorEnv(Protocol):
    """Several environments stepped together; None in `actions` leaves that one alone."""

    def reset(self, episodes: Sequence[EpisodeId | None]) -> None: ...

    def step(self, actions: Sequence[Float[np.ndarray, "A"] | None], *, look: Sequence[bool]) -> list[Step | None]: ...

    def observe(self, which: Sequence[int]) -> list[Observation]: ...

    def close(self) -> None: ...
