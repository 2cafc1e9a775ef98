"""What is shown while episodes run."""

from __future__ import annotations

import time

import pytest

from handeye.distributed.desk import Use
from handeye.evaluate.progress import Progress
from handeye.evaluate.results import EpisodeResult
from handeye.types import EpisodeId


def result(state: int, outcome: str) -> EpisodeResult:
    episode = EpisodeId(suite="fake", task=0, initial_state=state)
    if outcome == "error":
        return EpisodeResult.broken(episode, "lost", {})
    nothing = {"steps": 1, "questions": 1, "unstable": 0, "unmet": (), "note": "", "hashes": {}, "error": None}
    return EpisodeResult(episode=episode, outcome=outcome, timing={}, **nothing)


def test_a_line_says_rate_speed_time_left_and_how_busy_the_policy_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    said: list[tuple[int, str]] = []
    found: dict[str, EpisodeResult] = {}
    progress = Progress(lambda count, note: said.append((count, note)), found, 31, lambda: "cuda:0 71 %")
    for state, outcome in enumerate(["success", "failure", "error"]):
        found[str(state)] = result(state, outcome)
        now[0] += 10
        progress.ended()
    now[0] += 6
    progress.meanwhile(Use(questions=30, batches=10, seconds=18.0, waiting=3, answerers=1))
    count, note = said[-1]
    assert (count, len(said)) == (0, 4)
    assert note == (
        "50.0 % [9.5, 90.5], 5.0 episodes/min, 6 min left, policy 50 % busy, 3 waiting, cuda:0 71 %, 1 errors"
    )
    now[0] += 10
    progress.meanwhile(Use(questions=40, batches=20, seconds=27.0, waiting=0, answerers=1))
    assert "policy 90 % busy, 0 waiting" in said[-1][1]
