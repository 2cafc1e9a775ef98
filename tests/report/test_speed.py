"""Throughput and latency, as far as somebody measured them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from studies import write_run

from handeye.report.load import load
from handeye.report.speed import speed


def rows(*folders: Path) -> dict[str, list[str]]:
    return {row["name"]: [cell["text"] for cell in row["cells"]] for row in speed(load(folders))["rows"]}


def timed(folder: Path, **timing: float) -> Path:
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        line["timing"] = {name: value * (number + 1) for name, value in timing.items()}
    (folder / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def _looking(folder: Path) -> Path:
    """Its policy is asked; the expert, which has no specs, is not."""
    text = (folder / "plan.json").read_text()
    (folder / "plan.json").write_text(text.replace('"specs": null', '"specs": {"image": 1}'))
    return folder


def test_what_sessions_and_episodes_say(tmp_path: Path, sessions: Callable[..., None]) -> None:
    a = timed(
        _looking(write_run(tmp_path / "a", ["+++"])),
        seconds=2.0,
        waited=0.5,
        cpu_start=0.1,
        cpu_act=0.1,
    )
    policy = {"questions": 100, "batches": 40, "seconds": 2.0, "busy": 0.5}
    sessions(
        a,
        {"started": "x", "workers": 2},
        {"ended": "x", "episodes": 2, "seconds": 60.0, "episodes_per_minute": 2.0, "policy": policy},
        {"started": "x", "workers": 4},
        {"ended": "x", "episodes": 1, "seconds": 20.0, "episodes_per_minute": 3.0, "policy": policy | {"busy": 0.1}},
    )
    found = {name: texts[0] for name, texts in rows(a).items()}
    assert found["episodes per minute"] == "2.25"
    assert found["simulator processes"] == "2, then 4"
    assert found["policy's time per question"] == "20 ms"
    assert found["questions per batch"] == "2.5"
    assert found["policy busy"] == "40 %"
    assert found["seconds per episode"].startswith("4 s (")
    assert found["wait for an answer"].startswith("1,000 ms (")
    assert found["processor time to start an episode"].startswith("200 ms (")
    assert found["processor time per step"].startswith("20 ms (")


def test_speeds_of_parts_are_of_each(tmp_path: Path, sessions: Callable[..., None]) -> None:
    a = write_run(tmp_path / "a", ["+"])
    ended = {"ended": "x", "episodes": 30, "seconds": 60.0, "episodes_per_minute": 30.0}
    sessions(a, {"part": "p1", **ended}, {"part": "p2", **ended})
    assert rows(a)["episodes per minute"] == ["30 in each of 2 parts"]


def test_nothing_is_made_up(tmp_path: Path, sessions: Callable[..., None], page: Callable) -> None:
    a = timed(write_run(tmp_path / "a", ["+"]))
    assert rows(a) == {"questions to the policy": ["1"]}
    sessions(a, {"started": "x", "workers": 2})
    assert "episodes per minute" not in rows(a)
    b = write_run(tmp_path / "b", [" "])
    assert rows(b) == {} and "recorded no times" in page(b).sections["speed"]


def test_a_policy_faster_than_the_clock(tmp_path: Path, sessions: Callable[..., None]) -> None:
    a = write_run(tmp_path / "a", ["+"])
    sessions(
        a, {"ended": "x", "episodes": 1, "seconds": 1.0, "policy": {"questions": 200, "batches": 200, "seconds": 0.0}}
    )
    assert rows(a)["policy's time per question"] == ["under 0.5 ms"]


def test_runs_that_measured_other_things(tmp_path: Path) -> None:
    a, b = timed(write_run(tmp_path / "a", ["++"]), cpu_act=1.0), timed(write_run(tmp_path / "b", ["++"], policy="b"))
    assert rows(a, b)["processor time per step"][1] == "–"
