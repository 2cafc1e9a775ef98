"""Planning: exact power against simulation, its inverses against itself, and the arithmetic of the literature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from handeye.evaluate.paired import Pairs, equivalence, mcnemar
from handeye.evaluate.power import (
    detectable,
    equivalence_margin,
    equivalence_pairs,
    equivalence_power,
    independent_discordance,
    mcnemar_power,
    pairs_needed,
    unpaired_detectable,
    unpaired_needed,
)


@pytest.mark.parametrize(("pairs", "discordance", "difference"), [(500, 0.04, 0.02), (200, 0.1, 0.06), (60, 0.5, 0.2)])
def test_power_is_what_simulation_finds(pairs: int, discordance: float, difference: float) -> None:
    more, less = (discordance + difference) / 2, (discordance - difference) / 2
    drawn = np.random.default_rng(0).multinomial(pairs, [less, more, 1 - discordance], 20_000)
    p = {
        (b, c): mcnemar(Pairs(both=0, only_one=b, only_other=c, neither=0))
        for b, c, _ in np.unique(drawn, axis=0).tolist()
    }
    found = np.mean([p[int(b), int(c)] <= 0.05 for b, c, _ in drawn])
    assert mcnemar_power(pairs, discordance, difference) == pytest.approx(found, abs=0.012)


def test_power_by_hand() -> None:
    """Six pairs, all discordant, always the same winner: p = 2 / 64 is found; with five, p = 2 / 32 is not."""
    assert mcnemar_power(6, 1.0, 1.0) == pytest.approx(1.0)
    assert mcnemar_power(5, 1.0, 1.0) == 0.0
    assert mcnemar_power(100, 0.0, 0.0) == 0.0
    assert mcnemar_power(300, 0.1, 0.0) <= 0.05
    assert mcnemar_power(300, 0.1, -0.05) == mcnemar_power(300, 0.1, 0.05)
    with pytest.raises(ValueError, match="discordance"):
        mcnemar_power(100, 0.02, 0.05)


def test_pairs_needed_is_the_edge_of_power() -> None:
    for discordance, difference in ((0.03, 0.02), (0.04, 0.02), (0.05, 0.03), (0.3, 0.1)):
        needed = pairs_needed(discordance, difference)
        assert mcnemar_power(needed - 1, discordance, difference) < 0.8
        assert all(mcnemar_power(needed + more, discordance, difference) >= 0.8 for more in range(0, 30, 5))
        found = detectable(needed, discordance)
        assert found is not None and found <= difference * 1.001
    assert detectable(20, 0.1) is None, "six discordant pairs are needed to find anything at all"


def test_exact_needs_more_than_the_formula_says() -> None:
    """Connor 1987 (Biometrics 43:207): 783 pairs for 2 points at a discordance of 4 %. The exact test is stricter."""
    z, beta, discordance, difference = 1.959964, 0.841621, 0.04, 0.02
    formula = ((z * discordance**0.5 + beta * (discordance - difference**2) ** 0.5) / difference) ** 2
    assert int(np.ceil(formula)) == 783
    assert 783 < pairs_needed(discordance, difference) < 1.1 * 783


@pytest.mark.parametrize(
    ("one", "other", "episodes"),
    [(0.765, 0.8, 2180), (0.9, 0.95, 435), (0.95, 0.98, 588), (0.95, 0.97, 1506), (0.969, 0.977, 6443)],
)
def test_unpaired_at_known_values(one: float, other: float, episodes: int) -> None:
    """Fleiss, Levin and Paik 2003, formula 4.14 without continuity correction."""
    assert unpaired_needed(one, other) == episodes
    found = unpaired_detectable(episodes, one)
    assert found == pytest.approx(other - one, rel=2e-3)


def test_unpaired_edges() -> None:
    assert unpaired_detectable(10, 0.95) is None
    assert independent_discordance(0.95, 0.97) == pytest.approx(0.95 * 0.03 + 0.05 * 0.97)


def test_equivalence_power_is_what_the_exact_test_has() -> None:
    """Simulated, with the test that `compare` uses."""
    drawn = np.random.default_rng(0).multinomial(500, [0.02, 0.02, 0.96], 2_000)
    known = {
        (b, c): equivalence(Pairs(both=500 - b - c, only_one=b, only_other=c, neither=0), 0.03) <= 0.05
        for b, c, _ in np.unique(drawn, axis=0).tolist()
    }
    found = np.mean([known[b, c] for b, c, _ in drawn.tolist()])
    assert equivalence_power(500, 0.04, 0.03) == pytest.approx(found, abs=0.03)


def test_equivalence_inverses() -> None:
    needed = equivalence_pairs(0.04, 0.02)
    assert equivalence_power(needed, 0.04, 0.02) >= 0.8 > equivalence_power(needed - 20, 0.04, 0.02)
    assert equivalence_margin(needed, 0.04) == pytest.approx(0.02, abs=3e-4)
    assert equivalence_power(500, 0.04, 0.02, difference=0.02) <= 0.05, "a difference of the margin is not called none"


def test_more_comparisons_need_more_episodes() -> None:
    assert pairs_needed(0.05, 0.03, alpha=0.05 / 5) > 1.3 * pairs_needed(0.05, 0.03)
    assert stats.norm.ppf(0.995) > 2.5  # what one in five of them asks for
