"""Protocol and provenance: all of it, with what departs from what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies import write_run

from handeye.protocols.presets import protocol
from handeye.report.load import load
from handeye.report.origin import origin


def of(folder: Path) -> dict[str, Any]:
    return origin(load((folder,))[0])


def test_a_protocol_as_published_departs_in_nothing(tmp_path: Path, page: Callable) -> None:
    run = write_run(tmp_path / "a", ["+"], suite="libero_goal", protocol=protocol("oft-2025").to_json())
    found = of(run)
    assert found["differences"] == [] and found["against"] == "oft-2025"
    constants = {name: (value, source) for name, value, source in found["constants"]}
    assert constants["replan_steps"][0] == "8" and "num_open_loop_steps" in constants["replan_steps"][1]
    words = page(run).sections["origin"]
    assert "As oft-2025 says, in every constant." in words and "num_open_loop_steps" in words


def test_what_a_run_changed_is_listed(tmp_path: Path, page: Callable) -> None:
    run = write_run(tmp_path / "a", ["+"], protocol={"seed": 7})
    found = {line["constant"]: line for line in of(run)["differences"]}
    assert set(found) == {"seed", "camera_size"}
    assert (found["seed"]["theirs"], found["seed"]["ours"], found["seed"]["why"]) == ("0", "7", "set by this run")
    assert found["camera_size"]["why"] == "left to the policy, which declares it"
    assert "departs from what handeye-2026 says" in page(run).sections["origin"]


def test_what_a_protocol_leaves_open_is_no_departure(tmp_path: Path, page: Callable) -> None:
    words = page(write_run(tmp_path / "a", ["+"])).sections["origin"]
    assert "in every constant but what it leaves open: constant handeye-2026 here why camera_size policy 64" in words


def test_a_protocol_of_ones_own_is_held_against_the_default(tmp_path: Path, page: Callable) -> None:
    run = write_run(tmp_path / "a", ["+"], protocol={"name": "mine", "settle_steps": 5})
    found = of(run)
    assert found["own"] and found["against"] == "handeye-2026"
    assert "settle_steps" in {line["constant"] for line in found["differences"]}
    assert "not one of handeye's. Held against handeye-2026" in page(run).sections["origin"]


def test_sessions_are_told_with_their_ends(tmp_path: Path, sessions: Callable[..., None], page: Callable) -> None:
    run = write_run(tmp_path / "a", ["++"])
    start = {
        "started": "2026-01-01T10:00:00+00:00",
        "episodes_before": 0,
        "workers": 2,
        "videos": "all",
        "provenance": {
            "git": {"commit": "abcdef0123456789", "dirty": True},
            "python": "3.11.7",
            "machine": {"system": "Linux", "cpus": 2},
            "command": ["handeye", "evaluate", "zero"],
        },
        "shard": "1/4",
    }
    sessions(run, start, start | {"episodes_before": 1}, {"ended": "x", "episodes": 1, "seconds": 90.0})
    first, second = of(run)["sessions"]
    assert first["end"] == "it was killed, or is still running" and second["end"] == "1 episodes in 1.5 minutes"
    assert first["commit"] == "abcdef0123 with local changes"
    assert ("shard", "1/4") in first["rows"], "what we do not know is not left out"
    words = page(run).sections["origin"]
    assert "handeye evaluate zero" in words and "Resumed at episode 1" in words and "Linux, 2 CPUs" in words


def test_a_session_that_says_nothing_and_a_plan_that_says_more(
    tmp_path: Path, sessions: Callable[..., None], page: Callable
) -> None:
    run = write_run(tmp_path / "a", ["++"], merged_from=["s1", "s2"])
    sessions(run, {"started": "x"})
    assert ("merged_from", "s1, s2") in of(run)["plan"]
    assert "none: installed" in page(run).sections["origin"]
    assert "None is recorded." in page(write_run(tmp_path / "b", ["+"])).sections["origin"]
