"""Questions gather as far as they should, in a fair order, and every one gets its own answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

import pytest

from handeye.distributed.desk import Desk


class Answerer:
    """Doubles. Can be held up, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, questions: Sequence[Any]) -> list[Any]:
        self.batches.append(list(questions))
        assert self.go.wait(10)
        return [question * 2 for question in questions]


@contextmanager
def opened(*answerers: Answerer, **rules: Any) -> Iterator[Desk]:
    desk = Desk(answerers=answerers, **rules)
    desk.open()
    try:
        yield desk
    finally:
        for answerer in answerers:
            answerer.go.set()
        desk.close()


def collect(desk: Desk, count: int) -> dict[int, Any]:
    found: dict[int, Any] = {}
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        if wait([desk.bell], timeout=1):
            found |= dict(desk.answers())
    return found


def test_a_full_batch_is_answered_at_once() -> None:
    answerer = Answerer()
    with opened(answerer, batch=3, wait=60.0) as desk:
        desk.expect(100)
        for who in range(6):
            desk.ask(who, who)
        assert collect(desk, 6) == {who: 2 * who for who in range(6)}
    assert [len(batch) for batch in answerer.batches] == [3, 3]


def test_nobody_waits_for_those_who_cannot_ask() -> None:
    answerer = Answerer()
    with opened(answerer, batch=8, wait=60.0) as desk:
        desk.expect(3)
        desk.ask(0, 0)
        desk.ask(1, 1)
        assert not wait([desk.bell], timeout=0.1), "the third may ask at any moment"
        desk.ask(2, 2)
        assert len(collect(desk, 3)) == 3
        desk.ask(0, 5)
        desk.expect(1)
        assert collect(desk, 1) == {0: 10}
    assert [len(batch) for batch in answerer.batches] == [3, 1]


def test_the_deadline_holds() -> None:
    answerer = Answerer()
    with opened(answerer, batch=8, wait=0.2) as desk:
        desk.expect(100)
        before = time.monotonic()
        desk.ask(0, 1)
        assert collect(desk, 1) == {0: 2}
        assert time.monotonic() - before >= 0.2


def test_likes_go_together_and_the_oldest_goes_first() -> None:
    answerer = Answerer()
    answerer.go.clear()
    with opened(answerer, batch=2, alike=str.upper) as desk:
        desk.ask(0, "x")
        while not answerer.batches:
            time.sleep(0.001)
        for who, question in enumerate(["b", "a", "b", "a", "a"], start=1):
            desk.ask(who, question)
        answerer.go.set()
        assert len(collect(desk, 6)) == 6
    assert answerer.batches == [["x"], ["b", "b"], ["a", "a"], ["a"]]


def test_two_answerers_work_at_the_same_time() -> None:
    one, other = Answerer(), Answerer()
    one.go.clear()
    other.go.clear()
    with opened(one, other, batch=1) as desk:
        desk.ask(0, 1)
        desk.ask(1, 2)
        deadline = time.monotonic() + 10
        while not (one.batches and other.batches) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert one.batches and other.batches
        one.go.set()
        other.go.set()
        assert collect(desk, 2) == {0: 2, 1: 4}
        used = desk.use()
    assert (used.questions, used.batches, used.waiting, used.answerers) == (2, 2, 0, 2)
    assert used.seconds > 0


def test_a_dropped_question_is_not_answered() -> None:
    answerer = Answerer()
    with opened(answerer, batch=8, wait=60.0) as desk:
        desk.expect(2)
        desk.ask(0, 1)
        desk.drop(0)
        desk.expect(1)
        desk.ask(1, 2)
        assert collect(desk, 1) == {1: 4}
    assert answerer.batches == [[2]]


@pytest.mark.parametrize("answers", [[], [1, 2]])
def test_a_wrong_number_of_answers_is_noticed(answers: list[int]) -> None:
    desk = Desk(answerers=[lambda questions: answers])
    desk.open()
    try:
        desk.ask(0, 1)
        assert wait([desk.bell], timeout=10)
        with pytest.raises(ValueError):
            desk.answers()
    finally:
        desk.close()
