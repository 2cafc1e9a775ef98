"""`handeye evaluate-vqa`: how many questions of which kind are answered right.

    plan.json            written first: which model, which questions, how asked
    predictions.jsonl    one line per question, when it was answered
    summary.json         written last

An answer that is none of those that can be given ("The red dot." instead of "red") is counted as wrong, and apart: two
published models are below chance because of that (data/xvr/chance.py)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from handeye import console
from handeye.data.xvr.chance import KINDS, PUBLISHED, Chance, chance, task_of
from handeye.data.xvr.question import Question
from handeye.data.xvr.questions import Questions, files_of
from handeye.data.xvr.score import answers_of, possible, score
from handeye.data.xvr.store import Store
from handeye.errors import UserError, unknown
from handeye.evaluate.statistics import Rate, rate
from handeye.evaluate.vqa_config import EvaluateVqaConfig
from handeye.records import append_line, provenance, read_json, read_lines, sha256_file, write_json

PLAN, PREDICTIONS, SUMMARY = "plan.json", "predictions.jsonl", "summary.json"


@runtime_checkable
class Answers(Protocol):
    """What answers; see handeye.serve.answers."""

    @property
    def identity(self) -> Mapping[str, Any]: ...

    def why_not(self, question: Question) -> str: ...

    def __call__(self, questions: Sequence[Question], store: Store) -> list[str]: ...


def run(config: EvaluateVqaConfig, answers: Answers) -> Path:
    """Returns the folder."""
    out = config.folder()
    asked, left_out = _chosen(config, answers)
    plan = {
        "answers": dict(answers.identity),
        "questions": {"file": asked.path.name, "sha256": sha256_file(asked.path), "most": config.questions},
        "left_out": left_out,
        "answer_length": config.answer_length,
        "count": len(asked),
    }
    _own(out, plan)
    known = answers_of((entry.task, entry.answer) for entry in asked.entries)
    done = {line["id"] for line in read_lines(out / PREDICTIONS)}
    waiting = [index for index, entry in enumerate(asked.entries) if entry.id not in done]
    console.say(f"{len(asked)} questions of {asked.path}" + (f", {len(done)} answered before" if done else ""))
    with console.progress("questions", len(asked), done=len(done)) as advance:
        for start in range(0, len(waiting), config.rows):
            some = [asked[index] for index in waiting[start : start + config.rows]]
            for question, said in zip(some, answers(some, asked.store), strict=True):
                append_line(out / PREDICTIONS, _line(question, said, known))
                advance()
    summary = summarise(read_lines(out / PREDICTIONS), chance(asked.entries))
    write_json(out / SUMMARY, {**summary, "plan": plan, "provenance": provenance()})
    tell(summary)
    console.say(f"every answer is in {out / PREDICTIONS}")
    return out


def _chosen(config: EvaluateVqaConfig, answers: Answers) -> tuple[Questions, int]:
    """Questions to ask, and how many do not fit and are left out."""
    files = {path.stem: path for path in files_of(config.dataset)}
    if config.dataset.is_dir() and config.split not in files:
        raise unknown(f"file of questions in {config.dataset}", config.split, files, fix="name one with --split")
    asked = Questions(config.dataset if config.dataset.is_file() else files[config.split])
    if config.questions is not None and config.questions < len(asked):
        asked = asked.only(np.linspace(0, len(asked) - 1, config.questions).round().astype(int).tolist())
    reasons = [answers.why_not(question) for question in asked]
    misfits = [index for index, why in enumerate(reasons) if why]
    if misfits and config.too_long == "refuse":
        raise UserError(
            f"{len(misfits)} of {len(asked)} questions of {asked.path} do not fit the model.",
            why=f"{asked.entries[misfits[0]].id}, the first: {reasons[misfits[0]]}",
            fix="--too-long 'leave out' asks the others; or tune with room for more",
        )
    if misfits:
        console.warn(f"{len(misfits)} of {len(asked)} questions do not fit the model and are left out")
        asked = asked.only([index for index, why in enumerate(reasons) if not why])
    return asked, len(misfits)


def _own(out: Path, plan: Mapping[str, Any]) -> None:
    """The folder is new, or of the same plan."""
    if (out / PLAN).exists():
        before = read_json(out / PLAN, what="the plan of an evaluation")
        if differing := [name for name in plan if before.get(name) != plan[name]]:
            raise UserError(
                f"{out} belongs to another evaluation.",
                why="; ".join(f"{name}: {before.get(name)} there, {plan[name]} here" for name in differing),
                fix="give another --out",
            )
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty and no evaluation.", fix="give another --out")
    else:
        write_json(out / PLAN, plan)


def _line(question: Question, said: str, known: Mapping[str, set[str]]) -> dict[str, Any]:
    return {
        "id": question.id,
        "task": question.task,
        "said": said,
        "truth": question.answer,
        **asdict(score(said, question.answer, possible(question, known))),
    }


def summarise(lines: Sequence[Mapping[str, Any]], guessing: Mapping[str, Chance]) -> dict[str, Any]:
    """Per task and over all questions: counts and rates with their intervals, what guessing gives, what was
    published."""
    tasks = {task: [line for line in lines if line["task"] == task] for task in _in_order(guessing)}
    published = {task_of(kind): number for number, kind in enumerate(KINDS)}
    names = {task_of(kind): kind.name for kind in KINDS}
    total = sum(one.questions for one in guessing.values())
    whole = {
        "random": sum(one.random * one.questions for one in guessing.values()) / total,
        "majority": sum(one.majority * one.questions for one in guessing.values()) / total,
    }
    return {
        "tasks": {
            task: {
                "kind": names.get(task, ""),
                **_counted(some),
                "random": guessing[task].random,
                "majority": guessing[task].majority,
                "published": {n: row[published[task]] for n, row in PUBLISHED.items()} if task in published else {},
            }
            for task, some in tasks.items()
        },
        "all": {**_counted(lines), **whole, "published": {name: row[-1] for name, row in PUBLISHED.items()}},
    }


def _in_order(tasks: Mapping[str, Any]) -> list[str]:
    """As in the published table; others after them."""
    order = [task_of(kind) for kind in KINDS]
    return sorted(tasks, key=lambda task: (order.index(task) if task in order else len(order), task))


def _counted(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    judges: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
        "exact": lambda line: line["exact"],
        "contains": lambda line: line["contains"],
        "malformed": lambda line: line["malformed"],
        "wrong": lambda line: not line["exact"] and not line["malformed"],
    }
    found: dict[str, Any] = {"questions": len(lines)}
    for name, judge in judges.items():
        shares: Rate = rate(sum(map(judge, lines)), len(lines))
        found[name] = {"count": shares.successes, "rate": shares.value, "low": shares.low, "high": shares.high}
    return found


def tell(summary: Mapping[str, Any]) -> None:
    """Percent."""
    rows = {f"{one['kind'] or task} ({task})": one for task, one in summary["tasks"].items()}
    rows["all"] = summary["all"]
    columns = ["answers, percent", "questions", "exact", "95 %", "contains", "other form", "wrong"]
    console.table("", columns, [_measured(title, one) for title, one in rows.items()])
    console.say()
    columns = ["exact, percent", "here", "guess", "most frequent", *(f"{name} *" for name in PUBLISHED)]
    console.table("", columns, [_compared(title, one) for title, one in rows.items()])
    console.say("* published, on XVR-Eval (cross-view-relations.github.io)")


def _measured(title: str, one: Mapping[str, Any]) -> list[str]:
    exact, *others = (one[name] for name in ("exact", "contains", "malformed", "wrong"))
    interval = f"{_percent(exact['low'])} to {_percent(exact['high'])}"
    return [
        title, str(one["questions"]), _percent(exact["rate"]), interval, *(_percent(each["rate"]) for each in others)
    ]  # fmt: skip


def _compared(title: str, one: Mapping[str, Any]) -> list[str]:
    published = [f"{one['published'][name]:.1f}" if one["published"] else "" for name in PUBLISHED]
    return [title, *(_percent(share) for share in (one["exact"]["rate"], one["random"], one["majority"])), *published]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
