"""Evaluating answers: counted right, resumed to the same, and told beside what guessing gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from small_vqa import write_questions

from handeye.data.xvr.chance import KINDS, PUBLISHED, task_of
from handeye.data.xvr.question import Question
from handeye.data.xvr.store import Store
from handeye.errors import UserError
from handeye.evaluate.statistics import wilson
from handeye.evaluate.vqa import PLAN, PREDICTIONS, SUMMARY, run
from handeye.evaluate.vqa_config import EvaluateVqaConfig
from handeye.records import read_json, read_lines


@dataclass
class Scripted:
    """Answers by a rule; may die after so many."""

    rule: Any = lambda question: question.answer
    die_after: int = 10_000
    asked: list[str] = field(default_factory=list)
    identity: dict[str, Any] = field(default_factory=lambda: {"weights": "none"})

    def why_not(self, question: Question) -> str:
        return "it has 3 pictures" if len(question.pictures) > 2 and self.rule is None else ""

    def __call__(self, questions: Sequence[Question], store: Store) -> list[str]:
        assert all(store.has(path) for question in questions for path in question.pictures)
        if len(self.asked) >= self.die_after:
            raise KeyboardInterrupt
        self.asked += [question.id for question in questions]
        return [(self.rule or (lambda question: question.answer))(question) for question in questions]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("xvr"), train=4, valid=20)


@pytest.fixture
def config(root: Path, tmp_path: Path) -> EvaluateVqaConfig:
    return EvaluateVqaConfig(checkpoint=tmp_path / "run", dataset=root, split="valid", out=tmp_path / "result", rows=3)


def summary(folder: Path) -> dict[str, Any]:
    return read_json(folder / SUMMARY, what="a summary")


def test_each_kind_of_answer_is_counted(config: EvaluateVqaConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Of task1: right in capitals, a sentence that holds the answer; of task2: another colour, another form."""

    def rule(question: Question) -> str:
        place = int(question.id.split("-")[1]) // 2 % 2
        other = "red" if question.answer != "Red" else "blue"
        first = question.task == "task1"
        return (
            (question.answer.upper() if first else other) if place else (f"it is {question.answer}" if first else "?")
        )

    out = run(config, Scripted(rule))
    one, two = summary(out)["tasks"]["task1"], summary(out)["tasks"]["task2"]
    share = {name: (one[name]["rate"], two[name]["rate"]) for name in ("exact", "contains", "malformed", "wrong")}
    assert share == {"exact": (0.5, 0), "contains": (1, 0), "malformed": (0.5, 0.5), "wrong": (0, 0.5)}
    assert (one["exact"]["low"], one["exact"]["high"]) == wilson(5, 10)
    assert summary(out)["all"]["exact"]["count"] == 5 and summary(out)["all"]["questions"] == 20
    lines = read_lines(out / PREDICTIONS)
    assert len(lines) == 20 and set(lines[0]) == {"id", "task", "said", "truth", "exact", "contains", "malformed"}
    told = " ".join(capsys.readouterr().out.split())
    assert "Temporal (task1)" in told and "published, on XVR-Eval" in told


def test_beside_guessing_and_the_published_table(config: EvaluateVqaConfig) -> None:
    found = summary(run(config, Scripted()))
    for task, one in found["tasks"].items():
        number = next(n for n, kind in enumerate(KINDS) if task_of(kind) == task)
        assert one["kind"] == KINDS[number].name
        assert one["published"] == {name: row[number] for name, row in PUBLISHED.items()}
        assert one["random"] == 0.25 and 0.25 <= one["majority"] < 1
    assert found["all"]["published"]["human"] == 83.85
    assert found["all"]["random"] == pytest.approx(0.25)


def test_killed_it_goes_on_to_the_same(config: EvaluateVqaConfig, tmp_path: Path) -> None:
    whole = run(replace(config, out=tmp_path / "whole"), Scripted())
    with pytest.raises(KeyboardInterrupt):
        run(config, Scripted(die_after=9))
    assert not (config.out / SUMMARY).exists() and len(read_lines(config.out / PREDICTIONS)) == 9
    with (config.out / PREDICTIONS).open("a") as file:
        file.write('{"id": "torn')
    second = Scripted()
    run(config, second)
    assert len(second.asked) == 11
    assert (config.out / PREDICTIONS).read_bytes() == (whole / PREDICTIONS).read_bytes()
    drop = ("provenance",)
    assert {k: v for k, v in summary(config.out).items() if k not in drop} == {
        k: v for k, v in summary(whole).items() if k not in drop
    }
    again = Scripted()
    run(config, again)
    assert not again.asked


@pytest.mark.parametrize("change", ["weights", "questions", "answer_length"])
def test_another_evaluations_folder(config: EvaluateVqaConfig, change: str) -> None:
    run(config, Scripted())
    other = Scripted(identity={"weights": "others"}) if change == "weights" else Scripted()
    changed = config if change == "weights" else replace(config, **{change: 5})
    with pytest.raises(UserError, match="belongs to another evaluation"):
        run(changed, other)


def test_some_of_the_questions(config: EvaluateVqaConfig, root: Path) -> None:
    asked = Scripted()
    run(replace(config, questions=5), asked)
    assert [int(name.split("-")[1]) for name in asked.asked] == [100, 105, 110, 114, 119]
    assert read_json(config.out / PLAN, what="a plan")["count"] == 5
    by_file = Scripted()
    run(replace(config, dataset=root / "train.jsonl", out=config.out.with_name("file")), by_file)
    assert len(by_file.asked) == 4


def test_questions_that_do_not_fit(config: EvaluateVqaConfig, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="of 20 questions"):
        run(config, Scripted(rule=None))
    run(replace(config, too_long="leave out"), Scripted(rule=None))
    assert "are left out" in capsys.readouterr().err
    assert read_json(config.out / PLAN, what="a plan")["left_out"] > 0


def test_what_is_refused(config: EvaluateVqaConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="called 'test'"):
        run(replace(config, split="test"), Scripted())
    with pytest.raises(UserError, match="does not exist"):
        run(replace(config, dataset=tmp_path / "nowhere"), Scripted())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(UserError, match="no evaluation"):
        run(replace(config, out=tmp_path / "full"), Scripted())
    with pytest.raises(UserError, match="--rows 0"):
        replace(config, rows=0)
