"""Processes that make things ahead: what was asked for comes in order, and each process is never more than one ahead.

    ahead = Ahead(make, workers=4, room=bytes_of_one)
    for job in jobs[:4]: ahead.ask(job)
    made = ahead.next()                    # of the job that was asked for first

`make` and the jobs can be pickled. What it makes comes through shared memory. What it raises is raised by `next`: a
UserError as it was, anything else with its traceback. A process that is lost (killed, out of memory) is replaced, and
its job done again. They end with their parent, however that ends.
"""

from __future__ import annotations

import traceback
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from handeye import console
from handeye.distributed.line import HangUp, Line, pair
from handeye.distributed.processes import begin, end, last_words
from handeye.errors import UserError

Job = TypeVar("Job")
Made = TypeVar("Made")

TRIES = 3
"""Processes that may be lost over one job."""

PATIENCE = 60.0
"""Seconds after which a wait is worth a word."""


@dataclass(frozen=True)
class _Done:
    content: Any


@dataclass(frozen=True)
class _Failed:
    error: UserError | str
    """Or a traceback."""


@dataclass(eq=False)
class _Maker(Generic[Job]):
    process: BaseProcess
    line: Line
    job: Job | None = None
    tries: int = 0


class Ahead(Generic[Job, Made]):
    def __init__(self, make: Callable[[Job], Made], workers: int, *, room: int) -> None:
        """`room`: bytes of the largest thing made; what is larger comes too, only slower."""
        self._make, self._room = make, room
        self._makers: list[_Maker[Job]] = []
        self._waiting: deque[_Maker[Job]] = deque()
        self._free: deque[_Maker[Job]] = deque()
        self._ended = weakref.finalize(self, _end, self._makers)
        for number in range(workers):
            process, line = self._hire(number)
            self._makers.append(_Maker(process, line))
        self._free.extend(self._makers)

    def ask(self, job: Job) -> None:
        """One job for each process at a time: no more of them than were not yet taken by `next`."""
        maker = self._free.popleft()
        maker.job, maker.tries = job, 0
        self._waiting.append(maker)
        with suppress(HangUp):  # heard by `next`
            maker.line.send(job)

    def next(self) -> Made:
        maker = self._waiting[0]
        while True:
            try:
                answer = self._answer(maker)
                break
            except HangUp:
                self._replace(maker)
        self._waiting.popleft()
        self._free.append(maker)
        if isinstance(answer, _Done):
            made: Made = answer.content
            return made
        if isinstance(answer.error, UserError):
            raise answer.error
        raise RuntimeError(f"a loader process failed:\n{answer.error}")

    def close(self) -> None:
        self._ended()

    def _hire(self, number: int) -> tuple[BaseProcess, Line]:
        ours, theirs = pair(size=self._room)
        return begin(_work, theirs, self._make, name=f"handeye-loader-{number}"), ours

    def _answer(self, maker: _Maker[Job]) -> Any:
        waited = 0.0
        while not wait([maker.line], PATIENCE):  # type: ignore[list-item]
            waited += PATIENCE
            console.warn(f"waiting for a batch for {waited:.0f} s (process {maker.process.pid})")
        return maker.line.receive()

    def _replace(self, maker: _Maker[Job]) -> None:
        """The same job in a new process."""
        maker.process.kill()
        maker.process.join(10)
        why = last_words(maker.process.exitcode)
        maker.line.close()
        maker.tries += 1
        if maker.tries >= TRIES:
            raise UserError(
                f"A loader process was lost {TRIES} times over the same batch.",
                why=why,
                fix="use fewer --loader-workers or a smaller batch if memory is short; 0 makes batches in this process",
            )
        console.warn(f"a loader process was lost ({why}); its batch is made again")
        number = self._makers.index(maker)
        maker.process, maker.line = self._hire(number)
        with suppress(HangUp):
            maker.line.send(maker.job)


def _end(makers: list[_Maker[Any]]) -> None:
    for maker in makers:
        maker.line.close()
    end(maker.process for maker in makers)


def _work(line: Line, make: Callable[[Any], Any]) -> None:
    """A process's life."""
    with suppress(HangUp):
        while True:
            job = line.receive()
            answer: _Done | _Failed
            try:
                answer = _Done(make(job))
            except UserError as error:
                answer = _Failed(error)
            except Exception:
                answer = _Failed(traceback.format_exc())
            line.send(answer)
