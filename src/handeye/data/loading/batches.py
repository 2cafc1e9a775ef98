"""Samples -> endless training batches, exactly shuffled, resumable to the bit; the same ones however they are made.

    with Batches(samples, 32, seed=0, workers=4) as batches:
        batch = batches.next()

What a batch holds is a function of the seed and of its place in the order: neither the number of worker processes nor
the number of ranks, nor where training was interrupted, makes a difference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Integer

from handeye.data.loading.ahead import Ahead
from handeye.data.loading.order import Order, rng
from handeye.data.loading.samples import Samples
from handeye.errors import UserError

Batch = dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """One rank's share of a batch, before it is made."""

    numbers: Integer[np.ndarray, "B"]
    places: Integer[np.ndarray, "B"]
    """Of each sample: how many came before it since the first epoch began. How it is varied depends on it alone."""


def make(samples: Samples, seed: int, part: Part) -> Batch:
    """Augmented as the pipeline says. Besides: `sample`, which ones they are, and `seed`, of each one's own noise in
    models that draw some; both int64 (B,)."""
    rngs = [rng(seed, 1, *divmod(place, len(samples))) for place in part.places.tolist()]
    batch = samples.pipeline.augment(samples.batch(part.numbers), rngs)
    noise = [int(rng(seed, 2, *divmod(place, len(samples))).integers(2**62)) for place in part.places.tolist()]
    return {**batch, "sample": part.numbers.astype(np.int64), "seed": np.array(noise, np.int64)}


class Batches:
    """In the order of `Order`; a batch may reach into the next epoch."""

    def __init__(
        self, samples: Samples, batch: int, seed: int, *, rank: int = 0, ranks: int = 1, workers: int = 0
    ) -> None:
        """`batch`: samples of all ranks together, of which this one gets its share. `workers`: processes that make
        batches ahead, one each; 0: they are made when they are asked for, here."""
        if batch < 1:
            raise UserError(f"A batch of {batch} samples is not possible.", fix="use at least 1")
        if not 0 <= rank < ranks:
            raise UserError(f"There is no rank {rank} of {ranks}.", fix=f"use 0 to {ranks - 1}")
        if batch % ranks:
            raise UserError(
                f"A batch of {batch} samples cannot be divided among {ranks} processes.",
                why="each takes part in every optimizer step with the same weight",
                fix=f"use a multiple of {ranks}, such as {-(-batch // ranks) * ranks}",
            )
        if workers < 0:
            raise UserError(f"{workers} worker processes are not possible.", fix="use 0 or more")
        self.samples, self.size, self.workers = samples, batch, workers
        self._mine = slice(rank * batch // ranks, (rank + 1) * batch // ranks)
        self.order = Order(len(samples), seed)
        self._state = self.order.state()
        self._ahead: Ahead[Part, Batch] | None = None
        self._coming: deque[dict[str, int]] = deque()

    def next(self) -> Batch:
        """The next batch; after an error, asking again asks for the same one."""
        try:
            if not self.workers:
                batch, state = self._make(self._part()), self.order.state()
            else:
                batch, state = self._from_ahead()
        except BaseException:
            self.restore(self._state)
            raise
        self._state = state
        return batch

    def state(self) -> dict[str, int]:
        """After the last batch that was handed out, whatever was made ahead."""
        return dict(self._state)

    def restore(self, state: Mapping[str, Any]) -> None:
        self.close()
        self.order.restore(state)
        self._state = self.order.state()

    def close(self) -> None:
        """Lets the workers go. The next batch hires them again."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
            self._coming.clear()
            self.order.restore(self._state)

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _make(self) -> partial[Batch]:
        return partial(make, self.samples, self.order.seed)

    def _part(self) -> Part:
        first = self.order.epoch * len(self.samples) + self.order.position
        places = first + np.arange(self.size)
        return Part(self.order.take(self.size)[self._mine], places[self._mine])

    def _from_ahead(self) -> tuple[Batch, dict[str, int]]:
        if self._ahead is None:
            self._ahead = Ahead(self._make, self.workers, room=self._bytes())
        while len(self._coming) < self.workers:
            self._ahead.ask(self._part())
            self._coming.append(self.order.state())
        batch = self._ahead.next()
        self._ahead.ask(self._part())  # before anything else is done with this one
        self._coming.append(self.order.state())
        return batch, self._coming.popleft()

    def _bytes(self) -> int:
        """Room for one rank's batch, and some to spare."""
        one = self._make(Part(np.zeros(1, np.int64), np.zeros(1, np.int64)))
        share = self._mine.stop - self._mine.start
        return share * sum(value.nbytes for value in one.values()) + (1 << 20)
