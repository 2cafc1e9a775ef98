"""Randomness that depends on a seed and a place alone, so that an order can be found again anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Integer

from handeye.errors import UserError


def rng(seed: int, *where: int) -> np.random.Generator:
    if seed < 0:
        raise UserError(f"{seed} is not a seed.", fix="use 0 or more")
    return np.random.default_rng([seed, *where])


class Order:
    """An endless order of `samples` numbers. In each epoch every one comes exactly once, in an order that depends on
    the seed and the epoch alone. Restored from `state()` it goes on where it was."""

    def __init__(self, samples: int, seed: int) -> None:
        self.samples, self.seed = samples, seed
        self.epoch, self.position = 0, 0
        self._order = self._shuffled()

    def take(self, count: int) -> Integer[np.ndarray, "count"]:
        """The next `count`; they may reach into the next epoch."""
        taken: list[np.ndarray] = []
        while count:
            if self.position == self.samples:
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._shuffled()
            part = self._order[self.position : self.position + count]
            taken.append(part)
            self.position += len(part)
            count -= len(part)
        return np.concatenate(taken)

    def state(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed, "samples": self.samples}

    def restore(self, state: Mapping[str, Any]) -> None:
        here = self.state()
        if differing := [name for name in ("seed", "samples") if state.get(name) != here[name]]:
            name = differing[0]
            raise UserError(
                "Training cannot go on from that position in the data.",
                why=f"{name}: {here[name]} here, {state.get(name)} there",
                fix="use the same data, split and seed, or start a new run",
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self._order = self._shuffled()

    def _shuffled(self) -> Integer[np.ndarray, "N"]:
        return rng(self.seed, 0, self.epoch).permutation(self.samples)
