"""Exact inference on the difference of two rates over the same episodes: right at least as often as it claims.

Of n pairs `wins` were solved by the other policy alone and `losses` by the one alone; their difference by n is the
difference of the rates. Against "it is d" stands Tango's score statistic (1998, Stat. Med. 17:891). Its normal
approximation misses more often than it claims where few episodes are discordant, which is where good policies live;
Newcombe's interval does so where rates are middling. Here the statistic's distribution is summed up for the worst
share of discordant pairs there may be: an exact unconditional test (Hsueh, Liu and Chen 2001, Biometrics 57:478),
inverted to an interval (Tang, Tang and Chan 2005, Stat. Med. 24:3565). "May be" is a 99.99 % interval of that share,
whose 0.01 % are added to the p-value (Berger and Boos 1994, JASA 89:1012).
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from jaxtyping import Float64
from scipy import special

from handeye.evaluate.statistics import Interval, clopper_pearson

DOUBT = 1e-4
"""Chance that the share of discordant pairs lies outside of where the worst is looked for; part of every p-value."""

SHARES = 32
"""How many shares are tried. Between them the p-value changes by less than DOUBT."""

REACH = 6.5
"""Standard deviations of counts that are summed over; what lies beyond is less than 1e-9."""

Counts = Float64[np.ndarray, "N"]


def score(wins: Counts, losses: Counts, pairs: int, difference: float) -> Counts:
    """Tango's statistic: how far the observed difference lies above `difference`, in standard errors under it."""
    linear = -wins - losses + (2 * pairs - wins + losses) * difference
    constant = -losses * difference * (1 - difference)
    share = (np.sqrt(np.maximum(linear**2 - 8 * pairs * constant, 0.0)) - linear) / (4 * pairs)
    spread = np.sqrt(np.maximum(pairs * (2 * share + difference * (1 - difference)), 0.0))
    distance = wins - losses - pairs * difference
    found: Counts = np.where(spread > 1e-9, distance / np.where(spread > 1e-9, spread, 1.0), 0.0)
    return found


@cache
def p_value(wins: int, losses: int, pairs: int, difference: float, *, above: bool) -> float:
    """Of "the difference is at most `difference`" (`above`), or at least."""
    if not above:
        return p_value(losses, wins, pairs, -difference, above=True)
    if difference >= 1 or (wins - losses) <= pairs * difference:
        return 1.0
    if difference <= -1:
        return 0.0
    low, high = clopper_pearson(wins + losses, pairs, confidence=1 - DOUBT)
    shares = np.linspace(max(low, abs(difference)), max(high, abs(difference)), SHARES)
    w, l, r = _around(pairs, shares, difference)  # noqa: E741
    observed = score(np.array([float(wins)]), np.array([float(losses)]), pairs, difference)[0]
    beyond = score(w, l, pairs, difference) >= observed - 1e-9
    w, l, r = w[beyond], l[beyond], r[beyond]  # noqa: E741
    ways = special.gammaln(pairs + 1) - special.gammaln(w + 1) - special.gammaln(l + 1) - special.gammaln(r + 1)
    worst = 0.0
    for share in shares:
        chances = special.xlogy(w, (share + difference) / 2) + special.xlogy(l, (share - difference) / 2)
        worst = max(worst, float(np.exp(ways + chances + special.xlogy(r, 1 - share)).sum()))
    return min(1.0, worst + DOUBT)


def _around(pairs: int, shares: Float64[np.ndarray, "S"], difference: float) -> tuple[Counts, Counts, Counts]:
    """All counts of wins, losses and the rest that matter for any of the shares."""
    axes = []
    for sign in (1, -1):
        chances = np.clip((shares + sign * difference) / 2, 0.0, 1.0)
        spread = REACH * np.sqrt(pairs * chances * (1 - chances)) + REACH
        low, high = float((pairs * chances - spread).min()), float((pairs * chances + spread).max())
        axes.append(np.arange(max(0, math.floor(low)), min(pairs, math.ceil(high)) + 1, dtype=np.float64))
    wins, losses = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    possible = wins + losses <= pairs
    return wins[possible], losses[possible], pairs - wins[possible] - losses[possible]


def interval(wins: int, losses: int, pairs: int, *, confidence: float) -> Interval:
    """All differences that neither test rejects, each at half of what the confidence leaves."""
    if pairs == 0:
        return -1.0, 1.0
    tail = (1 - confidence) / 2
    return _lowest(wins, losses, pairs, tail), -_lowest(losses, wins, pairs, tail)


def _lowest(wins: int, losses: int, pairs: int, tail: float) -> float:
    """The lowest difference that is not rejected. The p-value need not rise steadily, so it is sought from below, in
    steps, before it is bisected."""
    observed = (wins - losses) / pairs
    z = float(special.ndtri(1 - tail))
    width = z * math.sqrt((wins + losses) / pairs - observed**2 + z * z / pairs) / math.sqrt(pairs)
    rejected, kept = max(-1.0, observed - 2 * width - z * z / pairs), observed
    while rejected > -1 and p_value(wins, losses, pairs, rejected, above=True) > tail:
        rejected = max(-1.0, 2 * rejected - observed)
    for step in np.linspace(rejected, observed, 25)[1:]:
        if p_value(wins, losses, pairs, float(step), above=True) > tail:
            kept = float(step)
            break
        rejected = float(step)
    for _ in range(12):
        middle = (rejected + kept) / 2
        if p_value(wins, losses, pairs, middle, above=True) > tail:
            kept = middle
        else:
            rejected = middle
    return rejected
