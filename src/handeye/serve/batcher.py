"""One thread that owns a policy and answers questions together, whoever asked them.

A batch begins with the first question and takes what comes until it is full, its time is up, or everybody who could ask
has asked. A question that spoils a batch is answered alone, so its asker gets the error and nobody else does.

The rule is that of handeye.distributed.desk; the code is not shared, for there one thread owns all askers, each has one
question that waits in a file descriptor's loop, and an error ends the run, while here askers come and go on an event
loop, ask several things at once, take questions back, and each gets its own error.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from handeye.types import ActionChunk, Observation

Act = Callable[[Sequence[Observation]], list[ActionChunk]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    chunk: ActionChunk
    seconds: float
    """That the policy took for the whole batch."""

    batch: int
    """How many were answered together."""


@dataclass(frozen=True, kw_only=True)
class _Question:
    observation: Observation
    answer: Future[Answer] = field(default_factory=Future)


class Batcher:
    """Ask from any thread; `act` is only ever called from one, never twice at the same time."""

    def __init__(
        self,
        act: Act,
        *,
        batch: int,
        wait: float,
        askers: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`batch`: at most so many observations at once. `wait`: seconds after the first. `askers`: how many could ask
        at this moment, each once; waiting for more than all of them is in vain."""
        self._act, self._batch, self._wait, self._askers, self._clock = act, batch, wait, askers, clock
        self._asked: queue.SimpleQueue[list[_Question] | None] = queue.SimpleQueue()
        self._left: deque[_Question] = deque()
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)  # a stuck model must not keep us
        self._thread.start()

    def ask(self, observations: Sequence[Observation]) -> list[Future[Answer]]:
        """One future per observation. Those that are cancelled before their batch begins are never computed."""
        questions = [_Question(observation=observation) for observation in observations]
        self._asked.put(questions)
        return [question.answer for question in questions]

    @property
    def waiting(self) -> int:
        """About how many askers wait for a batch to begin."""
        return self._asked.qsize()

    def close(self, timeout: float) -> bool:
        """Answer what was asked before, then end. False: the policy did not come back in time."""
        self._asked.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        closing = False
        while not closing or self._left:
            closing = self._gather() or closing
            batch = [self._left.popleft() for _ in range(min(self._batch, len(self._left)))]
            wanted = [question for question in batch if question.answer.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _gather(self) -> bool:
        """Until a batch is there. True: nobody will ask any more."""
        asked, deadline = 1, None  # what is left over from a large question belongs to one asker
        if not self._left:
            first = self._asked.get()
            if first is None:
                return True
            self._left.extend(first)
        while len(self._left) < self._batch:
            try:
                more = self._asked.get_nowait()
            except queue.Empty:
                deadline = deadline or time.monotonic() + self._wait
                if self._askers is not None and asked >= self._askers():
                    return False
                try:
                    more = self._asked.get(timeout=max(0.0, deadline - time.monotonic()))
                except queue.Empty:
                    return False
            if more is None:
                return True
            self._left.extend(more)
            asked += 1
        return False

    def _answer(self, questions: list[_Question]) -> None:
        begun = self._clock()
        try:
            chunks = self._act([question.observation for question in questions])
            if len(chunks) != len(questions):
                raise RuntimeError(f"the policy gave {len(chunks)} answers to {len(questions)} questions")
        except BaseException as error:  # whatever it is, this thread must live on
            if len(questions) > 1:
                for question in questions:
                    self._answer([question])
            else:
                questions[0].answer.set_exception(_harmless(error))
            return
        seconds = self._clock() - begun
        for question, chunk in zip(questions, chunks, strict=True):
            question.answer.set_result(Answer(chunk=chunk, seconds=seconds, batch=len(questions)))


def _harmless(error: BaseException) -> Exception:
    """What would end an event loop instead of a question (SystemExit, StopIteration, ...) arrives as a RuntimeError."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError(f"the policy raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
