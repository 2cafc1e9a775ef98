"""Recorded actions as a policy: what demonstrations reach when they are executed blindly.

Actions fit the scene that they were recorded in. Which demonstration answers for an episode:

1. the one that was recorded in this very episode, where the set says so (handeye's own does);
2. else one recorded from this task's same initial state: its fixtures may stand elsewhere;
3. where a set says nothing: of the demonstrations with this sentence, number i for initial state i.

The second and third are said once. When a demonstration is over, the arm stands still with its gripper as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from handeye.console import warn
from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.data.source import EpisodeRef, open_source
from handeye.errors import UserError
from handeye.records import sha256_file
from handeye.types import ActionChunk, EpisodeId, Observation

Replan = int | Literal["chunk"]

QUESTIONS = 1_000
"""Of one episode at most: horizons are shorter."""

EPISODES = 512
"""Under way at the same time, at most."""

STILL = 8
"""Actions in the answers after a demonstration's end."""


class Replay:
    """Blind. It knows an episode and the question's number by the observation's seed, which is a function of both."""

    def __init__(self, dataset: str, *, replan: Replan = "chunk") -> None:
        """`replan`: how many actions of each answer are executed; `chunk` is all, so one answer holds a whole
        demonstration. UserError: there are no demonstrations at that path."""
        self._source = open_source(Path(dataset))
        self._dataset, self._replan = dataset, replan
        declared = self._source.specs
        self.specs = Specs(action=declared.action, image=replace(declared.image, cameras=()), proprio=libero.PROPRIO)
        self._asked: dict[EpisodeId, dict[int, int]] = {}
        self._playing: dict[EpisodeId, Float32[np.ndarray, "N A"]] = {}
        self._said: set[str] = set()

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The bytes of every file that is read."""
        digest = hashlib.sha256()
        for path in self._source.files:
            digest.update(f"{path.name} {sha256_file(path)}\n".encode())
        return {"demonstrations": digest.hexdigest(), "replan": self._replan}

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        for episode in episodes:
            self._playing.pop(episode, None)
            self._asked.pop(episode, None)
            self._asked[episode] = {episode.number(f"noise/{index}"): index for index in range(QUESTIONS)}
        for old in list(self._asked)[:-EPISODES]:
            del self._asked[old]
            self._playing.pop(old, None)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [self._answer(seen) for seen in observations]

    def _answer(self, seen: Observation) -> ActionChunk:
        episode, index = self._place(seen.seed)
        if episode not in self._playing:
            self._playing[episode] = self._recorded(episode, seen.prompt)
        actions = self._playing[episode]
        step = len(actions) if self._replan == "chunk" else self._replan
        part = actions[index * step : (index + 1) * step]
        if len(part) < (1 if self._replan == "chunk" else step):
            still = np.zeros((step if self._replan != "chunk" else STILL, actions.shape[1]), np.float32)
            still[:, self.specs.action.gripper_index] = actions[-1, self.specs.action.gripper_index]
            part = np.concatenate([part, still])[: len(still)]
        return ActionChunk(actions=part)

    def _place(self, seed: int) -> tuple[EpisodeId, int]:
        for episode, questions in self._asked.items():
            if seed in questions:
                return episode, questions[seed]
        raise ValueError(f"no episode that is under way asks with the seed {seed}")

    def _recorded(self, episode: EpisodeId, prompt: str) -> Float32[np.ndarray, "N A"]:
        actions = self._source.load(self._match(episode, prompt), images=False).actions
        return np.asarray(actions, np.float32)

    def _match(self, episode: EpisodeId, prompt: str) -> EpisodeRef:
        if episode in self._identified:
            return self._identified[episode]
        place = (episode.suite, episode.task, -1 if episode.initial_state is None else episode.initial_state)
        if place in self._placed:
            self._say(
                "other demonstrations of the same initial states are replayed: their fixtures may stand elsewhere"
            )
            return self._placed[place]
        unnamed = [ref for ref in self._unidentified if ref.prompt == prompt]
        if len(tasks := sorted({ref.task for ref in unnamed})) > 1:
            raise UserError(
                f"{self._dataset} has demonstrations of several tasks with the sentence '{prompt}'.",
                why=", ".join(tasks),
                fix="replay the folder of one suite, or the file of one task",
            )
        if episode.initial_state is None or episode.initial_state >= len(unnamed):
            raise UserError(
                f"{self._dataset} has no demonstration for {episode.key}.",
                why=f"of '{prompt}' it has {len(unnamed)} without a recorded episode"
                + (f", and of this task those of initial states {self._states(episode)}" if self._placed else ""),
                fix="evaluate initial states that it has (--initial-states), or replay another set",
            )
        self._say(
            "the set does not say which scenes it was recorded in: demonstration i is replayed for initial state i"
        )
        return unnamed[episode.initial_state]

    def _states(self, episode: EpisodeId) -> str:
        states = {place[2] for place in self._placed if place[:2] == (episode.suite, episode.task)}
        return ", ".join(map(str, sorted(states))) or "none"

    @cached_property
    def _origins(self) -> Mapping[str, EpisodeId | None]:
        """Demonstration -> the episode it was recorded in, if the set says so. Reads every episode's vectors once."""
        return {ref.id: _identity(self._source.load(ref, images=False).source) for ref in self._source.episodes}

    @cached_property
    def _identified(self) -> Mapping[EpisodeId, EpisodeRef]:
        found: dict[EpisodeId, EpisodeRef] = {}
        for ref in self._source.episodes:
            if (origin := self._origins[ref.id]) is not None:
                found.setdefault(origin, ref)
        return found

    @cached_property
    def _placed(self) -> Mapping[tuple[str, int, int], EpisodeRef]:
        """The first demonstration of each task and stored initial state."""
        found: dict[tuple[str, int, int], EpisodeRef] = {}
        for origin, ref in self._identified.items():
            if origin.initial_state is not None:
                found.setdefault((origin.suite, origin.task, origin.initial_state), ref)
        return found

    @cached_property
    def _unidentified(self) -> tuple[EpisodeRef, ...]:
        return tuple(ref for ref in self._source.episodes if self._origins[ref.id] is None)

    def _say(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            warn(f"replay:{self._dataset}: {what}")


def _identity(source: Mapping[str, Any]) -> EpisodeId | None:
    said = source.get("episode")
    if said is None:
        return None
    try:
        return EpisodeId(**said)
    except TypeError as error:
        raise UserError(
            "A demonstration's recorded episode cannot be read.",
            why=f"{said!r}: {error}",
            fix="it was made by another version: record it again, or replay another set",
        ) from None
