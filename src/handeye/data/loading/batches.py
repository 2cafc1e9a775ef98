"""Samples -> endless training batches, exactly shuffled, resumable to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from handeye.data.loading.order import Order, rng
from handeye.data.loading.samples import Samples
from handeye.errors import UserError


class Batches:
    """Endless training batches in the order of `Order`; a batch may reach into the next epoch."""

    def __init__(self, samples: Samples, batch: int, seed: int) -> None:
        if batch < 1:
            raise UserError(f"A batch of {batch} samples is not possible.", fix="use at least 1")
        self.samples, self.size = samples, batch
        self.order = Order(len(samples), seed)

    def next(self) -> dict[str, np.ndarray]:
        """The next batch, augmented as the pipeline says. How a sample is varied is a function of its place in the
        order."""
        first = self.order.epoch * len(self.samples) + self.order.position
        rngs = [rng(self.order.seed, 1, *divmod(first + place, len(self.samples))) for place in range(self.size)]
        return self.samples.pipeline.augment(self.samples.batch(self.order.take(self.size)), rngs)

    def state(self) -> dict[str, int]:
        return self.order.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.order.restore(state)
