"""How many episodes for which difference, before anything runs. For McNemar's test exactly, by summing its power up."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float64, Int
from scipy import special

from handeye.evaluate.exact import score
from handeye.evaluate.statistics import quantile

POWER = 0.8
ALPHA = 0.05
MOST = 1_000_000
"""Episodes beyond which nobody evaluates."""


def mcnemar_power(pairs: int, discordance: float, difference: float, *, alpha: float = ALPHA) -> float:
    """Chance that the exact McNemar test finds it: `discordance` is the share of episodes that end differently,
    `difference` the other's rate less the one's."""
    if not abs(difference) <= discordance <= 1:
        raise ValueError(f"a difference of {difference} with a discordance of {discordance}")
    if discordance == 0:
        return 0.0
    counts = np.arange(pairs + 1)
    chances = np.exp(_log_binomial(pairs, counts, discordance))
    counts, chances = counts[chances > 1e-12], chances[chances > 1e-12]
    critical = _critical(counts, alpha)
    wins = (1 + abs(difference) / discordance) / 2
    few = np.where(critical >= 0, special.bdtr(np.maximum(critical, 0), counts, wins), 0.0)
    many = np.where(critical >= 0, special.bdtr(np.maximum(critical, 0), counts, 1 - wins), 0.0)
    return float((chances * (few + many)).sum())


def _critical(counts: Int[np.ndarray, "N"], alpha: float) -> Int[np.ndarray, "N"]:
    """Of so many discordant pairs, the most that the loser may win for a p-value of at most alpha; -1: none."""
    low: np.ndarray = np.full(len(counts), -1)
    high: np.ndarray = counts // 2
    while (low < high).any():
        middle = (low + high + 1) // 2
        fits = (middle < 0) | (2 * special.bdtr(np.maximum(middle, 0), counts, 0.5) <= alpha)
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    return low


def pairs_needed(discordance: float, difference: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """Smallest number of pairs from which on the power stays there (an exact test's power falls a little at times)."""

    def enough(pairs: int) -> bool:
        return mcnemar_power(pairs, discordance, difference, alpha=alpha) >= power

    return _steady(_first(enough), enough)


def detectable(pairs: int, discordance: float, *, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Smallest difference that so many pairs find; None if not even one in which all discordant episodes go one way."""
    if mcnemar_power(pairs, discordance, discordance, alpha=alpha) < power:
        return None
    low, high = 0.0, discordance
    for _ in range(30):
        middle = (low + high) / 2
        found = mcnemar_power(pairs, discordance, middle, alpha=alpha) >= power
        low, high = (low, middle) if found else (middle, high)
    return high


def equivalence_power(
    pairs: int, discordance: float, margin: float, *, difference: float = 0.0, alpha: float = ALPHA
) -> float:
    """Chance that two policies that differ by `difference` are found equivalent within `margin`; by the normal
    approximation of the score statistic, which the exact test follows closely."""
    only_one, only_other = (discordance - difference) / 2, (discordance + difference) / 2
    wins, losses = (
        axis.ravel() for axis in np.meshgrid(_likely(pairs, only_other), _likely(pairs, only_one), indexing="ij")
    )
    possible = wins + losses <= pairs
    wins, losses = wins[possible], losses[possible]
    rest, z = pairs - wins - losses, quantile(1 - 2 * alpha)
    found = (score(wins, losses, pairs, -margin) > z) & (score(wins, losses, pairs, margin) < -z)
    ways = special.gammaln(pairs + 1) - special.gammaln(wins + 1) - special.gammaln(losses + 1)
    chances = special.xlogy(wins, only_other) + special.xlogy(losses, only_one) + special.xlogy(rest, 1 - discordance)
    return float(np.exp(ways - special.gammaln(rest + 1) + chances)[found].sum())


def equivalence_pairs(discordance: float, margin: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """Pairs with which two policies of the same rate are found equivalent within `margin`."""

    def enough(pairs: int) -> bool:
        return equivalence_power(pairs, discordance, margin, alpha=alpha) >= power

    return _steady(_first(enough), enough)


def equivalence_margin(pairs: int, discordance: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """Smallest margin within which so many pairs find two equal policies equivalent."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        found = equivalence_power(pairs, discordance, middle, alpha=alpha) >= power
        low, high = (low, middle) if found else (middle, high)
    return high


def unpaired_needed(one: float, other: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """Episodes per policy where nothing ties them together (two independent proportions, pooled variance)."""
    z, beta = quantile(1 - alpha), float(special.ndtri(power))
    mean = (one + other) / 2
    spread = z * math.sqrt(2 * mean * (1 - mean)) + beta * math.sqrt(one * (1 - one) + other * (1 - other))
    return math.ceil((spread / (other - one)) ** 2)


def unpaired_detectable(episodes: int, rate: float, *, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Smallest gain over `rate` that so many episodes per policy find; None if not even perfection."""
    if rate >= 1 or unpaired_needed(rate, 1.0, power=power, alpha=alpha) > episodes:
        return None
    low, high = 0.0, 1 - rate
    for _ in range(40):
        middle = (low + high) / 2
        found = middle > 0 and unpaired_needed(rate, rate + middle, power=power, alpha=alpha) <= episodes
        low, high = (low, middle) if found else (middle, high)
    return high


def independent_discordance(one: float, other: float) -> float:
    """How often two policies end differently if nothing but their rates ties them: the most to expect."""
    return one * (1 - other) + other * (1 - one)


def _first(enough: Callable[[int], bool]) -> int:
    """By doubling and bisection."""
    high = 8
    while not enough(high):
        high *= 2
        if high > MOST:
            raise ValueError(f"more than {MOST} episodes")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _steady(start: int, enough: Callable[[int], bool]) -> int:
    """The first number at or after `start` from which on a stretch of a tenth more is enough throughout."""
    steady = start
    for pairs in range(start, start + max(10, start // 10)):
        if not enough(pairs):
            steady = pairs + 1
    return steady


def _likely(pairs: int, share: float) -> Float64[np.ndarray, "N"]:
    """Counts that matter."""
    middle, spread = pairs * share, 7 * math.sqrt(pairs * share * (1 - share)) + 8
    return np.arange(max(0, math.floor(middle - spread)), min(pairs, math.ceil(middle + spread)) + 1).astype(np.float64)


def _log_binomial(n: int, k: Int[np.ndarray, "N"], p: float) -> Float64[np.ndarray, "N"]:
    choose = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.asarray(choose + special.xlogy(k, p) + special.xlog1py(n - k, -p))
