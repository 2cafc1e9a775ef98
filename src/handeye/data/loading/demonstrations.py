"""The demonstrations that a training run sees: a source of any format, or some of its episodes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from handeye import console
from handeye.data.loading.digests import file_digests
from handeye.data.loading.order import rng
from handeye.data.loading.vectors import Vectors, read_vectors
from handeye.data.source import EpisodeRef, Source, open_source
from handeye.data.statistics import Statistics, measure
from handeye.errors import UserError
from handeye.records import sha256_json
from handeye.types import Episode


@dataclass(frozen=True)
class _Read:
    """What was read of the whole set, once for all its parts."""

    source: Source

    @cached_property
    def digests(self) -> list[str]:
        return file_digests(self.source.root, self.source.files)

    @cached_property
    def vectors(self) -> Vectors:
        return read_vectors(self.source, lambda: sha256_json([self.digests, [ref.id for ref in self.source.episodes]]))


class Demonstrations:
    """Every demonstration of a set, read when asked for. `episodes` is in the set's own order."""

    def __init__(self, root: Path) -> None:
        self.source = open_source(root)
        for warning in self.source.warnings:
            console.warn(warning)
        self.specs = self.source.specs
        self.episodes: tuple[EpisodeRef, ...] = self.source.episodes
        self._read = _Read(self.source)

    def __len__(self) -> int:
        return len(self.episodes)

    def only(self, episodes: Sequence[EpisodeRef]) -> Demonstrations:
        """The same set, fewer episodes."""
        if not episodes:
            raise ValueError("demonstrations without an episode")
        chosen = copy.copy(self)
        chosen.episodes = tuple(episodes)
        return chosen

    def load(self, ref: EpisodeRef) -> Episode:
        return self.source.load(ref)

    def vectors(self) -> Vectors:
        """Of the whole set, also where these are only some of its episodes."""
        return self._read.vectors

    def statistics(self) -> Statistics:
        return measure(self.vectors().of(ref) for ref in self.episodes)

    def digest(self) -> str:
        """Of every episode's id and prompt and of the bytes of the set's files: what a checkpoint says it was trained
        on."""
        return sha256_json([[[ref.id, ref.prompt] for ref in self.episodes], self._read.digests])

    def split(self, held_out: float, seed: int) -> tuple[Demonstrations, Demonstrations | None]:
        """(train, validation), whole demonstrations, the same share of every task: `held_out` rounded, at least one and
        never all. What is held out of one task does not depend on which other tasks there are. None where it is 0."""
        if not 0 <= held_out < 1:
            raise UserError(f"A share of {held_out} cannot be held out.", fix="give a number from 0 up to below 1")
        if held_out == 0:
            return self, None
        by_task: dict[str, list[EpisodeRef]] = {}
        for ref in self.episodes:
            by_task.setdefault(ref.task, []).append(ref)
        if single := [task for task, refs in by_task.items() if len(refs) < 2]:
            raise UserError(
                f"No demonstration of '{single[0]}' can be held out.",
                why="it has only one",
                fix="record more demonstrations, or hold out nothing",
            )
        held: set[str] = set()
        for task, refs in by_task.items():
            count = min(max(round(held_out * len(refs)), 1), len(refs) - 1)
            key = int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "little")
            order = rng(seed, key).permutation(len(refs))
            held |= {refs[index].id for index in order[:count]}
        return (
            self.only([ref for ref in self.episodes if ref.id not in held]),
            self.only([ref for ref in self.episodes if ref.id in held]),
        )
