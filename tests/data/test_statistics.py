from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handeye.data.statistics import NAMES, Statistics, from_norm_stats, measure
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


def vector(**rows) -> dict:
    return {"mean": [0.0, 1.0], "std": [1.0, 2.0], "q01": [-1.0, -2.0], "q99": [1.0, 2.0], **rows}


def test_what_a_file_does_not_know_is_none_and_an_error_when_asked_for() -> None:
    found = Statistics.from_json({"action": vector(), "proprio": vector(q01=None, q99=None), "num_transitions": 5})
    assert (found.episodes, found.steps, found.action.min) == (None, 5, None)
    assert Statistics.from_json(json.loads(json.dumps(found.to_json()))) == found
    middle = found.action.normalizer("quantiles").forward(np.array([0.0, 0.0]))
    assert middle.tolist() == pytest.approx([0, 0], abs=1e-7)
    with pytest.raises(UserError, match="no min and max"):
        found.action.normalizer("bounds")
    with pytest.raises(UserError, match="no q01 and q99"):
        found.proprio.normalizer("quantiles")


def test_the_files_own_mask_is_used() -> None:
    found = Statistics.from_json({"action": vector(mask=[True, False]), "proprio": vector()})
    assert found.action.normalizer("quantiles").mask == (True, False)
    assert found.action.normalizer("quantiles", mask=(False, True)).mask == (False, True)


def test_openpis_file() -> None:
    found = from_norm_stats({"norm_stats": {"state": vector(), "actions": vector(std=[0.0, 1.0])}})
    assert (found.action.std, found.proprio.q99) == ((0.0, 1.0), (1.0, 2.0))
    for value, why in (
        ({"state": vector()}, "no 'norm_stats'"),
        ({"norm_stats": {"state": vector()}}, "no actions"),
        ({"norm_stats": {"state": vector(), "actions": vector(mean=[float("nan"), 0.0])}}, "mean is missing or not"),
    ):
        with pytest.raises(UserError, match=why):
            from_norm_stats(value)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ({"q01": [2.0, 0.0]}, "q01 2.0 is above q99 1.0"),
        ({"q01": None}, "one of q01 and q99"),
        ({"std": [-1.0, 0.0]}, "std -1.0 is below 0"),
        ({"mean": [0.0]}, "lengths differ"),
        ({"mask": [True]}, "lengths differ"),
        ({"mask": [1, 0]}, "mask is not a list of true and false"),
        ({"mean": [True, False]}, "not a list of finite numbers"),
    ],
)
def test_contradictions_are_refused(rows: dict, why: str) -> None:
    with pytest.raises(UserError, match=why):
        Statistics.from_json({"action": vector(**rows), "proprio": vector()})


@pytest.mark.parametrize("value", [None, [], {"action": {}}, {"action": [], "proprio": {}}])
def test_damaged_statistics_are_refused(value) -> None:
    with pytest.raises(UserError, match="cannot be used"):
        Statistics.from_json(value)
