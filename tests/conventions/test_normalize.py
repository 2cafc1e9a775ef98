from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handeye.conventions.normalize import Normalizer
from handeye.errors import UserError

LOW, HIGH = (-1.0, 0.0, 5.0, 0.25), (3.0, 0.001, 5.0, 0.25)


def make(kind, mask=(True,) * 4) -> Normalizer:
    still = (False, False, True, True)
    return Normalizer(kind=kind, low=LOW, high=HIGH, constant=still, mask=mask, clip=kind == "quantiles")


@given(arrays(np.float64, (3, 4), elements=st.floats(0, 1)), st.sampled_from(["mean_std", "bounds", "quantiles"]))
def test_round_trip_within_the_range(fractions: np.ndarray, kind) -> None:
    values = np.array(LOW) + fractions * (np.array(HIGH) - np.array(LOW))
    np.testing.assert_allclose(make(kind).inverse(make(kind).forward(values)), values, atol=1e-9)


def test_ends_go_to_one() -> None:
    for kind in ("bounds", "quantiles"):
        np.testing.assert_allclose(make(kind).forward(np.array([LOW, HIGH])), [[-1, -1, 0, 0], [1, 1, 0, 0]], atol=1e-4)


def test_mean_and_deviation() -> None:
    """`high` holds mean + std."""
    np.testing.assert_allclose(make("mean_std").forward(np.array([3.0, 0.002, 5.0, 0.25])), [1, 2, 0, 0], atol=1e-4)


def test_clipping_is_declared() -> None:
    beyond = np.array([7.0, 0.0, 5.0, 0.25])
    assert make("quantiles").forward(beyond)[0] == 1
    assert make("bounds").forward(beyond)[0] == pytest.approx(3)


def test_what_never_changed_is_zero_and_comes_back_whatever_the_model_says() -> None:
    normalizer = make("quantiles")
    assert normalizer.forward(np.array([0.0, 0.0, 5.1, -9.0]))[2:].tolist() == [0, 0]
    np.testing.assert_allclose(normalizer.inverse(np.array([0.0, 0.0, 0.7, -0.7]))[2:], [5.0, 0.25], atol=1e-7)


def test_the_mask_leaves_a_dimension_alone() -> None:
    normalizer = make("bounds", mask=(True, True, True, False))
    assert normalizer.forward(np.array([0.0, 0.0, 0.0, -1.0]))[3] == -1
    assert normalizer.inverse(np.array([0.0, 0.0, 0.0, 1.0]))[3] == 1


def test_what_is_not_declared_constant_is_divided_by_epsilon() -> None:
    """openpi's rule, which published weights expect."""
    openpi = Normalizer(kind="quantiles", low=(2.0,), high=(2.0,), constant=(False,), mask=(True,), epsilon=1e-6)
    np.testing.assert_allclose(openpi.forward(np.array([2.0])), [-1.0])
    np.testing.assert_allclose(openpi.forward(np.array([3.0])), [2e6 - 1])
    np.testing.assert_allclose(openpi.inverse(np.array([1.0])), [2.0 + 1e-6])


def test_the_first_dimensions_alone() -> None:
    values = np.array([[0.5, 0.0005]])
    np.testing.assert_array_equal(
        make("bounds").first(2).forward(values), make("bounds").forward(np.array([[0.5, 0.0005, 5, 0.25]]))[:, :2]
    )
    with pytest.raises(ValueError, match="5 of 4"):
        make("bounds").first(5)


def test_statistics_make_it_double_precision() -> None:
    values = np.zeros((2, 4), np.float32)
    assert make("bounds").forward(values).dtype == make("bounds").inverse(values).dtype == np.float64


@pytest.mark.parametrize(
    "fields",
    [
        {"low": (1.0,), "high": (1.0,), "constant": (False,), "mask": (True,), "epsilon": 0.0},
        {"low": (1.0,), "high": (0.5,), "constant": (False,), "mask": (True,)},
        {"low": (1.0,), "high": (2.0,), "constant": (False,), "mask": (True,), "epsilon": -1.0},
        {"low": (1.0,), "high": (float("nan"),), "constant": (False,), "mask": (True,)},
        {"low": (1.0,), "high": (2.0, 3.0), "constant": (False,), "mask": (True,)},
    ],
)
def test_unusable_statistics_are_refused(fields: dict) -> None:
    with pytest.raises(UserError, match="not usable"):
        Normalizer(kind="bounds", **fields)


def test_another_width_is_refused() -> None:
    with pytest.raises(UserError, match="width 3 meets statistics of width 4"):
        make("bounds").forward(np.zeros(3))
