"""`handeye plan`: what it assumes is said, and its figures are those of `power`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studies import write_run

from handeye.errors import UserError
from handeye.evaluate import power
from handeye.evaluate.planner import run
from handeye.evaluate.statistics import clopper_pearson
from handeye.evaluate.study_config import PlanConfig


def planned(capsys: pytest.CaptureFixture[str], **flags: Any) -> dict[str, Any]:
    capsys.readouterr()
    run(PlanConfig(json=True, **flags))
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_episodes_for_a_difference(capsys) -> None:
    found = planned(capsys, difference=0.02, discordance=0.04, margin=0.02, per_minute=60.0)
    [row] = found["paired"]
    assert row["episodes"] == power.pairs_needed(0.04, 0.02)
    assert row["episodes_for_equivalence"] == power.equivalence_pairs(0.04, 0.02)
    assert row["hours"] == pytest.approx(row["episodes"] / 3600)
    assert found["unpaired"]["episodes"] == 1506


def test_without_a_discordance_the_range_of_what_is_possible(capsys) -> None:
    rows = planned(capsys, difference=0.02)["paired"]
    assert [row["discordance"] for row in rows] == sorted(row["discordance"] for row in rows)
    assert rows[0]["discordance"] == 0.02 and rows[-1]["discordance"] == pytest.approx(0.95 * 0.03 + 0.05 * 0.97)


def test_what_so_many_episodes_find(capsys) -> None:
    found = planned(capsys, episodes=500, discordance=0.04)
    [row] = found["paired"]
    assert row["difference"] == power.detectable(500, 0.04)
    assert row["equivalent_within"] == power.equivalence_margin(500, 0.04)
    assert [round(100 * bound, 1) for bound in found["rate_interval"]] == [92.7, 96.6]
    assert planned(capsys, episodes=20, discordance=0.04)["paired"][0]["difference"] is None


def test_more_comparisons_ask_for_more(capsys) -> None:
    one, five = (planned(capsys, difference=0.02, discordance=0.04, comparisons=n) for n in (1, 5))
    assert five["alpha"] == pytest.approx(0.01)
    assert five["paired"][0]["episodes"] > 1.3 * one["paired"][0]["episodes"]


def test_a_pilot_gives_rate_and_discordance(tmp_path: Path, capsys) -> None:
    a = write_run(tmp_path / "a", ["+" * 90 + "-" * 10])
    b = write_run(tmp_path / "b", ["+" * 86 + "-" * 4 + "+" * 2 + "-" * 8], policy="b")
    found = planned(capsys, difference=0.02, pilot=(a, b))
    assert found["rate"] == pytest.approx(0.88)
    assert [row["discordance"] for row in found["paired"]] == [0.06, pytest.approx(clopper_pearson(6, 100)[1])]
    other = write_run(tmp_path / "other", ["+"], protocol={"seed": 1})
    with pytest.raises(UserError, match="did not run the same episodes"):
        run(PlanConfig(difference=0.02, pilot=(a, other)))


def test_speed_from_a_run(tmp_path: Path, capsys) -> None:
    a = write_run(tmp_path / "a", ["++"])
    with pytest.raises(UserError, match="does not say how fast"):
        run(PlanConfig(episodes=600, run=a))
    (a / "sessions.jsonl").write_text('{"episodes": 30, "seconds": 30.0, "episodes_per_minute": 60}\n')
    assert planned(capsys, episodes=600, run=a)["hours"] == pytest.approx(600 / 3600)


def test_in_words(capsys) -> None:
    run(PlanConfig(difference=0.02, per_minute=40.0, margin=0.02))
    out = " ".join(capsys.readouterr().out.split())
    assert "To find a difference of 2 points (95 % against 97 %) in 80 of 100 studies" in out
    assert "not paired" in out and "hours" in out and "repeat with --seed 1" in out
    run(PlanConfig(episodes=500))
    out = " ".join(capsys.readouterr().out.split())
    assert "A rate of 95 % is then known to 92.7 % to 96.6 %" in out and "--per-minute" in out


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ({}, "--difference or --episodes"),
        ({"difference": 0.02, "episodes": 500}, "--difference or --episodes"),
        ({"difference": 2.0}, "not between 0 and 1"),
        ({"difference": 0.1, "rate": 0.95}, "No policy is 10 points better"),
        ({"episodes": 0}, "too few"),
        ({"episodes": 500, "tasks": 0}, "too few"),
        ({"episodes": 500, "per_minute": -1.0}, "too few"),
        ({"difference": 0.02, "discordance": 0.01}, "end at least that many"),
        ({"difference": 0.02, "discordance": 0.1, "pilot": (Path("a"), Path("b"))}, "both given"),
    ],
)
def test_what_is_refused(flags: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        run(PlanConfig(**flags))
