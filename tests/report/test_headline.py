"""A rate with the interval that may be read, and everything that must be said beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import drawn, write_run

from handeye.errors import UserError
from handeye.evaluate.sequential import Rule
from handeye.evaluate.statistics import stratified
from handeye.report.headline import headline, notices, state
from handeye.report.load import Shown, load


def shown(folder: Path) -> Shown:
    return load((folder,))[0]


def said(folder: Path) -> str:
    each = shown(folder)
    return " ".join(notices(each))


def test_a_complete_run_needs_no_words(tmp_path: Path) -> None:
    each = shown(write_run(tmp_path / "a", ["++++-", "+----"]))
    assert notices(each) == [] and state(each) == "complete"
    found = headline(each)
    assert (found.rate.successes, found.rate.episodes, found.mean, found.kind) == (5, 10, 0.5, "suite")
    assert found.interval == stratified([(4, 5), (1, 5)]) and not found.unequal


def test_tasks_count_the_same_however_many_episodes_they_have(tmp_path: Path) -> None:
    found = headline(shown(write_run(tmp_path / "a", ["+" * 9, "-" * 3])))
    assert (found.rate.value, found.mean, found.unequal) == (0.75, 0.5, True)


def test_errors_are_kept_apart_and_bounded(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ["++++!", "+---!"])
    assert headline(shown(folder)).rate.episodes == 8
    assert "2 episodes ended in an error and are not in the rate. " in said(folder)
    assert "Had they all failed or succeeded: 50.0 % or 70.0 %." in said(folder)


def test_a_run_without_any_episode(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ["  ", "  "])
    found = headline(shown(folder))
    assert math.isnan(found.mean) and found.interval == (0.0, 1.0)
    assert said(folder) == "Not finished: 4 of 4 planned episodes are missing."


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ["+++", "+  "])
    assert said(folder) == "Not finished: 2 of 6 planned episodes are missing."
    assert state(shown(folder)) == "2 of 6 missing"


def test_a_run_that_its_rule_ended_is_not_unfinished(tmp_path: Path) -> None:
    rows = [row[:20].ljust(50) for row in drawn([0.99] * 10, 50, seed=3)]
    folder = write_run(tmp_path / "a", rows, stop_when=Rule.parse("rate=0.9").to_json())
    each = shown(folder)
    assert each.ended is not None and each.ended.decision is not None
    decision = each.ended.decision
    assert decision.conclusion == "above" and state(each) == "stopped early"
    words = said(folder)
    assert "Not finished" not in words
    assert "Run until the rate is known to be above or below 90 %. That was so after" in words
    assert f"after {decision.episodes} episodes ({decision.rounds} rounds of one per task)" in words


def test_what_ran_beyond_the_decision_counts_nowhere(tmp_path: Path, page: Callable) -> None:
    rows = [row[:20].ljust(50) for row in drawn([0.99] * 9 + [0.0], 50, seed=3)]
    folder = write_run(tmp_path / "a", rows, stop_when=Rule.parse("rate=0.5").to_json())
    each = shown(folder)
    assert each.ended is not None and each.ended.decision is not None
    counted = each.ended.decision.episodes
    assert headline(each).rate.episodes == counted < 200 and len(each.beyond) == 200 - counted
    assert f"{200 - counted} episodes ran beyond that and count nowhere" in said(folder)
    made = page(folder)
    assert f"of {counted} episodes succeeded" in made.text and len(made.episodes) == 200
    assert sum("beyond" in cell["class"] for cell in made.cells) == 200 - counted
    assert sum("not needed" in cell["aria-label"] for cell in made.cells) == 300


def test_where_the_rule_cannot_be_asked_the_run_is_believed(tmp_path: Path) -> None:
    rule = Rule.parse(f"baseline={write_run(tmp_path / 'a', ['+' * 30] * 5)}").to_json()
    folder = write_run(tmp_path / "b", ["-" * 20 + " " * 10] * 5, policy="b", stop_when=rule)
    decision = shown(folder).ended.decision.to_json()
    (folder / "summary.json").write_text(json.dumps({"decision": decision}))
    (tmp_path / "a" / "plan.json").unlink()
    each = shown(folder)
    assert each.ended.decision.to_json() == decision and each.stopped and state(each) == "stopped early"
    assert "the policy is worse than the baseline. So the run wrote; it cannot be checked here: " in said(folder)


def test_a_part_of_a_run_is_one(tmp_path: Path, page: Callable) -> None:
    folder = write_run(tmp_path / "a", ["+ + +", " + - "])
    plan = json.loads((folder / "plan.json").read_text())
    (folder / "plan.json").write_text(json.dumps(plan | {"part": [1, 2]}))
    each = shown(folder)
    assert (each.missing, state(each)) == (0, "part 1 of 2")
    assert said(folder).startswith("Part 1 of 2 of an evaluation of 10 episodes")
    made = page(folder)
    assert sum("in another part" in cell["aria-label"] for cell in made.cells) == 5
    assert "part 1 of 2" in made.sections["origin"]
    (folder / "plan.json").write_text(json.dumps(plan | {"part": [2, 2]}))
    assert state(shown(folder)) == "part 2 of 2, 5 of 5 missing"
    (folder / "plan.json").write_text(json.dumps(plan | {"part": "half"}))
    with pytest.raises(UserError, match="no part that can be read"):
        shown(folder)


def test_the_interval_of_a_run_with_a_rule_holds_at_any_moment(tmp_path: Path) -> None:
    rows = [row[:30].ljust(50) for row in drawn([0.9] * 5, 50, seed=1)]
    plain = headline(shown(write_run(tmp_path / "a", rows)))
    ruled = headline(shown(write_run(tmp_path / "b", rows, stop_when=Rule.parse("width=0.01").to_json())))
    assert (plain.kind, ruled.kind) == ("suite", "sequence")
    assert ruled.interval[0] < plain.interval[0] and plain.interval[1] < ruled.interval[1]
    with_errors = [row.replace("-", "!") for row in rows]
    either = headline(shown(write_run(tmp_path / "c", with_errors, stop_when=Rule.parse("width=0.01").to_json())))
    assert either.interval[0] == ruled.interval[0] and either.interval[1] > ruled.interval[1]


def test_a_rule_that_has_not_concluded_leaves_a_run_unfinished(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", ["++  ", "+-  "], stop_when=Rule.parse("rate=0.5").to_json())
    assert "Not finished: 4 of 8" in said(folder) and "it has not concluded anything yet" in said(folder)


def test_a_rule_about_a_baseline_is_asked_again(tmp_path: Path) -> None:
    rows = drawn([0.9] * 10, 30, seed=1)
    baseline = write_run(tmp_path / "a", rows)
    rule = Rule.parse(f"baseline={baseline}").to_json()
    folder = write_run(tmp_path / "b", ["-" * 10 + " " * 20] * 10, policy="b", stop_when=rule)
    assert "the policy is worse than the baseline" in said(folder)
    lines = (baseline / "episodes.jsonl").read_text().splitlines(keepends=True)
    (baseline / "episodes.jsonl").write_text("".join(lines[:-1]))
    assert "cannot be checked here: its baseline has changed since" in said(folder)
    (baseline / "plan.json").unlink()
    assert f"cannot be checked here: {baseline} is not an evaluation" in said(folder)


@pytest.mark.parametrize("rule", [{"kind": "rate"}, {"kind": "mood", "alpha": 0.05}, {"method": "x", "kind": "rate"}])
def test_a_rule_nobody_knows_is_shown_as_it_stands(rule: dict, tmp_path: Path) -> None:
    words = said(write_run(tmp_path / "a", ["+ "], stop_when=rule))
    assert f"kind {rule['kind']}" in words and "cannot be checked here" in words and "1 of 2" in words


def test_what_else_must_be_known(tmp_path: Path, sessions: Callable[..., None]) -> None:
    folder = write_run(tmp_path / "a", ["++"], simulator={"trouble": "MuJoCo 3.4.0 was not compared."})
    lines = (folder / "episodes.jsonl").read_text().splitlines()
    exploded = json.loads(lines[0]) | {"unstable": 2}
    (folder / "episodes.jsonl").write_text(json.dumps(exploded) + "\n" + lines[1] + "\n")
    commits = [{"started": "x", "provenance": {"git": {"commit": c * 40, "dirty": False}}} for c in "aba"]
    sessions(folder, *commits, {"started": "y", "provenance": {"git": None}})
    words = said(folder)
    assert "In 1 episode the simulation exploded" in words
    assert "MuJoCo 3.4.0 was not compared." in words
    assert "made under more than one commit: aaaaaaaaaa, bbbbbbbbbb." in words


def test_a_policy_that_began_with_part_of_a_checkpoint(tmp_path: Path) -> None:
    folder, sentence = write_run(tmp_path / "a", ["++"]), "The policy's training began with part of a checkpoint: 90 %."
    plan = json.loads((folder / "plan.json").read_text())
    plan["identity"]["policy"]["partial"] = sentence
    (folder / "plan.json").write_text(json.dumps(plan))
    assert sentence in said(folder)
