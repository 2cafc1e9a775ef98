"""Worker processes on this machine, for jobs that depend on no order.

    def make(setup, ask):                      # a module's function: it is imported in each worker, and called once
        def do(job): ...                       # may call ask(question), which the parent answers
        return do

    crew = Crew(make=make, setup=setup, workers=8, tries=3, hang_after=300.0, things="files", log="log.jsonl")
    crew.run(following, done)                  # jobs.py says what these are
    crew.each(jobs, done)                      # the same for a list of jobs
    with crew: ...                             # keeps the workers from one run to the next

A job is anything hashable that can be pickled; a setup, a question, an answer and a result are anything that can be
pickled. The parent decides what is next only when somebody is free, so that may depend on what came out so far.

A worker that dies, hangs (says nothing for `hang_after` seconds), holds too much memory or raises costs its job
another try, and no more than `tries` of them; then the job is handed over as an error with its traceback. After an
exception the worker calls `make` again: nothing of what it had built is trusted. A `UserError` stops everything, and
so do five errors in a row and whatever `done`, `following` or an answerer raises. Ctrl-C reaches the parent only.
However the parent ends, SIGKILL included, its workers end too.

Large arrays in questions and results travel through shared memory (line.py). Questions are answered at a `Desk`
(desk.py), several at once.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic

from handeye.distributed.desk import Desk
from handeye.distributed.jobs import Finished, Job, Jobs, Result, Try
from handeye.distributed.line import HangUp, Line, pair
from handeye.distributed.processes import begin, end, held, last_words
from handeye.errors import UserError

Ask = Callable[[Any], Any]
Make = Callable[[Any, Ask], Callable[[Job], Result]]

STARTING = 60.0
"""Seconds that a worker may take to import what it needs, on a busy machine, before its silence counts."""

WATCH_EVERY = 1.0
"""Seconds between two looks at who is silent and who holds how much."""


@dataclass(frozen=True)
class Ready:
    """Worker to parent, once: imported and listening. Before it, silence is only a slow start."""


@dataclass(frozen=True)
class Question:
    content: Any


@dataclass(frozen=True)
class Ended:
    """Worker to parent: the job is done."""

    content: Any


@dataclass(frozen=True)
class Raised:
    """Worker to parent: the job raised, and `make` will be called again for the next one."""

    traceback: str


@dataclass(frozen=True)
class Refused:
    """Worker to parent: this cannot work for any job until the user mends something."""

    error: UserError


@dataclass(eq=False, kw_only=True)
class _Member(Generic[Job]):
    """A process, and what it is busy with."""

    number: int
    process: BaseProcess
    line: Line
    heard: float
    """When it last said something or was given something to do; a newcomer gets the time it may take to start."""

    job: Job | None = None
    last: Job | None = None
    since: float = 0.0
    asked: float | None = None
    """When it asked the question that it waits with."""

    waited: float = 0.0


@dataclass(kw_only=True)
class Crew(Generic[Job, Result]):
    """Some workers. `run` hires them as there are jobs for them, and lets them go in the end."""

    make: Make[Job, Result]
    setup: Any
    workers: int
    tries: int
    hang_after: float
    things: str
    """What jobs are called in a message, in the plural."""

    log: str
    """Where a user finds the traceback of a job that ended in an error."""

    memory: int | None = None
    """Bytes. A worker that holds more after a job is replaced, which costs nothing; one that holds twice as much during
    a job is killed, and the job tried again. None, and outside Linux: no bound."""

    desk: Desk | None = None
    """Answers what `ask` asks; without one nobody may ask."""

    meanwhile: Callable[[], None] | None = None
    """Called about once a second while the workers are at it."""

    _members: list[_Member[Job]] = field(default_factory=list, init=False)
    _hired: int = field(default=0, init=False)
    _entered: int = field(default=0, init=False)
    _watched: float = field(default=0.0, init=False)

    def each(self, jobs: Iterable[Job], done: Callable[[Finished[Job, Result]], None]) -> None:
        """In this order, as far as there is any."""
        left = iter(jobs)
        self.run(lambda last: next(left, None), done)

    def run(self, following: Callable[[Job | None], Job | None], done: Callable[[Finished[Job, Result]], None]) -> None:
        jobs = Jobs(following=following, done=done, tries=self.tries, things=self.things, log=self.log)
        with self:
            while self._hand_out(jobs):
                self._listen(jobs)
                self._watch(jobs)

    def __enter__(self) -> Crew[Job, Result]:
        """In a `with` block the workers stay from one `run` to the next."""
        self._entered += 1
        if self._entered == 1 and self.desk is not None:
            self.desk.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:
            members, self._members = self._members, []
            _let_go(members)
            if self.desk is not None:
                self.desk.close()

    def _hand_out(self, jobs: Jobs[Job, Result]) -> bool:
        """Give every free worker a job, hire where jobs remain. False: nobody is busy and nothing is left to do."""
        free = [member for member in self._members if member.job is None]
        while free or len(self._members) < self.workers:
            member = free.pop(0) if free else None
            job = jobs.next(member.last if member else None)
            if job is None:
                break
            if member is None:
                member = self._hire()
            member.job, member.since, member.waited = job, time.monotonic(), 0.0
            self._give(member, job)
        busy = sum(member.job is not None for member in self._members)
        if self.desk is not None:
            self.desk.expect(busy)
        return busy > 0

    def _hire(self) -> _Member[Job]:
        ours, theirs = pair()
        process = begin(_work, theirs, self.make, self.setup, name=f"handeye-worker-{self._hired}")
        member = _Member[Job](number=self._hired, process=process, line=ours, heard=time.monotonic() + STARTING)
        self._hired += 1
        self._members.append(member)
        return member

    def _give(self, member: _Member[Job], what: object) -> None:
        member.heard = max(member.heard, time.monotonic())
        with suppress(HangUp):  # its death is heard on the same line
            member.line.send(what)

    def _listen(self, jobs: Jobs[Job, Result]) -> None:
        """Wait until somebody says something, and deal with all that was said."""
        busy = {member.line.fileno(): member for member in self._members if member.job is not None}
        bell = [self.desk.bell] if self.desk is not None else []
        for ready in wait([*busy, *bell], timeout=min(WATCH_EVERY, self.hang_after / 4)):
            if ready in busy:
                self._hear(busy[ready], jobs)
            else:
                self._answer()

    def _hear(self, member: _Member[Job], jobs: Jobs[Job, Result]) -> None:
        try:
            message = member.line.receive()
        except HangUp:
            self._lost(member, jobs)
            return
        member.heard = time.monotonic()
        match message:
            case Ready():
                pass
            case Question(content):
                if self.desk is None:
                    raise RuntimeError("a worker asked a question, and there is no desk to answer it")
                member.asked = member.heard
                self.desk.ask(member.number, content)
            case Refused(error):
                raise error
            case Raised(text):
                jobs.failed(*_off(member, text))
            case Ended(content):
                jobs.succeeded(*_off(member, content))
                if self.memory is not None and (held(member.process.pid) or 0) > self.memory:
                    self._members.remove(member)
                    _let_go([member])

    def _answer(self) -> None:
        assert self.desk is not None
        waiting = {member.number: member for member in self._members}
        for number, answer in self.desk.answers():
            member = waiting.get(number)
            if member is not None and member.asked is not None:  # else it was lost meanwhile
                member.waited += time.monotonic() - member.asked
                member.asked = None
                self._give(member, answer)

    def _watch(self, jobs: Jobs[Job, Result]) -> None:
        """Who hangs, who holds too much? A message that waits to be read is a sign of life: the parent may be late."""
        now = time.monotonic()
        if now - self._watched < min(WATCH_EVERY, self.hang_after / 4):
            return
        self._watched = now
        if self.meanwhile is not None:
            self.meanwhile()
        for member in [member for member in self._members if member.job is not None]:
            silent = now - member.heard
            if silent > self.hang_after and member.asked is None and not member.line.waiting():
                self._lost(member, jobs, f"no sign from the worker for {silent:.0f} s")
            elif self.memory is not None and (holds := held(member.process.pid) or 0) > 2 * self.memory:
                bound = f"twice the bound of {self.memory / 1e9:.2f} GB"
                self._lost(member, jobs, f"the worker held {holds / 1e9:.2f} GB, more than {bound}")

    def _lost(self, member: _Member[Job], jobs: Jobs[Job, Result], why: str = "") -> None:
        """The worker is gone, or as good as gone."""
        self._members.remove(member)
        if self.desk is not None:
            self.desk.drop(member.number)
        if why:
            member.process.kill()
        member.process.join(10)
        why = why or f"the worker is gone: {last_words(member.process.exitcode)}"
        member.line.close()
        if member.job is not None:
            jobs.failed(*_off(member, why))


def _off(member: _Member[Job], came: Any) -> tuple[Job, Any, Try]:
    """It has nothing to do now. What it did, what came of it, and how long that took."""
    job, member.job, member.last = member.job, None, member.job
    assert job is not None
    seconds = time.monotonic() - member.since
    return job, came, Try(worker=member.number, seconds=seconds, waited=member.waited)


def _let_go(members: list[_Member[Any]]) -> None:
    for member in members:
        member.line.close()
    end(member.process for member in members)


def _work(line: Line, make: Make[Any, Any], setup: Any) -> None:
    """A worker's life."""

    def ask(question: Any) -> Any:
        line.send(Question(question))
        return line.receive()

    do: Callable[[Any], Any] | None = None
    try:
        line.send(Ready())
        while True:
            job = line.receive()
            answer: object
            try:
                do = do or make(setup, ask)
                answer = Ended(do(job))
            except UserError as error:
                answer = Refused(error)
            except Exception:  # whatever the job threw: its own error, not the end of everything
                do = None  # start afresh: what was built may be in any state
                answer = Raised(traceback.format_exc())
            try:
                line.send(answer)
            except Exception:  # a result that cannot be pickled
                line.send(Raised(traceback.format_exc()))
    except HangUp:
        sys.stdout.flush()
        os._exit(0)  # the parent is gone, or wants us to go: nobody is left to report to
