"""Records on disk: what a kill, an edit or a re-run leaves behind is read for what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.results import EPISODES, EpisodeResult, Outcome
from handeye.types import EpisodeId


def result(state: int, outcome: Outcome = "success", steps: int = 5) -> EpisodeResult:
    return EpisodeResult(
        episode=EpisodeId(suite="fake", task=0, initial_state=state),
        outcome=outcome,
        steps=steps,
        unstable=0,
        unmet=(),
        note="",
        questions=1,
        hashes={},
        error="lost" if outcome == "error" else None,
        timing={"seconds": 1.0},
    )


def test_an_error_is_replaced_by_its_re_run_and_nothing_else_is(tmp_path: Path) -> None:
    for line in (result(0, "error"), result(1), result(0, "failure"), result(1, steps=9), result(0, "error")):
        results.append(tmp_path, line)
    found = results.read(tmp_path)
    assert [(r.outcome, r.steps) for r in found.values()] == [("failure", 5), ("success", 5)]


def test_what_remains(tmp_path: Path) -> None:
    planned = [EpisodeId(suite="fake", task=0, initial_state=state) for state in range(3)]
    assert results.remaining(planned, results.read(tmp_path)) == planned
    results.append(tmp_path, result(1))
    results.append(tmp_path, result(2, "error"))
    assert results.remaining(planned, results.read(tmp_path)) == [planned[0], planned[2]]


def test_a_torn_line_is_an_episode_that_did_not_finish(tmp_path: Path) -> None:
    results.append(tmp_path, result(0))
    with (tmp_path / EPISODES).open("ab") as file:
        file.write(b'{"id": "fake/0/ini')
    assert len(results.read(tmp_path)) == 1
    results.append(tmp_path, result(1))
    assert len(results.read(tmp_path)) == 2


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    results.append(tmp_path, result(0))
    with (tmp_path / EPISODES).open("ab") as file:
        file.write(b'{"loss": 0.3}\n')
    with pytest.raises(UserError, match="line 2 is not an episode's record"):
        results.read(tmp_path)
