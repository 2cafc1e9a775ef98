"""Samples -> endless training batches, exactly shuffled, resumable to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer

from handeye.data.loading.order import rng
from handeye.data.loading.samples import Samples
from handeye.errors import UserError


class Batches:
    """Endless training batches. In each epoch every sample comes exactly once, in an order that depends on the seed and
    the epoch alone; a batch may reach into the next epoch. Restored from `state()` it goes on to the bit."""

    def __init__(self, samples: Samples, batch: int, seed: int) -> None:
        if batch < 1:
            raise UserError(f"A batch of {batch} samples is not possible.", fix="use at least 1")
        self.samples, self.size, self.seed = samples, batch, seed
        self.epoch, self.position = 0, 0
        self._order = self._shuffled()

    def next(self) -> dict[str, np.ndarray]:
        """The next batch, augmented as the pipeline says. Its randomness is a function of where it is."""
        generator = rng(self.seed, 1, self.epoch, self.position)
        return self.samples.pipeline.augment(self.samples.batch(self._take()), generator)

    def state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, "samples": len(self.samples)}

    def restore(self, state: Mapping[str, Any]) -> None:
        here = self.state()
        if differing := [name for name in ("seed", "samples") if state.get(name) != here[name]]:
            name = differing[0]
            raise UserError(
                "Training cannot go on from that position in the data.",
                why=f"{name}: {here[name]} here, {state.get(name)} there",
                fix="use the same demonstrations, split and seed, or start a new run",
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._order = self._shuffled()

    def _take(self) -> Integer[np.ndarray, "B"]:
        taken: list[np.ndarray] = []
        missing = self.size
        while missing:
            if self.position == len(self._order):
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._shuffled()
            part = self._order[self.position : self.position + missing]
            taken.append(part)
            self.position += len(part)
            missing -= len(part)
        return np.concatenate(taken)

    def _shuffled(self) -> Integer[np.ndarray, "N"]:
        return rng(self.seed, 0, self.epoch).permutation(len(self.samples))
