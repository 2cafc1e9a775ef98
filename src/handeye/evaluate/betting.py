"""Evidence that may be looked at as often as one likes: bets against a claim about a mean.

Looking at an ordinary interval after every episode and stopping when it pleases is wrong far more often than it claims.
Against "the mean is at most m" a gambler starts with 1 and multiplies it, for each outcome x between `low` and `high`,
by (1 - u) + u (x - low) / (m - low). If the claim is true the fortune is not expected to grow, so the chance that it
ever reaches 1 / alpha is at most alpha (Ville 1939), however often one looks. The share u is not chosen: the fortune is
the average over a fixed grid of shares (a mixture, Robbins 1970). All means that have not been bet out form a
confidence sequence (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2024).

Here the mean is a suite's, over tasks of different difficulty, and a round is one episode of every task. If a round's
factors have expectations whose mean is at most 1, so is their product (arithmetic and geometric mean). The fortune is
therefore looked at after whole rounds only, and tasks may differ as they like.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
from scipy import special

METHOD = "betting-mixture-1"
"""Names this procedure, grid included, in what is recorded; another one gets another name."""

SHARES = np.geomspace(0.01, 1.0, 24)
"""The grid of u: small shares for small differences. Not knowing the best one costs less than a factor of 24."""

Tally = Mapping[int, int]
"""Outcome -> how often: 0 and 1 of a run; -1, 0 and 1 of a pair of runs."""

Domain = tuple[float, float]
"""Lowest and highest outcome there can be."""

RATE: Domain = (0.0, 1.0)
DIFFERENCE: Domain = (-1.0, 1.0)


def fortune(tally: Tally, domain: Domain, mean: float, *, above: bool) -> float:
    """Logarithm of what the bets on a mean above `mean` (or below it) have made of 1. `mean` lies inside the domain."""
    low, high = domain
    assert low < mean < high
    total = np.zeros(len(SHARES))
    for outcome, count in tally.items():
        if not count:
            continue
        gain = (outcome - low) / (mean - low) if above else (high - outcome) / (high - mean)
        with np.errstate(divide="ignore"):  # a share of 1 may lose everything
            total = total + count * np.log1p(SHARES * (gain - 1))
    return float(special.logsumexp(total)) - math.log(len(SHARES))


def confidence_sequence(tally: Tally, domain: Domain, alpha: float) -> tuple[float, float]:
    """The means that no bet has ruined, each side at alpha / 2: right at all times at once with chance 1 - alpha."""
    counts = tuple(sorted(tally.items()))
    return _bound(counts, domain, alpha, above=True), _bound(counts, domain, alpha, above=False)


@cache
def _bound(counts: tuple[tuple[int, int], ...], domain: Domain, alpha: float, *, above: bool) -> float:
    """Bisection: the further a claimed mean is from the outcomes, the more a bet against it earns."""
    ruined, standing = domain if above else domain[::-1]
    for _ in range(50):
        middle = (ruined + standing) / 2
        if fortune(dict(counts), domain, middle, above=above) >= math.log(2 / alpha):
            ruined = middle
        else:
            standing = middle
    return ruined


def p_value(tally: Tally, domain: Domain, mean: float) -> float:
    """Two-sided, and right whenever one stops: twice the reciprocal of the larger fortune."""
    most = max(fortune(tally, domain, mean, above=above) for above in (True, False))
    return min(1.0, 2 * math.exp(-most))


def equivalence(tally: Tally, domain: Domain, margin: float) -> float:
    """p-value of "the mean is `margin` or more away from 0", right whenever one stops: both bets must have won."""
    least = min(
        fortune(tally, domain, -margin, above=True),
        fortune(tally, domain, margin, above=False),
    )
    return min(1.0, math.exp(-least))
