"""Intervals against SciPy's, against the literature's arithmetic, and against the coverage they claim."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from handeye.evaluate.statistics import clustered, rate, wilson


def test_wilson_is_scipys() -> None:
    compared = 0
    for episodes in (1, 2, 10, 37, 500):
        for successes in range(0, episodes + 1, max(1, episodes // 11)):
            theirs = stats.binomtest(successes, episodes).proportion_ci(0.95, method="wilson")
            np.testing.assert_allclose(wilson(successes, episodes), (theirs.low, theirs.high), atol=1e-12)
            compared += 1
    assert compared > 40


@pytest.mark.parametrize(
    ("successes", "episodes", "low", "high"),
    [(10, 10, 72.2, 100), (97, 100, 91.5, 99.0), (390, 400, 95.5, 98.6), (485, 500, 95.1, 98.2)],
)
def test_wilson_at_known_values(successes: int, episodes: int, low: float, high: float) -> None:
    assert [round(100 * bound, 1) for bound in wilson(successes, episodes)] == [low, high]


def test_wilson_covers_what_it_claims() -> None:
    """Averaged over true rates: exact, by summing the binomial distribution."""
    episodes = 50
    intervals = [wilson(k, episodes) for k in range(episodes + 1)]
    covered = []
    for truth in np.linspace(0.02, 0.98, 49):
        inside = [low <= truth <= high for low, high in intervals]
        covered.append(stats.binom.pmf(np.arange(episodes + 1), episodes, truth)[inside].sum())
    assert 0.945 < np.mean(covered) < 0.96
    assert min(covered) > 0.87


def test_no_episode_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert math.isnan(rate(0, 0).value)
    assert str(rate(0, 0)) == "no episode"
    with pytest.raises(ValueError):
        wilson(3, 2)


def test_clustered_is_the_standard_error_of_task_means_when_tasks_are_equally_large() -> None:
    rng = np.random.default_rng(0)
    by_task = {task: [bool(x < difficulty) for x in rng.random(20)] for task, difficulty in enumerate(rng.random(8))}
    found = clustered(by_task)
    means = [np.mean(outcomes) for outcomes in by_task.values()]
    assert found is not None
    np.testing.assert_allclose(found.rate, np.mean(means))
    np.testing.assert_allclose(found.standard_error, np.std(means, ddof=1) / math.sqrt(8))
    half = stats.t.ppf(0.975, 7) * found.standard_error
    np.testing.assert_allclose((found.low, found.high), (found.rate - half, found.rate + half))


def test_tasks_of_different_difficulty_widen_the_answer_about_other_tasks() -> None:
    by_task = {task: [True] * (5 * task) + [False] * (50 - 5 * task) for task in range(11)}
    found, episodes = clustered(by_task), rate(275, 550)
    assert found is not None
    assert found.high - found.low > 3 * (episodes.high - episodes.low)


def test_where_tasks_did_not_differ_nothing_is_said_about_others() -> None:
    assert clustered({3: [True, False], 4: []}) is None, "one task"
    assert clustered({0: [True] * 5, 1: [True] * 5}) is None, "no spread seen"
