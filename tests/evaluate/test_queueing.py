"""The model against cases that can be worked out by hand, and its direction where they cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handeye.evaluate.queueing import Answering, Costs, forecast

COSTS = Costs(start=0.1, act=0.04, questions=20.0, parent=0.0)
FREE = Answering(first=0.0, each=1e-9, batch=16, wait=0.0, on_cores=False)
ALONE = 60 / (0.1 + 20 * 0.04)


def test_simulators_alone_scale_with_cores_and_then_share_them() -> None:
    for workers in (1, 4, 32):
        found = forecast(COSTS, FREE, workers=workers, cores=64.0)
        assert found.episodes_per_minute == pytest.approx(workers * ALONE, rel=0.06)
    assert forecast(COSTS, FREE, workers=32, cores=8.0).episodes_per_minute == pytest.approx(8 * ALONE, rel=0.06)


def test_one_worker_waits_for_each_answer() -> None:
    slow = replace(FREE, first=0.03, each=0.01)
    found = forecast(COSTS, slow, workers=1, cores=1.0)
    assert found.episodes_per_minute == pytest.approx(60 / (0.1 + 20 * (0.04 + 0.04)), rel=0.05)
    assert found.mean_batch == 1
    assert found.policy_busy == pytest.approx(20 * 0.04 / (0.1 + 20 * 0.08), rel=0.05)


def test_a_saturated_policy_is_the_limit() -> None:
    slow = Answering(first=0.05, each=0.02, batch=16, wait=0.0, on_cores=False)
    found = forecast(COSTS, slow, workers=256, cores=256.0)
    assert found.policy_busy > 0.99
    assert found.mean_batch == pytest.approx(16, rel=0.01)
    assert found.episodes_per_minute == pytest.approx(60 * 16 / (0.05 + 16 * 0.02) / 20, rel=0.05)


def test_a_policy_on_the_same_cores_takes_them_from_the_simulators() -> None:
    own = Answering(first=0.0, each=0.02, batch=16, wait=0.0, on_cores=False)
    shared = replace(own, on_cores=True)
    apart, together = (forecast(COSTS, each, workers=4, cores=2.0).episodes_per_minute for each in (own, shared))
    assert together < 0.9 * apart
    assert together == pytest.approx(2 * 60 / (0.1 + 20 * 0.06), rel=0.1), "two cores, all of them busy"


def test_the_parent_is_a_limit_of_its_own() -> None:
    costs = replace(COSTS, parent=0.002)
    found = forecast(costs, FREE, workers=256, cores=256.0)
    assert found.episodes_per_minute == pytest.approx(60 / 0.002 / 20, rel=0.05)


def test_company_is_waited_for_no_longer_than_told() -> None:
    patient = Answering(first=0.05, each=0.0, batch=16, wait=0.02, on_cores=False)
    hasty = replace(patient, wait=0.0)
    assert (
        forecast(COSTS, patient, workers=4, cores=4.0).mean_batch
        > forecast(COSTS, hasty, workers=4, cores=4.0).mean_batch
    )
    alone = forecast(COSTS, patient, workers=1, cores=1.0).episodes_per_minute
    assert alone == pytest.approx(60 / (0.1 + 20 * 0.09), rel=0.05), "nobody else could come"
