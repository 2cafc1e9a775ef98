"""LeRobot's statistics: what is sampled, thinned and estimated. That they equal the library's is in tests/parity."""

from __future__ import annotations

import numpy as np
import pytest

from handeye.data.lerobot.statistics import NAMES, of_numbers, of_pictures, sampled, together


@pytest.mark.parametrize(("length", "number"), [(1, 1), (99, 99), (100, 100), (464, 100), (1000, 177), (2000, 299)])
def test_long_episodes_are_sampled(length: int, number: int) -> None:
    steps = sampled(length)
    assert len(steps) == number and steps[0] == 0 and steps[-1] == length - 1
    assert steps == sorted(steps)


def test_pictures_per_channel() -> None:
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    frames[..., 0], frames[:2, ..., 1], frames[:, :4, :, 2] = 255, 51, 102
    found = of_pictures(frames, quantiles=True)
    assert {value.shape for name, value in found.items() if name != "count"} == {(3, 1, 1)}
    assert found["count"].tolist() == [4] and found["max"].ravel().tolist() == [1.0, 0.2, 0.4]
    np.testing.assert_allclose(found["mean"].ravel(), [1, 0.1, 0.2])
    np.testing.assert_allclose(found["std"].ravel(), [0, 0.1, 0.2])
    assert np.abs(found["q50"].ravel() - [1, 0, 0]).max() < 1e-3 and found["q99"].ravel()[1] == pytest.approx(
        0.2, abs=1e-3
    )
    assert set(of_pictures(frames, quantiles=False)) == set(found) - set(NAMES)


def test_large_pictures_are_thinned() -> None:
    frames = np.zeros((2, 450, 450, 3), np.uint8)
    frames[:, 1::3] = frames[:, 2::3] = 255  # every third row and column counts
    assert of_pictures(frames, quantiles=False)["max"].max() == 0


def test_numbers() -> None:
    one = of_numbers(np.float32([[1, 2]]), quantiles=True)
    assert one["std"].tolist() == [0, 0] and one["q01"].tolist() == one["q99"].tolist() == [1, 2]
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 3)).astype(np.float32)
    found = of_numbers(values, quantiles=True)
    for name, quantile in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        np.testing.assert_allclose(
            found[name], np.quantile(values, quantile, axis=0), atol=0.08
        )  # few values in the tails
    assert of_numbers(np.arange(5), quantiles=False)["max"].tolist() == [4]


def test_two_parts_are_as_one_but_for_quantiles() -> None:
    values = np.random.default_rng(1).normal(size=(50, 2))
    merged = together(
        [{"x": of_numbers(values[:20], quantiles=False)}, {"x": of_numbers(values[20:], quantiles=False)}]
    )
    whole = of_numbers(values, quantiles=False)
    for name, expected in whole.items():
        np.testing.assert_allclose(merged["x"][name], expected)
