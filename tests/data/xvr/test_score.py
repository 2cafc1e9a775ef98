"""What an answer is worth."""

from __future__ import annotations

import pytest

from handeye.data.xvr.question import Picture, Question, Text
from handeye.data.xvr.score import answers_of, possible, score


@pytest.mark.parametrize(
    ("said", "truth", "exact", "contains", "malformed"),
    [
        ("Red", "red", True, True, False),
        ("  red \n", "Red", True, True, False),
        ("blue", "red", False, False, False),
        ("the red one", "red", False, True, True),
        ("reddish", "red", False, False, True),
        ("10", "1", False, False, False),  # the reference's count says that 10 contains 1
        ("image 1", "1", False, True, True),
        ("", "red", False, False, True),
        ("dark  red", "Dark red", True, True, False),
    ],
)
def test_score(said: str, truth: str, exact: bool, contains: bool, malformed: bool) -> None:
    found = score(said, truth, {"Red", "blue", "1", "10", "dark red"})
    assert (found.exact, found.contains, found.malformed) == (exact, contains, malformed)


def test_what_can_be_answered() -> None:
    of_task = answers_of([("task1", "Red"), ("task1", "red "), ("task1", "2"), ("task2", "left")])
    assert of_task == {"task1": {"red", "2"}, "task2": {"left"}}
    question = Question(id="a", task="task1", blocks=(Text("?"), Picture("images/a.png")), answer="red")
    assert possible(question, of_task) == {"red", "2"}
    offered = Question(id="a", task="task1", blocks=question.blocks, answer="A", options=("A", "B"))
    assert possible(offered, of_task) == ("A", "B")
