from __future__ import annotations

import pytest

from handeye.data.xvr.chance import KINDS, PUBLISHED, chance
from handeye.data.xvr.questions import Entry


def entry(answer: str, *, task: str = "t", options: int = 0) -> Entry:
    return Entry(id=answer, task=task, answer=answer, pictures=2, options=options)


def test_offered_answers_count_where_there_are_any() -> None:
    found = chance([entry("1", options=2), entry("3", options=4), entry("1", options=4)])["t"]
    assert found.random == pytest.approx((1 / 2 + 1 / 4 + 1 / 4) / 3)
    assert (found.majority, found.frequent, found.answers, found.offered) == (pytest.approx(2 / 3), "1", 2, 3)


def test_else_the_answers_that_occur_per_task() -> None:
    entries = [entry("1"), entry("2"), entry("2"), entry("5"), entry("red", task="u"), entry("blue", task="u")]
    found = chance(entries)
    assert found["t"].random == pytest.approx(1 / 3) and found["t"].majority == pytest.approx(1 / 2)
    assert found["u"].random == pytest.approx(1 / 2) and found["u"].frequent == "blue"
    mixed = chance([entry("1", options=5), entry("2")])["t"]
    assert mixed.random == pytest.approx((1 / 5 + 1 / 2) / 2) and mixed.offered == 1


def test_what_occurs_may_be_counted_elsewhere() -> None:
    train = [entry(answer) for answer in "1223"]
    found = chance([entry("1"), entry("2")], seen=train)["t"]
    assert found.random == pytest.approx(1 / 3) and found.frequent == "2" and found.majority == pytest.approx(1 / 2)
    assert chance([entry("x", task="new")], seen=train)["new"].random == 1.0


def test_the_published_table_is_consistent() -> None:
    assert PUBLISHED["random"][:8] == tuple(kind.random for kind in KINDS)
    assert all(len(row) == len(KINDS) + 1 for row in PUBLISHED.values())
    known = [kind.task for kind in KINDS if kind.task]
    assert len(set(known)) == len(known) == 6
