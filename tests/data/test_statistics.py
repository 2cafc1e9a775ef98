from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handeye.data.statistics import NAMES, Statistics, measure
from handeye.errors import UserError

RNG = np.random.default_rng(0)
EPISODES = [(RNG.normal(size=(n, 7)), RNG.normal(size=(n, 8))) for n in (3, 50, 20)]


def test_against_numpy() -> None:
    found = measure(iter(EPISODES))
    assert (found.episodes, found.steps) == (3, 73)
    for vector, part in ((found.action, 0), (found.proprio, 1)):
        values = np.concatenate([episode[part] for episode in EPISODES])
        expected = {
            "mean": values.mean(0), "std": values.std(0), "min": values.min(0), "max": values.max(0),
            "q01": np.quantile(values, 0.01, axis=0), "q99": np.quantile(values, 0.99, axis=0),
        }  # fmt: skip
        for name in NAMES:
            np.testing.assert_allclose(getattr(vector, name), expected[name], atol=1e-15)


def test_round_trip_through_text() -> None:
    found = measure(EPISODES)
    assert Statistics.from_json(json.loads(json.dumps(found.to_json()))) == found


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["mean_std", "bounds", "quantiles"]))
def test_normalised_data_comes_back(seed: int, kind) -> None:
    values = np.random.default_rng(seed).normal(3, 10, (40, 7))
    values[:, 2] = 0.7
    vector = measure([(values, values)]).action
    normalizer = vector.normalizer(kind)
    inside = np.clip(values, vector.q01, vector.q99)
    np.testing.assert_allclose(normalizer.inverse(normalizer.forward(inside)), inside, atol=1e-7)
    assert (normalizer.forward(values)[:, 2] == 0).all()


def test_almost_constant_dimensions_are_constant_between_quantiles() -> None:
    """q01 == q99 with rare outliers: no division by (nearly) nothing."""
    values = np.zeros((1000, 7))
    values[0, 0] = 5.0
    normalizer = measure([(values, values)]).action.normalizer("quantiles")
    assert normalizer.constant[0]
    assert np.abs(normalizer.forward(values)).max() == 0


def test_nothing_has_no_statistics() -> None:
    with pytest.raises(UserError, match="no demonstrations"):
        measure([])


@pytest.mark.parametrize("value", [None, [], {"action": {}}, {"action": [], "proprio": {}}])
def test_damaged_statistics_are_refused(value) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        Statistics.from_json(value)
