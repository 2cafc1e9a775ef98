"""`handeye compare`: verdicts in words, refusals that say what differs, and what errors and gaps do to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import drawn, identity, write_run

from handeye.cli import main
from handeye.errors import UserError
from handeye.evaluate import compare as comparing
from handeye.evaluate import plan, runs
from handeye.evaluate.compare_run import run
from handeye.evaluate.paired import interval, mcnemar
from handeye.evaluate.study_config import CompareConfig

A = ["+" * 20 + "-" * 20, "+" * 30 + "-" * 10]  # 50 of 80
BETTER = ["+" * 34 + "-" * 6, "+" * 36 + "-" * 4]  # 70 of 80, all that A solved among them


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def made(name: str, rows: list[str], **changes: Any) -> Path:
        return write_run(tmp_path / name, rows, policy=changes.pop("policy", name), **changes)

    return made


def compared(capsys: pytest.CaptureFixture[str], *folders: Path, **flags: Any) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(CompareConfig(runs=folders, json=True, **flags))
    return code, json.loads(capsys.readouterr().out)


def told(capsys: pytest.CaptureFixture[str], *folders: Path, **flags: Any) -> str:
    capsys.readouterr()
    run(CompareConfig(runs=folders, **flags))
    return " ".join(capsys.readouterr().out.split())


def test_better_and_worse(folder, capsys) -> None:
    a, b = folder("a", A), folder("b", BETTER)
    code, found = compared(capsys, a, b)
    [comparison] = found["comparisons"]
    assert (code, comparison["verdict"], comparison["method"]) == (0, "better", "paired")
    assert comparison["table"] == {"both": 50, "only_one": 0, "only_other": 20, "neither": 10}
    table = comparing.compare(runs.load(a), runs.load(b), margin=None, unpaired=False).table
    assert table is not None
    assert comparison["p"] == mcnemar(table) and comparison["interval"] == list(interval(table))
    assert comparison["difference"] == pytest.approx(0.25)
    assert [d["episode"] for d in comparison["discordant"]][:2] == [f"tabletop/0/init{i}/episode-0/0" for i in (20, 21)]
    assert {d["winner"] for d in comparison["discordant"]} == {str(b)} and len(comparison["discordant"]) == 20
    code, found = compared(capsys, b, a)
    assert (code, found["comparisons"][0]["verdict"]) == (1, "worse"), "1: something got worse, for scripts"


def test_in_words(folder, capsys) -> None:
    a, b = folder("a", A), folder("b", BETTER)
    out = told(capsys, a, b)
    assert f"{b} is better than {a}: +25.0 points [+" in out and "p = 1.9e-06 against no difference." in out
    assert f"80 shared episodes: 0 only {a} solved, 20 only {b}." in out
    assert "tabletop/0/init20/episode-0/0" in out


def test_equivalent_needs_a_margin_and_enough_episodes(folder, capsys) -> None:
    rows = drawn([0.95] * 10, 50, seed=0)
    other = [("-" if row[0] == "+" else "+") + row[1:] if task < 4 else row for task, row in enumerate(rows)]
    a, b = folder("a", rows), folder("b", other)
    assert compared(capsys, a, b)[1]["comparisons"][0]["verdict"] == "undecided"
    code, found = compared(capsys, a, b, margin=0.03)
    assert (code, found["comparisons"][0]["verdict"], found["margin"]) == (0, "equivalent", 0.03)
    assert "equivalent within 3 points" in told(capsys, a, b, margin=0.03)
    assert compared(capsys, a, b, margin=0.005)[1]["comparisons"][0]["verdict"] == "undecided"
    few = folder("few-a", [row[:4] for row in rows]), folder("few-b", [row[:4] for row in rows])
    assert compared(capsys, *few, margin=0.03)[1]["comparisons"][0]["verdict"] == "undecided"


def test_a_difference_smaller_than_the_margin_is_equivalent_and_said(folder, capsys) -> None:
    a, b = folder("a", ["-" * 10 + "+" * 490]), folder("b", ["+" * 500])
    assert compared(capsys, a, b)[1]["comparisons"][0]["verdict"] == "better"
    assert "there is a difference, but one smaller than the margin" in told(capsys, a, b, margin=0.05)


def test_undecided_says_what_could_have_been_found(folder, capsys) -> None:
    rows = drawn([0.9] * 4, 25, seed=1)
    out = told(capsys, folder("a", rows), folder("b", drawn([0.9] * 4, 25, seed=2)))
    assert "Undecided between" in out and "Undecided is not equal: 100 episodes" in out and "handeye plan" in out


def test_other_protocols_are_refused_and_the_difference_is_said_first(folder, capsys) -> None:
    a, b = folder("a", A), folder("b", BETTER, protocol={"replan_steps": 5})
    with pytest.raises(UserError, match="same rules") as refused:
        run(CompareConfig(runs=(a, b)))
    assert "protocol.replan_steps: chunk | 5" in refused.value.why and "--unpaired" in refused.value.fix
    assert "protocol.replan_steps: chunk | 5" in capsys.readouterr().out
    _, found = compared(capsys, a, b, unpaired=True)
    [comparison] = found["comparisons"]
    assert (comparison["method"], comparison["verdict"], comparison["table"]) == ("unpaired", "better", None)
    assert comparison["differences"]["blocking"] == ["protocol.replan_steps: chunk | 5"]
    _, found = compared(capsys, a, b, across_protocols=True)
    assert found["comparisons"][0]["method"] == "paired", "the scenes are the same"
    c = folder("c", A, policy="b")
    _, found = compared(capsys, b, c, across_protocols=True)
    assert found["comparisons"][0]["same_policy"] is None, "one policy, but not the same episodes twice"


def test_what_no_episode_depends_on_is_no_difference(folder, capsys) -> None:
    a = folder("a", A)
    b = folder("b", BETTER, protocol={"name": "mine", "version": 3, "camera_size": 224, "initial_states": 20})
    assert compared(capsys, a, b)[1]["comparisons"][0]["differences"]["blocking"] == []
    c = folder("c", BETTER, versions={"numpy": "2.3"}, simulator={"backend": "osmesa"})
    [comparison] = compared(capsys, a, c)[1]["comparisons"]
    assert comparison["differences"]["remarks"] == ["simulator.backend: egl | osmesa", "versions.numpy: 2.2 | 2.3"]
    assert comparison["verdict"] == "better"


def test_another_task_of_the_same_number_is_another_experiment(folder) -> None:
    a, b = folder("a", ["+"]), folder("b", ["+"])
    (b / "plan.json").write_text((b / "plan.json").read_text().replace('"do 0"', '"do something"'))
    with pytest.raises(UserError, match="same rules") as refused:
        run(CompareConfig(runs=(a, b)))
    assert "task.0.language: do 0 | do something" in refused.value.why


def test_another_simulator_is_another_experiment(folder) -> None:
    a, b = folder("a", A), folder("b", BETTER, simulator={"mujoco": "3.2.3"})
    with pytest.raises(UserError, match="same rules") as refused:
        run(CompareConfig(runs=(a, b)))
    assert "simulator.mujoco: 3.3.2 | 3.2.3" in refused.value.why


def test_other_scenes_are_refused_episode_by_episode(folder, capsys) -> None:
    key = plan.episodes(identity(2, 40))[45].key
    a, b = folder("a", A), folder("b", BETTER, scenes={key: "elsewhere"})
    for flags in ({}, {"across_protocols": True}):
        with pytest.raises(UserError, match="1 of the same episodes in other scenes") as refused:
            run(CompareConfig(runs=(a, b), **flags))
        assert key in refused.value.why
    assert compared(capsys, a, b, unpaired=True)[1]["comparisons"][0]["method"] == "unpaired"


def test_records_without_hashes_prove_nothing(folder, tmp_path: Path) -> None:
    a, b = folder("a", ["++"]), folder("b", ["+-"])
    lines = (b / "episodes.jsonl").read_text().splitlines()
    (b / "episodes.jsonl").write_text("".join(json.dumps(json.loads(x) | {"hashes": {}}) + "\n" for x in lines))
    with pytest.raises(UserError, match="2 of the same episodes in other scenes"):
        run(CompareConfig(runs=(a, b)))


def test_only_what_both_ran_is_compared(folder, capsys) -> None:
    a = folder("a", A)
    b = folder("b", [BETTER[0][:25], " " * 30 + BETTER[1][30:]])
    _, found = compared(capsys, a, b)
    [comparison] = found["comparisons"]
    assert comparison["episodes"] == [35, 35] and comparison["left_out"] == [45, 0]
    assert comparison["tasks"]["one"] == {"0": {"successes": 20, "episodes": 25}, "1": {"successes": 0, "episodes": 10}}
    assert "Left out: 45 episodes of" in told(capsys, a, b)
    c = folder("c", ["", " " * 40 + "+"])
    with pytest.raises(UserError, match="no finished episode in common"):
        run(CompareConfig(runs=(a, c)))
    first, second = folder("first", ["++", "  "]), folder("second", ["!!", "++"])
    for flags in ({"unpaired": True}, {}):
        with pytest.raises(UserError, match="in common"):
            run(CompareConfig(runs=(first, second), **flags))


def test_errors_are_bounds_and_can_undo_a_verdict(folder, capsys) -> None:
    a = folder("a", A)
    few = folder("few", [BETTER[0][:-1] + "!", BETTER[1]])
    code, found = compared(capsys, a, few)
    [comparison] = found["comparisons"]
    assert (comparison["verdict"], comparison["errors"], comparison["episodes"]) == ("better", [0, 1], [79, 79])
    low, high = (comparison["with_errors"][way]["difference"] for way in ("worst", "best"))
    assert low == pytest.approx(20 / 80) and high == pytest.approx(21 / 80)
    assert "the verdict holds for both" in told(capsys, a, few)
    many = folder("many", ["!" * 10 + "+" * 16 + "-" * 14, A[1]])  # 6 of 70 better; A solved the 10 that broke
    code, found = compared(capsys, a, many)
    assert (code, found["comparisons"][0]["verdict"]) == (0, "undecided")
    assert found["comparisons"][0]["p"] == pytest.approx(2 / 2**6)
    assert "10 errors: the difference lies between -5.0 and +7.5 points" in told(capsys, a, many)
    [listed] = [line for line in found["runs"] if line["folder"] == str(many)]
    assert listed["errors"] == 10 and listed["if_errors_were"]["successes"]["successes"] == 56
    assert compared(capsys, a, many, unpaired=True)[1]["comparisons"][0]["errors"] == [0, 10]


def test_several_share_one_chance_of_error(folder, capsys) -> None:
    """Six discordant episodes, all one way, are p = 0.031: enough alone, not as the best of three."""
    a = folder("a", ["+" * 20 + "-" * 10])
    b = folder("b", ["+" * 26 + "-" * 4])
    others = [folder(name, ["+" * 20 + "-" * 10]) for name in ("c", "d")]
    assert compared(capsys, a, b)[1]["comparisons"][0]["verdict"] == "better"
    _, found = compared(capsys, a, b, *others)
    assert [c["verdict"] for c in found["comparisons"]] == ["undecided"] * 3
    assert found["comparisons"][0]["p_holm"] == pytest.approx(3 * 2 / 64)
    _, found = compared(capsys, a, b, *others, all_pairs=True)
    assert len(found["comparisons"]) == 6


def test_the_same_policy_twice_is_a_noise_floor(folder, capsys) -> None:
    rows = drawn([0.9] * 4, 25, seed=1)
    flipped = ["-" + rows[0][1:], *rows[1:]] if rows[0][0] == "+" else ["+" + rows[0][1:], *rows[1:]]
    a, again = folder("a", rows), folder("again", flipped, policy="a")
    _, found = compared(capsys, a, again)
    floor = found["comparisons"][0]["same_policy"]
    assert (floor["pairs"], floor["discordant"], floor["identical"]) == (100, 1, 99)
    assert 0 < floor["low"] < 0.01 < floor["high"] < 0.06
    assert "Both are the same policy. 1 of 100 episodes end differently" in told(capsys, a, again)
    b = folder("b", ["-" + rows[0][1:] if rows[0][0] == "+" else "+" + rows[0][1:], *rows[1:]])
    out = told(capsys, a, b, floor=again)
    assert "run twice: 1 of 100" in out and "disagree no more often than that" in out
    with pytest.raises(UserError, match="not a second run of the policy"):
        run(CompareConfig(runs=(a, b), floor=b))


def test_runs_that_could_stop_early_are_judged_by_bets(folder, capsys) -> None:
    rule = {"method": "betting-mixture-1", "kind": "rate", "alpha": 0.05, "rate": 0.9}
    a, b = folder("a", A), folder("b", [BETTER[0][:30], BETTER[1][:31]], stop_when=rule)
    _, found = compared(capsys, a, b)
    [comparison] = found["comparisons"]
    assert comparison["method"] == "paired, stopped early" and comparison["episodes"] == [60, 60], "whole rounds"
    table = {name: comparison["table"][name] for name in ("only_one", "only_other")}
    assert table == {"only_one": 0, "only_other": 10}
    assert comparison["p"] > 2 / 2**10, "the price of having been allowed to look"
    assert "could stop early" in told(capsys, a, b)
    with pytest.raises(UserError, match="cannot be compared by their rates"):
        run(CompareConfig(runs=(a, b), unpaired=True))


def test_what_cannot_be_compared_at_all(folder, tmp_path: Path) -> None:
    a, goal = folder("a", A), folder("goal", A, suite="libero_goal")
    with pytest.raises(UserError, match="different suites"):
        run(CompareConfig(runs=(a, goal)))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "notes.txt").touch()
    with pytest.raises(UserError, match="is not an evaluation"):
        run(CompareConfig(runs=(a, tmp_path / "foreign")))
    with pytest.raises(UserError, match="nothing to be compared with"):
        CompareConfig(runs=(a,))
    with pytest.raises(UserError, match="named twice"):
        CompareConfig(runs=(a, tmp_path / "goal" / ".." / "a"))
    with pytest.raises(UserError, match="not between 0 and 1"):
        CompareConfig(runs=(a, goal), margin=2.0)
    with pytest.raises(UserError, match="both given"):
        CompareConfig(runs=(a, goal), unpaired=True, across_protocols=True)


def test_evaluations_that_really_ran(evaluate, reacher, capsys) -> None:
    """From roll-outs to a verdict, and the exit code of the command."""
    a, b = evaluate("a", reacher), evaluate("b", "zero")
    again = evaluate("again", reacher)
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(a), str(b)])
    assert ended.value.code == 1
    assert "is worse than" in " ".join(capsys.readouterr().out.split())
    _, found = compared(capsys, a, again)
    floor = found["comparisons"][0]["same_policy"]
    assert (floor["discordant"], floor["identical"], floor["pairs"]) == (0, 24, 24), "bit-equal actions"


def test_a_partial_start_is_said_beside_the_rates(folder, capsys) -> None:
    a, b = folder("a", A), folder("b", BETTER)
    written = json.loads((b / plan.PLAN).read_text())
    written["identity"]["policy"]["partial"] = "It began with part."
    (b / plan.PLAN).write_text(json.dumps(written))
    assert f"{b}: It began with part." in told(capsys, a, b)
    assert [run["partial"] for run in compared(capsys, a, b)[1]["runs"]] == [None, "It began with part."]
