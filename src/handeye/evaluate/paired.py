"""Two policies, compared: on the same episodes (paired), and where that cannot be had (unpaired).

Paired: the exact McNemar test says whether there is a difference, an exact interval how large it is (exact.py), two
exact one-sided tests whether it is smaller than a margin. Unpaired: an exact test stratified by task, and an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int
from scipy import special

from handeye.evaluate import exact
from handeye.evaluate.statistics import CONFIDENCE, Counts, Interval, mean_rate, stratified


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Episodes that both policies ran, by who succeeded."""

    both: int
    only_one: int
    only_other: int
    neither: int

    @property
    def total(self) -> int:
        return self.both + self.only_one + self.only_other + self.neither

    @property
    def discordant(self) -> int:
        """Only these can tell the two apart."""
        return self.only_one + self.only_other

    @property
    def difference(self) -> float:
        """Rate of the other less rate of the one; NaN without pairs."""
        return (self.only_other - self.only_one) / self.total if self.total else math.nan


def pairs(one: Sequence[bool], other: Sequence[bool]) -> Pairs:
    """Of outcomes in the same order."""
    counts = [sum((a, b) == kind for a, b in zip(one, other, strict=True)) for kind in _KINDS]
    return Pairs(both=counts[0], only_one=counts[1], only_other=counts[2], neither=counts[3])


_KINDS = ((True, True), (True, False), (False, True), (False, False))


def mcnemar(table: Pairs) -> float:
    """Exact two-sided p-value of "each is as likely to win a discordant episode": twice the smaller binomial tail."""
    if table.discordant == 0:
        return 1.0
    fewer = min(table.only_one, table.only_other)
    return min(1.0, 2 * float(special.bdtr(fewer, table.discordant, 0.5)))


def interval(table: Pairs, *, confidence: float = CONFIDENCE) -> Interval:
    """Of `difference`; exact."""
    return exact.interval(table.only_other, table.only_one, table.total, confidence=confidence)


def equivalence(table: Pairs, margin: float) -> float:
    """p-value of "they differ by `margin` or more": the larger of two exact one-sided tests (TOST)."""
    if table.total == 0:
        return 1.0
    wins, losses, total = table.only_other, table.only_one, table.total
    return max(
        exact.p_value(wins, losses, total, -margin, above=True),
        exact.p_value(wins, losses, total, margin, above=False),
    )


def unpaired_interval(one: Counts, other: Counts, *, confidence: float = CONFIDENCE) -> Interval:
    """Of the difference of two suite means, other less one: square-and-add of the two `stratified` intervals (Newcombe
    1998, Stat. Med. 17:873, method 10, in the stratified form of Yan and Su 2010)."""
    (p, low, high), (q, other_low, other_high) = (
        (mean_rate(counts), *stratified(counts, confidence=confidence)) for counts in (one, other)
    )
    difference = q - p
    return difference - math.hypot(q - other_low, high - p), difference + math.hypot(other_high - q, p - low)


def unpaired_equivalence(one: Counts, other: Counts, margin: float) -> float:
    """p-value of "they differ by `margin` or more", by inverting the interval: at most alpha where the interval of
    confidence 1 - 2 alpha lies inside the margins."""

    def inside(alpha: float) -> bool:
        low, high = unpaired_interval(one, other, confidence=1 - 2 * alpha)
        return -margin < low and high < margin

    if not inside(0.4999):
        return 1.0
    fails, holds = math.log(SMALLEST), math.log(0.4999)
    for _ in range(30):
        middle = (fails + holds) / 2
        fails, holds = (fails, middle) if inside(math.exp(middle)) else (middle, holds)
    return math.exp(holds)


SMALLEST = 1e-9
"""p-values below it are not told apart."""


def unpaired_test(one: Counts, other: Counts) -> float:
    """Exact two-sided p-value of "the same rate on every task": given each task's totals, the successes of `other` are
    a sum of hypergeometric numbers (one task: Fisher's exact test; several: Cochran, Mantel and Haenszel's, exactly).
    Outcomes as unlikely as the observed one or less are added up."""
    distribution, observed, lowest = np.ones(1), 0, 0
    for (s, n), (t, m) in zip(one, other, strict=True):
        least, most = max(0, s + t - n), min(s + t, m)
        counts = np.arange(least, most + 1)
        logs = _log_binomial(m, counts) + _log_binomial(n, s + t - counts) - _log_binomial(n + m, s + t)
        distribution = np.convolve(distribution, np.exp(logs))
        lowest, observed = lowest + least, observed + t
    at = distribution[observed - lowest]
    return min(1.0, float(distribution[distribution <= at * (1 + 1e-9)].sum()))


def _log_binomial(n: int, k: Int[np.ndarray, "K"] | int) -> Float64[np.ndarray, "K"] | float:
    found: Float64[np.ndarray, "K"] | float = (
        special.gammaln(n + 1) - special.gammaln(np.add(k, 1)) - special.gammaln(np.subtract(n + 1, k))
    )
    return found


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """One policy, run twice on the same episodes: how often it disagrees with itself."""

    pairs: int
    discordant: int
    low: float
    high: float
    """Clopper-Pearson interval of the share of episodes that end differently."""

    identical: int
    """Episodes whose executed actions were the same to the last bit."""

    @property
    def share(self) -> float:
        return self.discordant / self.pairs if self.pairs else math.nan
