"""Comparing two policies: against SciPy, against published tables, by hand, and by 2,000 simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from handeye.evaluate.paired import (
    Pairs,
    equivalence,
    interval,
    mcnemar,
    pairs,
    unpaired_equivalence,
    unpaired_interval,
    unpaired_test,
)

STUDIES = 2_000


def table(both: int, only_one: int, only_other: int, neither: int) -> Pairs:
    return Pairs(both=both, only_one=only_one, only_other=only_other, neither=neither)


def test_pairs_are_counted() -> None:
    one, other = [True, True, False, False, True], [True, False, True, False, False]
    found = pairs(one, other)
    assert found == table(1, 2, 1, 1)
    assert (found.total, found.discordant, found.difference) == (5, 3, pytest.approx(-0.2))
    assert math.isnan(table(0, 0, 0, 0).difference)
    with pytest.raises(ValueError):
        pairs([True], [])


def test_mcnemar_is_the_exact_binomial_test() -> None:
    for only_one in range(0, 30, 3):
        for only_other in range(0, 30, 4):
            wanted = 1.0
            if only_one + only_other:
                wanted = stats.binomtest(only_one, only_one + only_other).pvalue
            assert mcnemar(table(7, only_one, only_other, 3)) == pytest.approx(wanted, abs=1e-12)
    assert mcnemar(table(0, 1, 7, 0)) == pytest.approx(0.0703125), "2 * (1 + 8) / 256"


def test_mcnemar_is_wrong_no_more_often_than_it_claims() -> None:
    for discordance in (0.02, 0.1, 0.5):
        half = discordance / 2
        drawn = np.random.default_rng(1).multinomial(200, [0.5 - half, half, half, 0.5 - half], STUDIES)
        assert np.mean([mcnemar(table(*map(int, row))) <= 0.05 for row in drawn]) <= 0.055


def test_equivalence_is_two_one_sided_tests_at_the_margins() -> None:
    """It agrees with the interval: where the 90 % interval lies inside the margins, p is at most 5 %."""
    found = table(470, 6, 8, 16)
    low, high = interval(found, confidence=0.9)
    assert max(-low, high) == pytest.approx(0.0175, abs=0.002)
    for margin in (0.01, 0.015, 0.02, 0.03, 0.05):
        assert (equivalence(found, margin) <= 0.05) == (-margin < low and high < margin)
    assert equivalence(table(90, 0, 10, 0), 0.02) == 1.0 == equivalence(table(0, 0, 0, 0), 0.02)


def test_equivalence_is_wrong_no_more_often_than_it_claims() -> None:
    """Two policies that differ by exactly the margin: called equivalent in at most 5 % of 2,000 studies."""
    for discordance in (0.02, 0.06):
        more, less = (discordance + 0.02) / 2, (discordance - 0.02) / 2
        drawn = np.random.default_rng(2).multinomial(500, [less, more, 1 - discordance], STUDIES)
        known = {
            (b, c): equivalence(table(500 - b - c, b, c, 0), 0.02) <= 0.05
            for b, c, _ in np.unique(drawn, axis=0).tolist()
        }
        assert np.mean([known[b, c] for b, c, _ in drawn.tolist()]) <= 0.055


def test_unpaired_equivalence_is_the_interval_inside_the_margins() -> None:
    one, other = [(47, 50), (50, 50)], [(48, 50), (49, 50)]
    for margin in (0.03, 0.06, 0.1):
        p = unpaired_equivalence(one, other, margin)
        for alpha in (0.01, 0.05, 0.2):
            low, high = unpaired_interval(one, other, confidence=1 - 2 * alpha)
            assert (p <= alpha) == (-margin < low and high < margin)


def test_one_task_unpaired_is_fishers_exact_test() -> None:
    for a, b in (((45, 50), (38, 50)), ((0, 10), (7, 12)), ((9, 9), (9, 9))):
        wanted = stats.fisher_exact([[a[0], a[1] - a[0]], [b[0], b[1] - b[0]]]).pvalue
        assert unpaired_test([a], [b]) == pytest.approx(wanted)


def test_several_tasks_unpaired_by_hand() -> None:
    """Two tasks of two episodes: the other solved all four, the one none. Of 6 x 6 equally likely ways one is as
    extreme, and one is at the other end: 2 / 36."""
    assert unpaired_test([(0, 2), (0, 2)], [(2, 2), (2, 2)]) == pytest.approx(2 / 36)
    easy_and_hard = [(50, 50), (5, 50)], [(50, 50), (15, 50)]
    pooled = [(55, 100)], [(65, 100)]
    assert unpaired_test(*easy_and_hard) < 0.05 < unpaired_test(*pooled), "difficulty is not noise"


def test_unpaired_interval_with_one_task_is_newcombes() -> None:
    """Newcombe 1998 (Stat. Med. 17:873), table II (a), method 10: 56/70 less 48/80 is 0.0524 to 0.3339."""
    assert [round(bound, 4) for bound in unpaired_interval([(48, 80)], [(56, 70)])] == [0.0524, 0.3339]


def test_unpaired_interval_covers_and_its_test_keeps_its_word() -> None:
    rates = np.array([1.0, 0.95, 0.8])
    rng = np.random.default_rng(0)
    covered, false = [], []
    for _ in range(80):
        one, other, same = (
            [(int(k), 30) for k in rng.binomial(30, p)] for p in (rates, rates - [0.0, 0.1, 0.2], rates)
        )
        low, high = unpaired_interval(one, other)
        covered.append(low <= -0.1 <= high)
        false.append(unpaired_test(one, same) <= 0.05)
    assert np.mean(covered) >= 0.92 and np.mean(false) <= 0.06
