"""Statistics as openpi computes them, in one pass and constant memory: approximate quantiles from histograms.

Published norm_stats.json files were made this way (openpi shared/normalize.py), so only this definition can reproduce
them; `handeye.data.statistics.measure` is exact. The difference is up to one bin, and more after the range has grown.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from handeye.data.statistics import VectorStatistics
from handeye.errors import UserError

BINS = 5000


class RunningStatistics:
    """Fed batch by batch. Each dimension keeps a histogram over the range seen so far; when the range grows, what was
    counted moves to the bins that hold the old bins' left edges."""

    def __init__(self) -> None:
        self._count = 0
        self._low, self._high, self._mean, self._square = (np.zeros(0) for _ in range(4))
        self._edges: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []

    def update(self, batch: Float[np.ndarray, "*n w"]) -> None:
        rows = batch.reshape(-1, batch.shape[-1])
        least, most = rows.min(0), rows.max(0)
        mean, square = rows.mean(0), np.mean(rows**2, axis=0)
        if self._count == 0:
            self._low, self._high, self._mean, self._square = least, most, mean, square
            for a, b in zip(least, most, strict=True):
                self._edges.append(np.linspace(float(a) - 1e-10, float(b) + 1e-10, BINS + 1))
                self._counts.append(np.zeros(BINS))
        elif rows.shape[1] != len(self._mean):
            raise ValueError(f"a batch of width {rows.shape[1]} after batches of width {len(self._mean)}")
        elif (most > self._high).any() or (least < self._low).any():
            self._low, self._high = np.minimum(self._low, least), np.maximum(self._high, most)
            self._spread()
        self._count += len(rows)
        share = len(rows) / self._count
        self._mean = self._mean + (mean - self._mean) * share
        self._square = self._square + (square - self._square) * share
        for dimension, edges in enumerate(self._edges):
            self._counts[dimension] += np.histogram(rows[:, dimension], bins=edges)[0]

    def result(self) -> VectorStatistics:
        if self._count < 2:
            raise UserError("Statistics of fewer than two vectors.", fix="use more demonstrations")
        std = np.sqrt(np.maximum(0, self._square - self._mean**2))
        q01, q99 = self._quantile(0.01), self._quantile(0.99)
        return VectorStatistics(
            mean=_row(self._mean),
            std=_row(std),
            min=_row(self._low),
            max=_row(self._high),
            q01=_row(q01),
            q99=_row(q99),
        )

    def _spread(self) -> None:
        """Every dimension gets new bins, also those whose own range is as before: that is the definition."""
        for dimension, (low, high) in enumerate(zip(self._low, self._high, strict=True)):
            edges = np.linspace(float(low), float(high), BINS + 1)  # float64 whatever the data is
            old, counts = self._edges[dimension], self._counts[dimension]
            self._counts[dimension] = np.histogram(old[:-1], bins=edges, weights=counts)[0]
            self._edges[dimension] = edges

    def _quantile(self, share: float) -> np.ndarray:
        """The left edge of the bin in which the count reaches it."""
        reached = [np.searchsorted(np.cumsum(counts), share * self._count) for counts in self._counts]
        return np.array([edges[index] for edges, index in zip(self._edges, reached, strict=True)])


def _row(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
