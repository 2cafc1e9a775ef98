"""Bets: fortunes by hand, and what Ville promises about them, looked at after every round of 2,000 studies."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from handeye.evaluate.betting import (
    DIFFERENCE,
    RATE,
    SHARES,
    Domain,
    confidence_sequence,
    equivalence,
    fortune,
    p_value,
)

STUDIES, ROUNDS = 2_000, 50


def test_a_fortune_by_hand() -> None:
    """Against "at most a half": a success multiplies a share u by 1 + u, a failure by 1 - u."""
    for tally in ({1: 3}, {1: 2, 0: 1}, {0: 2}):
        wanted = np.mean((1 + SHARES) ** tally.get(1, 0) * (1 - SHARES) ** tally.get(0, 0))
        assert fortune(tally, RATE, 0.5, above=True) == pytest.approx(math.log(wanted))
    assert fortune({0: 3}, RATE, 0.5, above=False) == fortune({1: 3}, RATE, 0.5, above=True)
    assert fortune({}, DIFFERENCE, 0.0, above=True) == pytest.approx(0.0)
    assert fortune({-1: 0, 0: 5, 1: 0}, DIFFERENCE, 0.0, above=True) == pytest.approx(0.0)
    assert fortune({-1: 2, 1: 5}, DIFFERENCE, 0.1, above=True) == pytest.approx(
        fortune({1: 2, -1: 5}, DIFFERENCE, -0.1, above=False)
    )


def test_the_sequence_narrows_around_the_truth() -> None:
    assert confidence_sequence({}, RATE, 0.05) == (0.0, 1.0)
    widths = []
    for episodes in (10, 100, 1000):
        low, high = confidence_sequence({1: 9 * episodes // 10, 0: episodes // 10}, RATE, 0.05)
        assert low < 0.9 < high
        widths.append(high - low)
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
    low, high = confidence_sequence({1: 100}, RATE, 0.05)
    assert low > 0.9 and high == 1.0
    low, high = confidence_sequence({0: 500}, DIFFERENCE, 0.05)
    assert -high == pytest.approx(low) and 0 < high < 0.02


def test_bounds_are_where_the_bets_are_won() -> None:
    tally = {-1: 4, 0: 80, 1: 16}
    low, high = confidence_sequence(tally, DIFFERENCE, 0.05)
    assert fortune(tally, DIFFERENCE, low, above=True) == pytest.approx(math.log(40), abs=1e-6)
    assert fortune(tally, DIFFERENCE, high, above=False) == pytest.approx(math.log(40), abs=1e-6)
    assert p_value(tally, DIFFERENCE, low) == pytest.approx(0.05, abs=1e-6)
    assert equivalence(tally, DIFFERENCE, 0.01) == 1.0 and equivalence({0: 500}, DIFFERENCE, 0.05) < 0.001


def study(outcomes: np.ndarray, domain: Domain, mean: float, factor: float) -> float:
    """Share of studies (rows; columns are rounds; last axis tasks) in which a bet ever reaches `factor`."""
    ever = 0
    known: dict[tuple[tuple[int, int], ...], bool] = {}
    for rounds in outcomes:
        tally: Counter[int] = Counter()
        for played in rounds:
            tally.update(int(x) for x in played)
            key = tuple(sorted(tally.items()))
            if key not in known:
                known[key] = max(fortune(tally, domain, mean, above=above) for above in (True, False)) >= math.log(
                    factor
                )
            if known[key]:
                ever += 1
                break
    return ever / len(outcomes)


@pytest.mark.parametrize("rates", [[0.9] * 4, [1.0, 1.0, 0.9, 0.3], [0.97]])
def test_a_true_rate_is_hardly_ever_bet_out_at_any_time(rates: list[float]) -> None:
    """Looked at after each of 50 rounds: wrong in at most 5 % of 2,000 studies, with tasks of any difficulty."""
    outcomes = np.random.default_rng(0).random((STUDIES, ROUNDS, len(rates))) < rates
    assert study(outcomes.astype(int), RATE, float(np.mean(rates)), 40) <= 0.05


def test_naive_looking_is_wrong_far_more_often() -> None:
    """Why all this: the ordinary 95 % interval, looked at after each of 50 rounds and believed once it excludes."""
    from handeye.evaluate.statistics import wilson

    counts = (np.random.default_rng(0).random((STUDIES, ROUNDS, 4)) < 0.9).sum(axis=2).cumsum(axis=1)
    excluded = {
        (r, k): not wilson(k, 4 * (r + 1))[0] <= 0.9 <= wilson(k, 4 * (r + 1))[1]
        for r in range(ROUNDS)
        for k in np.unique(counts[:, r]).tolist()
    }
    assert np.mean([any(excluded[r, int(k)] for r, k in enumerate(row)) for row in counts]) > 0.2


def test_equal_policies_are_hardly_ever_told_apart_at_any_time() -> None:
    """Also where one is better on one task and worse on another: the mean difference is 0."""
    rng = np.random.default_rng(0)
    better = np.array([0.1, 0.02, 0.05, 0.05])
    worse = np.array([0.02, 0.1, 0.05, 0.05])
    draws = rng.random((STUDIES, ROUNDS, 4))
    outcomes = np.where(draws < better, 1, np.where(draws < better + worse, -1, 0))
    assert study(outcomes, DIFFERENCE, 0.0, 40) <= 0.05
