"""What an answer is worth: right to the letter, right somewhere in it, wrong, or in no form that could be right."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from handeye.data.xvr.question import Question


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of one answer."""

    exact: bool
    """The same words, whatever their case and the blanks around them (the reference's measure)."""

    contains: bool
    """The true answer is in it as whole words. The reference looks for the letters alone, so that its `10` contains
    `1`."""

    malformed: bool
    """It is none of the answers that can be given to this task. A model may see all of it and still end here."""


def score(said: str, truth: str, answers: Collection[str]) -> Score:
    """`answers`: all that can be given, in any case."""
    words, wanted = plain(said), plain(truth)
    return Score(
        exact=words == wanted,
        contains=re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", words) is not None,
        malformed=words not in {plain(answer) for answer in answers},
    )


def plain(answer: str) -> str:
    return " ".join(answer.lower().split())


def possible(question: Question, of_task: Mapping[str, Collection[str]]) -> Collection[str]:
    """What can be answered: what the file offers, or else what occurs in the task."""
    return question.options or of_task[question.task]


def answers_of(pairs: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    """Task -> answers that occur, from (task, answer)."""
    found: dict[str, set[str]] = {}
    for task, answer in pairs:
        found.setdefault(task, set()).add(plain(answer))
    return found
