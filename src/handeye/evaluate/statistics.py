"""Rates with intervals. Two questions, two answers: on these tasks (Wilson), and on tasks like them (clustered)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special  # not scipy.stats, which takes a second to import


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Successes among the episodes that ended without an error, with the 95 % Wilson interval."""

    successes: int
    episodes: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """NaN without episodes."""
        return self.successes / self.episodes if self.episodes else math.nan

    def __str__(self) -> str:
        if not self.episodes:
            return "no episode"
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def rate(successes: int, episodes: int) -> Rate:
    low, high = wilson(successes, episodes)
    return Rate(successes=successes, episodes=episodes, low=low, high=high)


def wilson(successes: int, episodes: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a proportion: right about as often as it claims, also near 0 and 1 and for few episodes."""
    if not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes of {episodes} episodes")
    if episodes == 0:
        return 0.0, 1.0
    z = float(special.ndtri((1 + confidence) / 2))
    proportion, weight = successes / episodes, z * z / episodes
    middle = (proportion + weight / 2) / (1 + weight)
    half = math.sqrt(proportion * (1 - proportion) * weight + weight * weight / 4) / (1 + weight)
    # At 0 and at all, rounding must not leave the interval a hair short of the observed rate.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == episodes else middle + half)


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """The mean over episodes, with tasks as the unit: what another draw of tasks of this kind might give."""

    rate: float
    standard_error: float
    low: float
    high: float


def clustered(by_task: Mapping[int, Sequence[bool]], *, confidence: float = 0.95) -> Clustered | None:
    """Cluster-robust standard error with the finite-cluster correction k / (k - 1), Student's t with k - 1 degrees of
    freedom, cut at 0 and 1. None with fewer than two tasks, or where every task came out alike (0 and 100 % above all):
    how much tasks differ was then not seen, and an interval of no width would claim that they do not."""
    tasks = [outcomes for outcomes in by_task.values() if outcomes]
    if len(tasks) < 2:
        return None
    episodes = sum(len(outcomes) for outcomes in tasks)
    mean = sum(sum(outcomes) for outcomes in tasks) / episodes
    squares = sum((sum(outcomes) - mean * len(outcomes)) ** 2 for outcomes in tasks)
    if squares == 0:
        return None
    error = math.sqrt(squares * len(tasks) / (len(tasks) - 1)) / episodes
    half = float(special.stdtrit(len(tasks) - 1, (1 + confidence) / 2)) * error
    return Clustered(rate=mean, standard_error=error, low=max(0.0, mean - half), high=min(1.0, mean + half))
