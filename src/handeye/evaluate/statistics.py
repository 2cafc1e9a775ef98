"""What one run says: a rate, a suite's mean, and what other tasks may give. docs/statistics.md says which to read when.

Three questions, three intervals. On this task, or on these episodes: Wilson (`wilson`), or where the claim must hold
whatever the truth is, Clopper and Pearson (`clopper_pearson`). On this suite, other initial states: `stratified`. On
other tasks of this kind: `clustered`, with `bootstrap_tasks` as its check. Measured coverage of each is in
docs/statistics.md, made by recipes/coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy import special  # not scipy.stats, which takes a second to import

Interval = tuple[float, float]
Counts = Sequence[tuple[int, int]]
"""Successes and episodes of each task."""

CONFIDENCE = 0.95
DRAWS = 9_999
"""Bootstrap samples: the bounds then move by less than a tenth of the interval's width from seed to seed."""


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


def quantile(confidence: float) -> float:
    """Of the normal distribution, for a two-sided interval: 1.96 for 0.95."""
    return float(special.ndtri((1 + confidence) / 2))


def wilson(successes: int, episodes: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a proportion: right about as often as it claims, also near 0 and 1 and for few episodes."""
    _check(successes, episodes)
    if episodes == 0:
        return 0.0, 1.0
    z = quantile(confidence)
    proportion, weight = successes / episodes, z * z / episodes
    middle = (proportion + weight / 2) / (1 + weight)
    half = math.sqrt(proportion * (1 - proportion) * weight + weight * weight / 4) / (1 + weight)
    # At 0 and at all, rounding must not leave the interval a hair short of the observed rate.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == episodes else middle + half)


def clopper_pearson(successes: int, episodes: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Exact interval of a proportion: right at least as often as it claims, whatever the truth, and wider for it. That
    holds too for a suite whose tasks differ, with equally many episodes each: such a sum varies less than one binomial
    (Hoeffding 1956)."""
    _check(successes, episodes)
    tail, failures = (1 - confidence) / 2, episodes - successes
    low = 0.0 if successes == 0 else float(special.betaincinv(successes, failures + 1, tail))
    high = 1.0 if failures == 0 else float(special.betaincinv(successes + 1, failures, 1 - tail))
    return low, high


def mean_rate(counts: Counts) -> float:
    """A suite's mean: each task counts the same, however many episodes it has. NaN without any."""
    rates = [successes / episodes for successes, episodes in counts if episodes]
    return sum(rates) / len(rates) if rates else math.nan


def stratified(counts: Counts, *, confidence: float = CONFIDENCE) -> Interval:
    """Score interval of a suite's mean, each task counting the same: all means that the observed one does not speak
    against, with each task's own rate as likely as that mean allows (constrained maximum likelihood, as in Miettinen
    and Nurminen 1985). Wilson's where tasks are alike, narrower where they differ."""
    tasks = [(successes, episodes) for successes, episodes in counts if episodes]
    for successes, episodes in tasks:
        _check(successes, episodes)
    if not tasks:
        return 0.0, 1.0
    successes, episodes = np.array(tasks, np.float64).T
    observed, z = float(np.mean(successes / episodes)), quantile(confidence)

    def pulled(log_pull: float, towards: int) -> tuple[float, bool]:
        """The mean under a pull, and whether the observed one is within z standard errors of it."""
        rates = _pulled(successes, episodes, towards * math.exp(log_pull))
        mean = float(rates.mean())
        error = math.sqrt(float((rates * (1 - rates) / episodes).sum())) / len(rates)
        return mean, abs(observed - mean) <= z * error

    ends = []
    for towards in (1, -1):
        near, far = -5.0, math.log(episodes.max()) + 5.0  # logarithms of the pull: hardly any, and all the way
        for _ in range(40):
            middle = (near + far) / 2
            near, far = (middle, far) if pulled(middle, towards)[1] else (near, middle)
        ends.append(pulled(near, towards)[0])
    low, high = ends
    return (0.0 if observed == 0 else min(low, observed)), (1.0 if observed == 1 else max(high, observed))


def _pulled(
    successes: Float64[np.ndarray, "K"], episodes: Float64[np.ndarray, "K"], pull: float
) -> Float64[np.ndarray, "K"]:
    """The most likely rates of the tasks if their mean is lower (pull > 0) or higher (pull < 0) than observed: roots of
    s / p - f / (1 - p) = pull, in the form that does not cancel."""
    count = successes if pull > 0 else episodes - successes
    size = episodes + abs(pull)
    root: np.ndarray = 2 * count / (size + np.sqrt(np.maximum(size * size - 4 * abs(pull) * count, 0.0)))
    return np.clip(root if pull > 0 else 1 - root, 0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Clustered:
    """The mean over episodes, with tasks as the unit: what another draw of tasks of this kind might give."""

    rate: float
    standard_error: float
    low: float
    high: float


def clustered(by_task: Mapping[int, Sequence[bool]], *, confidence: float = CONFIDENCE) -> Clustered | None:
    """Cluster-robust standard error with the finite-cluster correction k / (k - 1); the interval is Student's t with
    k - 1 degrees of freedom on the log-odds scale, where the mean of ten tasks is less skewed. None with fewer than two
    tasks, or where every task came out alike (0 and 100 % above all): how much tasks differ was then not seen, and an
    interval of no width would claim that they do not."""
    tasks = [outcomes for outcomes in by_task.values() if outcomes]
    if len(tasks) < 2:
        return None
    episodes = sum(len(outcomes) for outcomes in tasks)
    mean = sum(sum(outcomes) for outcomes in tasks) / episodes
    squares = sum((sum(outcomes) - mean * len(outcomes)) ** 2 for outcomes in tasks)
    if squares == 0:
        return None
    error = math.sqrt(squares * len(tasks) / (len(tasks) - 1)) / episodes
    half = float(special.stdtrit(len(tasks) - 1, (1 + confidence) / 2)) * error / (mean * (1 - mean))
    middle = float(special.logit(mean))
    low, high = float(special.expit(middle - half)), float(special.expit(middle + half))
    return Clustered(rate=mean, standard_error=error, low=low, high=high)


def bootstrap_tasks(
    by_task: Mapping[int, Sequence[bool]], *, confidence: float = CONFIDENCE, seed: int = 0, draws: int = DRAWS
) -> Interval | None:
    """The same question by drawing tasks with replacement, percentiles widened for few tasks ("expanded percentiles",
    Hesterberg 2015). A check on `clustered` that assumes no scale; with ten tasks it is right a little less often.
    None where that is None. The seed is part of the answer."""
    tasks = [outcomes for outcomes in by_task.values() if outcomes]
    if clustered(by_task) is None:
        return None
    successes = np.array([sum(outcomes) for outcomes in tasks], np.float64)
    episodes = np.array([len(outcomes) for outcomes in tasks], np.float64)
    count = len(tasks)
    chosen = np.random.default_rng(seed).integers(0, count, (draws, count))
    means = successes[chosen].sum(axis=1) / episodes[chosen].sum(axis=1)
    student = float(special.stdtrit(count - 1, (1 + confidence) / 2))
    tail = float(special.ndtr(-student * math.sqrt(count / (count - 1))))
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What the rate could have been, had every error ended in failure, and in success."""

    worst: Rate
    best: Rate


def bounds(successes: int, failures: int, errors: int) -> Bounds:
    """An error is neither success nor failure. Without errors the rate would have been between these two."""
    everything = successes + failures + errors
    return Bounds(worst=rate(successes, everything), best=rate(successes + errors, everything))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: with any of them called significant at 5 %, the chance of even one false call stays below 5 %
    (Holm 1979), however the tests depend on each other."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _check(successes: int, episodes: int) -> None:
    if not 0 <= successes <= episodes:
        raise ValueError(f"{successes} successes of {episodes} episodes")
