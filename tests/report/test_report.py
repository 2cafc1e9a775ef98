"""The page says what the records say, needs nothing from outside, and holds the text of others as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import drawn, write_run

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.plan import PLAN
from handeye.evaluate.results import EPISODES
from handeye.report.config import ReportConfig
from handeye.report.run import run

Evaluated = Callable[..., Path]


def test_the_page_says_what_the_records_say(evaluated: Evaluated, page: Callable) -> None:
    out = evaluated("noise", videos="failures")
    found, shown = results.read(out), page(out)
    assert len(shown.cells) == len(shown.episodes) == 8
    for cell in shown.cells:
        result = found[cell["data-id"].split("|")[1]]
        assert f"cell {result.outcome}" in cell["class"]
        assert result.outcome in cell["aria-label"]
        assert shown.episodes[cell["data-id"]]["outcome"] == result.outcome
        assert str(result.steps) in shown.episodes[cell["data-id"]]["ended"]
        assert bool(shown.episodes[cell["data-id"]]["video"]) == (result.outcome == "failure")
    successes = sum(result.outcome == "success" for result in found.values())
    assert f"{successes} of 8 episodes succeeded" in shown.text
    assert f"{100 * successes / 8:.1f}" in shown.sections["runs"]
    for fact in (
        "handeye-2026, version 1",
        "move the point to the red square",
        "3.2.3",
        "pytest",
        "baseline of uniform",
    ):
        assert fact in shown.text, fact
    for row in ("episodes per minute", "policy's time per question", "seconds per episode", "wait for an answer"):
        assert row in shown.sections["speed"], row


def test_it_is_self_contained(tmp_path: Path, filmed: Callable, page: Callable) -> None:
    shown = page(filmed(write_run(tmp_path / "a", ["+-"])), filmed(write_run(tmp_path / "b", ["--"], policy="b")))
    assert set(shown.addresses) == {"data:,"}, "nothing is loaded from anywhere"
    assert "http:" not in shown.source and "https:" not in shown.source
    assert "default-src &#39;none&#39;" in shown.source, "and a browser would not let it"


def test_the_same_runs_give_the_same_page(tmp_path: Path, page: Callable) -> None:
    a = write_run(tmp_path / "a", drawn([0.5] * 3, 9, seed=0))
    assert page(a).source == page(a).source


def test_an_index_of_runs(tmp_path: Path, page: Callable) -> None:
    a = write_run(tmp_path / "a", ["++++", "++--"])
    b = write_run(tmp_path / "b", ["++! ", "----"], policy="b")
    words = page(a, b).sections["runs"]
    assert "6/8" in words and "75.0" in words and "complete" in words
    assert "2/6" in words and "1 of 8 missing" in words
    assert "50.0" in words, "the mean of two tasks, of 2/2 and 0/4"
    assert "1 episode ended in an error and is not in the rate" in words


def test_initial_states_stand_in_columns(tmp_path: Path, page: Callable) -> None:
    """Also where runs planned others, or not every task."""
    a = write_run(tmp_path / "a", ["+-+-", "++++"])
    b = write_run(tmp_path / "b", ["+-", "--"], policy="b")
    plan = json.loads((b / PLAN).read_text())
    plan["identity"] |= {"initial_states": [2, 3], "tasks": plan["identity"]["tasks"][:1]}
    (b / PLAN).write_text(json.dumps(plan))
    lines = [json.loads(line) for line in (b / EPISODES).read_text().splitlines()]
    for line in lines:
        line["episode"]["initial_state"] += 2
    (b / EPISODES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = page(a, b)
    assert [cell["data-id"].split("/")[1:3] for cell in shown.cells if cell["data-id"].startswith("1|")] == [
        ["0", "init2"],
        ["0", "init3"],
    ]
    row = shown.source.split('aria-label="b, task 0"')[1].split("</div>")[0]
    assert row.count('<span class="cell"></span>') == 2 and row.index('<span class="cell"') < row.index("<button")
    assert 'aria-label="b, task 1"' not in shown.source


def test_a_policy_on_several_suites_has_a_mean(tmp_path: Path, page: Callable) -> None:
    runs = [
        write_run(tmp_path / suite, rows, suite=suite, policy="p")
        for suite, rows in (("libero_goal", ["++++", "++++"]), ("libero_10", ["+---", "----"]))
    ]
    shown = page(*runs)
    assert "mean of 2 suites" in shown.sections["runs"] and "56.2" in shown.sections["runs"]
    assert {"suite1", "suite2"} <= set(shown.sections)
    other = write_run(tmp_path / "other", ["+", "+", "+"], suite="libero_object", policy="p")
    assert "mean of" not in page(*runs, other).sections["runs"], "three tasks are not two"


def test_errors_stand_apart(tmp_path: Path, page: Callable) -> None:
    shown = page(write_run(tmp_path / "a", ["+-!"]))
    assert "1 of 2 episodes succeeded" in shown.text
    assert "RuntimeError: broken" in shown.sections["errors"]
    assert [cell["class"].split()[1] for cell in shown.cells] == ["success", "failure", "error"]


def test_an_unfinished_run_says_so(tmp_path: Path, page: Callable) -> None:
    shown = page(write_run(tmp_path / "a", ["+-  ", "++ +"]))
    assert "Not finished: 3 of 8 planned episodes are missing." in shown.text
    assert sum("disabled" in cell for cell in shown.cells) == 3
    assert "No episode has ended yet" in page(write_run(tmp_path / "b", ["  "])).text


def test_failures_say_what_was_unmet(tmp_path: Path, page: Callable) -> None:
    a = write_run(tmp_path / "a", ["-+--", "+++-"])
    lines = [json.loads(line) for line in (a / EPISODES).read_text().splitlines()]
    for line in lines:
        if line["outcome"] == "failure":
            line |= {"unmet": ["on cube plate"], "note": "the cube is out of reach"}
    (a / EPISODES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = page(a).sections["failures"]
    assert "on cube plate 3 of 3" in words and "on cube plate 1 of 1" in words
    assert words.count("the cube is out of reach") == 4
    assert "failures" not in page(write_run(tmp_path / "b", ["++"])).sections


def test_one_failure_of_every_task_comes_before_the_second_of_any(tmp_path: Path, page: Callable) -> None:
    shown = page(write_run(tmp_path / "a", ["----", "----", "--"]))
    order = [part.split('"')[0] for part in shown.source.split('class="film failure" data-id="')[1:]]
    tasks = [shown.episodes[id_]["key"].split("/")[1] for id_ in order]
    assert tasks == list("0120120101")


def test_text_of_others_is_text(tmp_path: Path, page: Callable) -> None:
    """A task's sentence, a policy's address or a traceback may hold anything; none of it becomes markup or script."""
    nasty = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"'`"
    a = write_run(tmp_path / "a", ["+-!"], policy=nasty)
    b = write_run(tmp_path / "b", ["-+!"], policy="b", protocol={"name": nasty, "image_steps": nasty})
    for folder in (a, b):
        plan = json.loads((folder / PLAN).read_text())
        plan["identity"]["tasks"][0]["language"] = nasty
        plan["address"] = nasty
        (folder / PLAN).write_text(json.dumps(plan))
        lines = [json.loads(line) for line in (folder / EPISODES).read_text().splitlines()]
        for line in lines:
            line |= {"note": nasty, "unmet": [nasty], "error": nasty if line["error"] else None}
        (folder / EPISODES).write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = page(a, b)
    assert nasty not in shown.source and "<script>alert" not in shown.source and "<img" not in shown.source
    assert nasty in shown.text
    assert set(shown.addresses) == {"data:,"}


def test_two_thousand_episodes_make_a_small_page(tmp_path: Path, page: Callable) -> None:
    suites = ("libero_spatial", "libero_object", "libero_goal", "libero_10")
    runs = [write_run(tmp_path / s, drawn([0.9] * 10, 50, seed=i), suite=s) for i, s in enumerate(suites)]
    shown = page(*runs)
    assert len(shown.cells) == len(shown.episodes) == 2000
    assert len(shown.source) < 2.5e6


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing", None, "is not an evaluation"),
        ("other", {"identity": {"format": "x"}, "address": ""}, "is not an evaluation's plan"),
        ("other", {"loss": 3}, "is not an evaluation's plan"),
        ("other", [], "is not an evaluation's plan"),
    ],
)
def test_what_is_not_an_evaluation(name: str, content: Any, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).mkdir()
        (tmp_path / name / PLAN).write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        run(ReportConfig(runs=(tmp_path / name,)))
