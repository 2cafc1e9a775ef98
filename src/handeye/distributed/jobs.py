"""What is to be done, what came of it, and what is tried again: the rules that every kind of worker obeys.

They know no processes. `crew.py` applies them to processes of this machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from handeye.errors import UserError

Job = TypeVar("Job", bound=Hashable)
Result = TypeVar("Result")

STOP_AFTER = 5
"""Jobs in a row that end as errors before everything stops: something is broken for all of them."""


@dataclass(frozen=True, kw_only=True)
class Try:
    """One worker's go at a job."""

    worker: int
    """Its number, counted from 0 as they are hired."""

    seconds: float
    """From being handed the job."""

    waited: float
    """Seconds of them spent waiting for answers."""


@dataclass(frozen=True, kw_only=True)
class Finished(Generic[Job, Result]):
    """A job that came to an end, one way or the other."""

    job: Job
    result: Result | None
    """None after an error."""

    error: str | None
    """Traceback, or how the worker was lost, in the last of its tries. None: there is a result."""

    tries: int
    last: Try
    """The one that this came of."""


@dataclass(kw_only=True)
class Jobs(Generic[Job, Result]):
    """Hands jobs out, and each job's end over once."""

    following: Callable[[Job | None], Job | None]
    """The next job for a worker whose last one is given (None: it is new). None: none at present; it is asked again
    when a job has ended."""

    done: Callable[[Finished[Job, Result]], None]
    """Hears of each job once. What it raises stops everything."""

    tries: int
    things: str
    """What jobs are called in a message, in the plural."""

    log: str
    """Where a user finds the traceback."""

    _tries: Counter[Job] = field(default_factory=Counter, init=False)
    _again: list[Job] = field(default_factory=list, init=False)
    _errors_in_a_row: int = field(default=0, init=False)

    def next(self, last: Job | None) -> Job | None:
        """What has to be tried again comes first."""
        job = self._again.pop(0) if self._again else self.following(last)
        if job is not None:
            self._tries[job] += 1
        return job

    def succeeded(self, job: Job, result: Result, last: Try) -> None:
        self._errors_in_a_row = 0
        self.done(Finished(job=job, result=result, error=None, tries=self._tries.pop(job), last=last))

    def failed(self, job: Job, error: str, last: Try) -> None:
        """Another try while there are any left; then an error, and after several of them in a row a stop."""
        if self._tries[job] < self.tries:
            self._again.append(job)
            return
        tries = self._tries.pop(job)
        self.done(Finished(job=job, result=None, error=error, tries=tries, last=last))
        self._errors_in_a_row += 1
        if self._errors_in_a_row >= STOP_AFTER:
            raise UserError(
                f"{STOP_AFTER} {self.things} in a row ended in an error, each after {tries} tries.",
                why=error.strip().splitlines()[-1],
                fix=f"mend that (the whole traceback is in {self.log}), then run the same command again: it goes on",
            )
