"""Worker processes for jobs that depend on no order: one that dies, hangs or raises costs its job another try, no more.

The parent decides what is next only when somebody is free, so that what to do may depend on what came out so far.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from handeye.errors import UserError

Job = TypeVar("Job", bound=Hashable)
Result = TypeVar("Result")

STOP_AFTER = 5
"""Jobs in a row that end as errors before everything stops: something is broken for all of them."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job that raised, or whose worker died or hung, as often as it was tried."""

    error: str


@dataclass(eq=False)
class _Member(Generic[Job]):
    process: BaseProcess
    connection: Connection
    job: Job | None = None
    last: Job | None = None
    since: float = 0.0


@dataclass(kw_only=True)
class Crew(Generic[Job, Result]):
    """`make(setup)` is called once in each worker and returns the function that does a job there."""

    make: Callable[[Any], Callable[[Job], Result]]
    setup: Any
    workers: int
    tries: int
    hang_after: float
    _members: list[_Member[Job]] = field(default_factory=list, init=False)
    _tries: Counter[Job] = field(default_factory=Counter, init=False)
    _again: list[Job] = field(default_factory=list, init=False)
    _failed_in_a_row: int = field(default=0, init=False)

    def run(self, following: Callable[[Job | None], Job | None], done: Callable[[Job, Result | Failed], None]) -> None:
        """`following(last)`: the next job for a worker whose last job is given, None: none at present. `done` hears of
        each job once; what it raises stops the run."""
        try:
            while self._hand_out(following):
                busy = {member.connection: member for member in self._members if member.job is not None}
                for connection in wait(list(busy), timeout=1.0):
                    self._listen(busy[connection], done)  # type: ignore[index]
                for member in [m for m in busy.values() if m.job is not None]:
                    if time.monotonic() - member.since > self.hang_after and not member.connection.poll():
                        self._lost(member, done, f"not done after {self.hang_after:g} s")
        finally:
            self._dismiss()

    def _hand_out(self, following: Callable[[Job | None], Job | None]) -> bool:
        """Give every free worker a job, hire where jobs remain. False: nobody is busy and nothing is left to do."""
        free = [member for member in self._members if member.job is None]
        while free or len(self._members) < self.workers:
            member = free.pop() if free else None
            job = self._again.pop(0) if self._again else following(member.last if member else None)
            if job is None:
                break
            if member is None:
                member = self._hire()
            member.job, member.since = job, time.monotonic()
            self._tries[job] += 1
            with suppress(OSError):  # its death is heard on the same connection
                member.connection.send(job)
        return any(member.job is not None for member in self._members)

    def _hire(self) -> _Member[Job]:
        context = multiprocessing.get_context("spawn")  # fork would copy threads and the GL library
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self.make, self.setup), daemon=True)
        with _interrupts_held():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        self._members.append(_Member(process, ours))
        return self._members[-1]

    def _listen(self, member: _Member[Job], done: Callable[[Job, Result | Failed], None]) -> None:
        try:
            message = member.connection.recv()
        except (EOFError, OSError):
            self._lost(member, done)
            return
        if isinstance(message, UserError):
            raise message
        if isinstance(message, Failed):
            self._failed(member, done, message)
            return
        job, member.job, member.last = member.job, None, member.job
        self._failed_in_a_row = 0
        assert job is not None
        done(job, message)

    def _lost(self, member: _Member[Job], done: Callable[[Job, Result | Failed], None], why: str = "") -> None:
        self._members.remove(member)
        if why:
            member.process.kill()
        member.process.join(10)
        member.connection.close()
        self._failed(member, done, Failed(error=why or f"the worker died (exit code {member.process.exitcode})"))

    def _failed(self, member: _Member[Job], done: Callable[[Job, Result | Failed], None], failure: Failed) -> None:
        job, member.job, member.last = member.job, None, member.job
        assert job is not None
        if self._tries[job] < self.tries:
            self._again.append(job)
            return
        done(job, failure)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= STOP_AFTER:
            raise UserError(
                f"{STOP_AFTER} attempts in a row ended in an error, each after {self.tries} tries.",
                why=failure.error.strip().splitlines()[-1],
                fix="mend that (the whole traceback is in attempts.jsonl), then run the same command again: it goes on",
            )

    def _dismiss(self) -> None:
        for member in self._members:
            member.connection.close()
            member.process.terminate()
        for member in self._members:
            member.process.join(5)
            if member.process.is_alive():
                member.process.kill()
        self._members.clear()


def _work(connection: Connection, make: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
    """A worker's life. It ends when the parent closes the connection, also by dying."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then lets the workers go
    try:
        do: Callable[[Any], Any] | None = None
        while True:
            job = connection.recv()
            answer: object
            try:
                do = do or make(setup)
                answer = do(job)
            except UserError as error:
                answer = error
            except Exception:  # whatever the simulator threw: an error of this job, not the end of the run
                do = None  # start afresh: the simulator may be in any state
                answer = Failed(error=traceback.format_exc())
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the parent is gone: nobody is left to report to


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A child inherits the mask: Ctrl-C while it starts must not end it before it can ignore the signal."""
    resource_tracker.ensure_running()  # it would lift the mask, were it started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
