"""A summary says what the records say, with an interval for every question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from studies import write_run

from handeye.evaluate import runs
from handeye.evaluate.statistics import bootstrap_tasks, clopper_pearson, clustered, stratified, wilson
from handeye.evaluate.summary import summarise


def test_every_interval_is_there(tmp_path: Path) -> None:
    run = runs.load(write_run(tmp_path / "a", ["++++++++!-", "+++++-----"]))
    found = json.loads(json.dumps(summarise(run.planned, run.results)))
    outcomes = {0: [True] * 8 + [False], 1: [True] * 5 + [False] * 5}
    assert found["rate"] == {
        "successes": 13,
        "episodes": 19,
        "rate": 13 / 19,
        "wilson_95": list(wilson(13, 19)),
        "exact_95": list(clopper_pearson(13, 19)),
    }
    assert found["suite"]["mean"] == pytest.approx((8 / 9 + 5 / 10) / 2)
    assert found["suite"]["stratified_95"] == list(stratified([(8, 9), (5, 10)]))
    over = clustered(outcomes)
    assert over is not None and found["over_tasks"]["low"] == over.low
    bootstrapped = bootstrap_tasks(outcomes)
    assert bootstrapped is not None and found["over_tasks"]["bootstrap_95"] == list(bootstrapped)
    limits = found["if_errors_were"]
    assert (limits["failures"], limits["successes"]) == (13 / 20, 14 / 20)
    assert limits["wilson_95"] == [wilson(13, 20)[0], wilson(14, 20)[1]]
    assert not found["complete"] and found["errors"] == 1


def test_nothing_ran(tmp_path: Path) -> None:
    run = runs.load(write_run(tmp_path / "a", ["  "]))
    found = summarise(run.planned, run.results)
    assert found["rate"]["rate"] is None and found["suite"]["mean"] is None and found["over_tasks"] is None
    assert found["if_errors_were"] == {"failures": None, "successes": None, "wilson_95": [0.0, 1.0]}
