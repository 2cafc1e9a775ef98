"""What a policy is asked about: an observation, and the actions that somebody who can do the task took from there.

Shape letters: N questions, T steps of a chunk, A action width, W steps around a question's chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from handeye.data.source import Source
from handeye.errors import UserError
from handeye.types import Observation

REACH = 4
"""Steps before and after a chunk that are kept, to tell an answer that comes too early or too late."""


@dataclass(frozen=True, kw_only=True)
class Question:
    observation: Observation
    episode: str
    """Which one it is from."""

    around: Float64[np.ndarray, "W A"]
    """The actions from REACH steps before the observation on to REACH after its chunk."""

    there: Bool[np.ndarray, "W"]
    """False: before the episode's beginning or after its end."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Questions of one origin."""

    where: str
    """In a sentence: "on demonstrations"."""

    questions: tuple[Question, ...]
    chunk: int

    @property
    def observations(self) -> list[Observation]:
        return [question.observation for question in self.questions]

    def actions(self, offset: int = 0) -> Float64[np.ndarray, "N T A"]:
        """From `offset` steps after the observation on."""
        first = REACH + offset
        return np.stack([question.around[first : first + self.chunk] for question in self.questions])

    def valid(self, offset: int = 0) -> Bool[np.ndarray, "N T"]:
        first = REACH + offset
        return np.stack([question.there[first : first + self.chunk] for question in self.questions])


def recorded(source: Source, count: int, chunk: int) -> Asked:
    """From demonstrations: `count` steps, spread evenly over episodes and their steps."""
    refs = [ref for ref in source.episodes if ref.length > 0]
    if not refs:
        raise UserError(f"{source.root} has no step.", fix="give demonstrations, such as `handeye demos` makes")
    each = -(-count // len(refs))
    chosen = [refs[i] for i in np.unique(np.linspace(0, len(refs) - 1, min(count, len(refs))).round().astype(int))]
    found: list[Question] = []
    for number, ref in enumerate(chosen):
        shift = (number * 0.618) % 1  # other moments of each episode
        places = np.unique(((np.arange(each) + shift) * ref.length / each).astype(int).clip(0, ref.length - 1))
        episode = source.load(ref, images=False)
        frames = source.frames(ref, [int(step) for step in places])
        for row, step in enumerate(places):
            observation = Observation(
                images={camera: pictures[row] for camera, pictures in frames.items()},
                proprio=episode.proprio[step].astype(np.float32),
                prompt=episode.prompt,
                seed=len(found),
            )
            around, there = window(episode.actions, int(step), chunk)
            found.append(Question(observation=observation, episode=ref.id, around=around, there=there))
    return Asked(where="on demonstrations", questions=tuple(found), chunk=chunk)


def window(
    actions: Float64[np.ndarray, "S A"] | np.ndarray, step: int, chunk: int
) -> tuple[Float64[np.ndarray, "W A"], Bool[np.ndarray, "W"]]:
    """Of an episode's actions around a step; zeros where there are none."""
    rows = np.arange(step - REACH, step + chunk + REACH)
    there = (rows >= 0) & (rows < len(actions))
    around = np.where(there[:, None], np.asarray(actions, np.float64)[rows.clip(0, len(actions) - 1)], 0.0)
    return around, there


def only(observations: Sequence[Observation], cameras: Sequence[str]) -> list[Observation]:
    """Through these cameras alone. UserError where one is missing."""
    for name in cameras:
        if observations and name not in observations[0].images:
            raise UserError(
                f"The policy looks through the camera '{name}', which the demonstrations do not have.",
                why="they have: " + ", ".join(observations[0].images),
                fix="give demonstrations with that camera",
            )
    return [replace(each, images={name: each.images[name] for name in cameras}) for each in observations]
