from __future__ import annotations

import numpy as np
import pytest

from handeye.data.running_statistics import BINS, RunningStatistics
from handeye.errors import UserError

VALUES = np.random.default_rng(0).normal(3, 2, (4000, 3))


def test_close_to_exact() -> None:
    """The range is that of the first batch here, so no bins are moved: quantiles within one bin."""
    running = RunningStatistics()
    for batch in (VALUES, VALUES[:7], VALUES[50:90].reshape(4, 10, 3)):
        running.update(batch)
    found = running.result()
    every = np.concatenate([VALUES, VALUES[:7], VALUES[50:90]])
    np.testing.assert_allclose(found.mean, every.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, every.std(0), rtol=1e-9)
    assert found.min == tuple(every.min(0)) and found.max == tuple(every.max(0))
    bin_width = np.ptp(every, axis=0).max() / BINS
    exact = np.quantile(every, (0.01, 0.99), axis=0, method="inverted_cdf")
    np.testing.assert_allclose([found.q01, found.q99], exact, atol=1.01 * bin_width)


def test_a_growing_range_moves_what_was_counted() -> None:
    running = RunningStatistics()
    for start in range(0, 4000, 400):
        running.update(VALUES[start : start + 400])
    exact = np.quantile(VALUES, (0.01, 0.99), axis=0)
    np.testing.assert_allclose([running.result().q01, running.result().q99], exact, atol=0.05)


def test_what_cannot_be_measured() -> None:
    running = RunningStatistics()
    running.update(VALUES[:1])
    with pytest.raises(UserError, match="fewer than two"):
        running.result()
    with pytest.raises(ValueError, match="width 2 after batches of width 3"):
        running.update(VALUES[:, :2])
