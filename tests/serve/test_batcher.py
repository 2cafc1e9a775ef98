"""Questions are answered together, each asker gets their own answer, and one bad question costs nobody else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager

import numpy as np
import pytest

from handeye.serve.batcher import Batcher
from handeye.types import ActionChunk, Observation

LIMIT = 10.0


def observation(seed: int) -> Observation:
    return Observation(images={}, proprio=np.zeros(8, np.float32), prompt="x", seed=seed)


class Echo:
    """Answers with the seed. Seeds above 1000 raise. Stops at the gate while it is closed."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        self.batches.append([seen.seed for seen in observations])
        assert self.gate.wait(LIMIT)
        if bad := [seen.seed for seen in observations if seen.seed > 1000]:
            raise KeyError(bad[0])
        return [ActionChunk(actions=np.full((1, 7), seen.seed, np.float32)) for seen in observations]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def batcher(echo: Echo) -> Iterator[Callable[..., Batcher]]:
    made: list[Batcher] = []

    def make(**flags: object) -> Batcher:
        made.append(Batcher(echo.act, **({"batch": 4, "wait": 0.05} | flags)))  # type: ignore[arg-type]
        return made[-1]

    yield make
    echo.gate.set()
    for one in made:
        assert one.close(LIMIT)


@contextmanager
def busy(echo: Echo, batcher: Batcher) -> Iterator[None]:
    """The policy is at work on one question while the block asks others."""
    echo.gate.clear()
    [first] = batcher.ask([observation(999)])
    while not echo.batches:
        time.sleep(0.001)
    yield
    echo.gate.set()
    first.result(LIMIT)


def seeds(futures: Sequence[object]) -> list[int]:
    return [int(future.result(LIMIT).chunk.actions[0, 0]) for future in futures]  # type: ignore[attr-defined]


def test_those_who_wait_are_answered_together_in_order(echo: Echo, batcher: Callable[..., Batcher]) -> None:
    asked = batcher()
    with busy(echo, asked):
        futures = [asked.ask([observation(seed)])[0] for seed in range(10)]
    assert seeds(futures) == list(range(10))
    assert echo.batches == [[999], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert futures[0].result().batch == 4


def test_a_question_of_many_observations_stays_together(echo: Echo, batcher: Callable[..., Batcher]) -> None:
    asked = batcher()
    with busy(echo, asked):
        six, two = asked.ask([observation(s) for s in range(6)]), asked.ask([observation(s) for s in (10, 11)])
    assert seeds(six) + seeds(two) == [0, 1, 2, 3, 4, 5, 10, 11]
    assert echo.batches == [[999], [0, 1, 2, 3], [4, 5, 10, 11]]


def test_a_batch_waits_for_others_but_not_for_ever(echo: Echo, batcher: Callable[..., Batcher]) -> None:
    asked = batcher(wait=0.2)
    begun = time.monotonic()
    first = asked.ask([observation(1)])
    second = asked.ask([observation(2)])
    assert seeds(first) + seeds(second) == [1, 2]
    assert time.monotonic() - begun >= 0.19
    assert echo.batches == [[1, 2]]


def test_nobody_waits_when_everybody_has_asked(echo: Echo, batcher: Callable[..., Batcher]) -> None:
    asked = batcher(wait=LIMIT, askers=lambda: 2)
    begun = time.monotonic()
    futures = [asked.ask([observation(seed)])[0] for seed in (1, 2)]
    assert seeds(futures) == [1, 2]
    assert time.monotonic() - begun < LIMIT / 2


def test_one_bad_question_costs_its_asker_only(echo: Echo, batcher: Callable[..., Batcher]) -> None:
    asked = batcher()
    with busy(echo, asked):
        good, bad, other = (asked.ask([observation(seed)])[0] for seed in (1, 2000, 3))
    assert seeds([good, other]) == [1, 3]
    with pytest.raises(KeyError, match="2000"):
        bad.result(LIMIT)
    assert seeds(asked.ask([observation(5)])) == [5]


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), StopIteration(), MemoryError()])
def test_the_thread_outlives_whatever_a_policy_raises(raised: BaseException) -> None:
    def act(observations: Sequence[Observation]) -> list[ActionChunk]:
        raise raised

    batcher = Batcher(act, batch=1, wait=0.0)
    for _ in range(2):
        with pytest.raises((RuntimeError, MemoryError)):
            batcher.ask([observation(0)])[0].result(LIMIT)
    assert batcher.close(LIMIT)


def test_too_few_answers_are_an_error() -> None:
    batcher = Batcher(lambda observations: [], batch=2, wait=0.0)
    with pytest.raises(RuntimeError, match="0 answers to 1"):
        batcher.ask([observation(0)])[0].result(LIMIT)
    assert batcher.close(LIMIT)


def test_who_has_gone_is_not_computed(echo: Echo, batcher: Callable[..., Batcher]) -> None:
    asked = batcher()
    with busy(echo, asked):
        gone, stays = (asked.ask([observation(seed)])[0] for seed in (1, 2))
        assert gone.cancel()
    assert seeds([stays]) == [2]
    with pytest.raises(CancelledError):
        gone.result(LIMIT)
    assert echo.batches == [[999], [2]]


def test_closing_answers_what_was_asked(echo: Echo) -> None:
    batcher = Batcher(echo.act, batch=2, wait=0.05)
    with busy(echo, batcher):
        futures = [batcher.ask([observation(seed)])[0] for seed in range(5)]
        assert not batcher.close(0.01), "the policy is still at work"
    assert seeds(futures) == [0, 1, 2, 3, 4]
    assert batcher.close(LIMIT)
