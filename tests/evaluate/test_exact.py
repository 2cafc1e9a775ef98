"""The exact interval of a paired difference: its statistic at published values, its word by summing everything up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from handeye.evaluate.exact import interval, p_value, score
from handeye.evaluate.statistics import quantile


@pytest.mark.parametrize(
    ("wins", "losses", "pairs", "low", "high"),
    [
        (
            7,
            1,
            21,
            0.026,
            0.517,
        ),  # airway hyper-responsiveness, Bentur et al. 2009: Fagerland et al. 2014, Tango's score
        (16, 6, 161, 0.0054, 0.1240),  # complete response, Cavo et al. 2012: Fagerland et al. 2017, chapter 8, Tango's
    ],
)
def test_the_statistic_is_tangos(wins: int, losses: int, pairs: int, low: float, high: float) -> None:
    """At the ends of his published 95 % intervals it is 1.96 standard errors away."""
    counts = np.array([float(wins)]), np.array([float(losses)])
    for end, wanted in ((low, quantile(0.95)), (high, -quantile(0.95))):
        step = 0.5 * 10.0 ** -(len(str(low)) - 2)  # what was rounded away
        nearer, further = (score(*counts, pairs, end + sign * step)[0] for sign in (1, -1))
        assert nearer - 0.01 <= wanted <= further + 0.01


def test_the_statistic_at_no_difference_is_mcnemars() -> None:
    """(wins - losses) / sqrt(wins + losses), whatever the number of pairs."""
    wins, losses = np.array([5.0, 0.0, 12.0]), np.array([1.0, 3.0, 12.0])
    for pairs in (24, 1000):
        np.testing.assert_allclose(score(wins, losses, pairs, 0.0), (wins - losses) / np.sqrt(wins + losses), atol=1e-9)
    assert score(np.zeros(1), np.zeros(1), 10, 0.0)[0] == 0.0


def test_a_p_value_by_hand() -> None:
    """Three pairs, all won, against "no difference": the worst share of discordant pairs is 1, and then it is 1 / 8. So
    far out nothing else is as extreme."""
    assert p_value(3, 0, 3, 0.0, above=True) == pytest.approx(1 / 8, abs=2e-4)
    assert p_value(0, 3, 3, 0.0, above=False) == p_value(3, 0, 3, 0.0, above=True)
    assert p_value(0, 3, 3, 0.0, above=True) == 1.0 == p_value(2, 2, 10, 0.0, above=True)
    assert p_value(1, 1, 10, -1.0, above=True) == 0.0


def test_intervals() -> None:
    low, high = interval(10, 6, 500, confidence=0.95)
    assert low < 0 < 0.008 < high and high - low == pytest.approx(0.034, abs=0.002)
    assert interval(6, 10, 500, confidence=0.95) == (-high, -low)
    narrow = interval(10, 6, 500, confidence=0.9)
    assert low < narrow[0] and narrow[1] < high
    low, high = interval(0, 0, 500, confidence=0.95)
    assert low == -high and high == pytest.approx(3.7 / 500, rel=0.05), "about the rule of three"
    assert interval(0, 0, 0, confidence=0.95) == (-1.0, 1.0)
    low, high = interval(6, 0, 6, confidence=0.95)
    assert 0 < low < 0.5 and high == pytest.approx(1.0)
    assert interval(5, 0, 5, confidence=0.95)[0] < 0, "1 / 32 is more than 2.5 %"


@pytest.mark.parametrize(
    ("pairs", "more", "less"), [(50, 0.02, 0.0), (100, 0.03, 0.01), (100, 0.1, 0.15), (500, 0.02, 0.0)]
)
def test_it_keeps_its_word_everywhere(pairs: int, more: float, less: float) -> None:
    """Not simulated: the chance of every table is summed up. Each end misses the truth in at most 2.5 %."""
    wins, losses = (np.arange(0, int(pairs * p + 8 * (pairs * p) ** 0.5 + 9)) for p in (more, less))
    missed, known = np.zeros(2), 0.0
    for w in wins[wins <= pairs].tolist():
        for l in losses[losses <= pairs - w].tolist():  # noqa: E741
            rest = pairs - w - l
            ways = (
                special.gammaln(pairs + 1) - special.gammaln(w + 1) - special.gammaln(l + 1) - special.gammaln(rest + 1)
            )
            logs = special.xlogy(w, more) + special.xlogy(l, less) + special.xlogy(rest, 1 - more - less)
            chance = float(np.exp(ways + logs))
            if chance < 1e-7:
                continue
            known += chance
            rejected = [p_value(w, l, pairs, more - less, above=above) <= 0.025 for above in (True, False)]
            missed += chance * np.array(rejected)
    assert known > 0.999
    assert missed.max() <= 0.025


def test_p_values_fall_with_distance() -> None:
    found = [p_value(12, 4, 300, difference, above=True) for difference in np.linspace(-0.1, 0.02, 13).tolist()]
    assert found == sorted(found)
