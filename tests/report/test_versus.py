"""Comparisons on the page: a verdict with its episodes, or a refusal with its reasons."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from studies import drawn, identity, write_run

from handeye.evaluate import plan
from handeye.report.load import load
from handeye.report.versus import telling, versus


def compared(*folders: Path, margin: float | None = None) -> list[dict]:
    return versus(load(folders), margin=margin, alpha=0.05)


def test_a_clear_case(tmp_path: Path, page: Callable) -> None:
    a = write_run(tmp_path / "a", ["+-" * 20, "-" * 40])
    b = write_run(tmp_path / "b", ["+" * 40, "-" * 39 + "+"], policy="b")
    [found] = compared(a, b)
    assert found["verdict"] == "better"
    assert found["sentence"].startswith("b is better than a: +26.2 points [")
    assert (found["table"].only_one, found["table"].only_other) == (0, 21)
    assert [pair["state"] for pair in found["pairs"]] == [*range(1, 40, 2), 39]
    assert all([side["outcome"] for side in pair["sides"]] == ["failure", "success"] for pair in found["pairs"])
    words = page(a, b).sections["comparison"]
    assert found["sentence"] in words and "21 episodes that only one of them solved" in words
    assert "80 shared episodes: 0 only a solved, 21 only b." in words


def test_every_verdict_can_be_had(tmp_path: Path) -> None:
    good, bad = ["+" * 50] * 10, ["-" * 50] * 10
    a, b = write_run(tmp_path / "a", good), write_run(tmp_path / "b", bad, policy="b")
    c = write_run(tmp_path / "c", ["+" * 49 + "-", *good[1:]], policy="c")
    assert [found["verdict"] for found in compared(a, b, c)] == ["worse", "undecided"]
    assert [found["verdict"] for found in compared(a, b, c, margin=0.02)] == ["worse", "equivalent"]
    assert "points" in compared(a, c, margin=0.02)[0]["sentence"]


def test_other_rules_are_refused_with_the_difference(tmp_path: Path, page: Callable) -> None:
    a = write_run(tmp_path / "a", ["++", "+-"])
    b = write_run(tmp_path / "b", ["++", "+-"], policy="b", protocol={"settle_steps": 3, "seed": 4})
    [found] = compared(a, b)
    assert found["verdict"] == "refused"
    assert found["reasons"] == ["protocol.seed: 0 | 4", "protocol.settle_steps: 10 | 3"]
    words = page(a, b).sections["comparison"]
    assert "not compared" in words and "protocol.seed: 0 | 4" in words and "--across-protocols" in words
    assert "solved" not in words


def test_other_scenes_are_refused(tmp_path: Path) -> None:
    keys = [episode.key for episode in plan.episodes(identity(1, 9))]
    a = write_run(tmp_path / "a", ["+" * 9])
    b = write_run(tmp_path / "b", ["+" * 9], policy="b", scenes={key: "moved" for key in keys[:7]})
    [found] = compared(a, b)
    assert found["verdict"] == "refused" and "ran 7 of the same episodes in other scenes" in found["sentence"]
    assert found["reasons"] == [*(f"another scene: {key}" for key in keys[:5]), "and 2 more scenes"]


def test_nothing_in_common_is_refused(tmp_path: Path) -> None:
    a, b = write_run(tmp_path / "a", ["+ "]), write_run(tmp_path / "b", [" +"], policy="b")
    [found] = compared(a, b)
    assert found["verdict"] == "refused" and "no finished episode in common" in found["sentence"]
    assert found["reasons"] == ["1 and 1 episodes are recorded"]


def test_suites_are_compared_apart_and_verdicts_given_together(tmp_path: Path) -> None:
    rows, worse = ["+" * 12], ["-" * 6 + "+" * 6]
    runs = [
        write_run(tmp_path / "a", rows, policy="a"),
        write_run(tmp_path / "a2", rows, policy="a", suite="fake"),
        write_run(tmp_path / "b", worse, policy="b"),
        write_run(tmp_path / "b2", worse, policy="b", suite="fake"),
    ]
    found = compared(*runs)
    assert [(each["suite"], each["labels"]) for each in found] == [("tabletop", ["a", "b"]), ("fake", ["a", "b"])]
    assert [each["verdict"] for each in found] == ["undecided", "undecided"], "0.031 each; twice that after Holm"
    assert compared(runs[0], runs[2])[0]["verdict"] == "worse"


def test_errors_and_early_stops_are_said(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", ["+" * 19 + "!"])
    b = write_run(tmp_path / "b", ["-" * 20], policy="b", stop_when={"kind": "rate", "rate": 0.5, "alpha": 0.05})
    words = " ".join(compared(a, b)[0]["evidence"])
    assert "1 errors: the difference lies between" in words and "One of them could stop early" in words


def test_one_run_is_compared_with_nobody(tmp_path: Path, page: Callable) -> None:
    a = write_run(tmp_path / "a", ["+-"])
    assert compared(a) == [] and "comparison" not in page(a).sections
    b = write_run(tmp_path / "b", ["+-"], suite="fake")
    assert compared(a, b) == []


def test_pairs_with_both_videos_come_first(tmp_path: Path, filmed: Callable, page: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", drawn([0.5] * 2, 10, seed=0)))
    b = filmed(write_run(tmp_path / "b", drawn([0.5] * 2, 10, seed=1), policy="b"), "success")
    [found] = compared(a, b)
    complete = [all(side["filmed"] for side in pair["sides"]) for pair in found["pairs"]]
    assert complete == sorted(complete, reverse=True) and {True, False} == set(complete)
    ids = telling([found])
    assert len(ids) == 2 * len(found["pairs"]) and ids <= set(page(a, b).episodes)
    assert "no video" in page(a, b).sections["comparison"]


def test_without_videos_pairs_are_a_table(tmp_path: Path, page: Callable) -> None:
    a, b = write_run(tmp_path / "a", ["+-"]), write_run(tmp_path / "b", ["-+"], policy="b")
    shown = page(a, b)
    assert "2 episodes that only one of them solved" in shown.sections["comparison"]
    assert 'class="pair"' not in shown.source
