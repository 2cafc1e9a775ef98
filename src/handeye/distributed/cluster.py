"""The same map as crew.py's on a Ray cluster: workers anywhere, answerers where the GPUs are, and nodes may be lost.

    with connected("10.0.0.1:6379"):
        office = Office(answerer=make_answerer, setup=setup, desks=2, gpus=1.0, batch=16, ...)
        crew = ClusterCrew(make=make, setup=setup, workers=64, office=office, ...)    # else as Crew
        crew.run(following, done)

handeye must be installed on every node, and whatever a worker reads must be there (what a `UserError` of a worker says
stops everything, as it does on one machine). A worker takes one CPU, a desk the GPUs it is given or else one CPU. A job
is given to workers that have started only, so a cluster that is too small runs with those it has room for. A node that
is lost costs its jobs another try; a desk that was there is made again elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic

from handeye.distributed.crew import Make
from handeye.distributed.desk import Answerer, Desk, Use
from handeye.distributed.jobs import Finished, Job, Jobs, Result, Try
from handeye.distributed.processes import held
from handeye.errors import UserError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
try:
    import ray
    from ray.exceptions import RayError
except ImportError as error:
    raise UserError("A cluster needs Ray.", why=str(error), fix="pip install 'handeye[ray]' on every node") from None

STARTING = 300.0
"""Seconds that a cluster may take to start the first worker or a desk, node by node importing what it needs."""

WATCH_EVERY = 1.0
PATIENCE = 10.0
"""Seconds that a worker may take to say how it is."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """To a running cluster: `HOST:PORT` of its head, or `auto` on one of its machines."""
    try:
        if address != "auto":
            _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="handeye")
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"There is no Ray cluster at {address}.",
            why=str(error).strip().splitlines()[0],
            fix="start one with `ray start --head`, join it on other machines with `ray start --address HOST:PORT`, "
            "and give that HOST:PORT here, on one of its machines",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()  # its actors end with the connection, however that ends


def _knock(address: str) -> None:
    """OSError or ValueError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise ValueError("it is not HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10):
        pass


class _DeskActor:
    """Answers questions of workers wherever they are, several at once."""

    def __init__(self, make: Callable[[Any], Answerer], setup: Any, rules: Mapping[str, Any], crowd: int) -> None:
        self._failed: BaseException | str | None = None
        self._answerer: Any = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        try:
            self._answerer = make(setup)
        except UserError as error:
            self._failed = error
        except Exception:
            self._failed = traceback.format_exc()
        most = getattr(self._answerer, "most", None) or rules["batch"]
        self._desk = Desk(answerers=[self._answer], **{**rules, "batch": min(most, rules["batch"])})
        self._desk.open()
        self._desk.expect(crowd)
        self._listening = False

    async def about(self) -> tuple[Any, BaseException | str | None]:
        """What the answerer says of itself; or why there is none."""
        return getattr(self._answerer, "about", None), self._failed

    async def answer(self, question: Any) -> tuple[Any, BaseException | str | None]:
        """(Answer, None), or (None, what the answerer raised)."""
        if self._failed is not None:
            return None, self._failed
        if not self._listening:
            asyncio.get_running_loop().add_reader(self._desk.bell, self._collect)
            self._listening = True
        number, self._count = self._count, self._count + 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._desk.ask(number, question)
        return await future

    async def use(self) -> Use:
        return self._desk.use()

    def _answer(self, questions: Any) -> list[tuple[Any, BaseException | str | None]]:
        try:
            return [(answer, None) for answer in self._answerer(questions)]
        except UserError as error:
            return [(None, error)] * len(questions)
        except Exception:
            return [(None, traceback.format_exc())] * len(questions)

    def _collect(self) -> None:
        for number, answer in self._desk.answers():
            future = self._waiting.pop(number)
            if not future.done():  # its asker may be gone
                future.set_result(answer)


@dataclass(eq=False)
class Office:
    """The desks of a cluster. They are there until the connection ends."""

    answerer: Callable[[Any], Answerer]
    """Called once in each desk's process. What it returns may say something of itself as `about`, and as `most` how
    many questions it can use at once."""

    setup: Any
    desks: int
    gpus: float
    """Of each desk. 0: it takes a CPU instead."""

    batch: int
    wait: float
    crowd: int
    """Workers that a desk has, about: when so many have asked nobody is waited for."""

    alike: Callable[[Any], Hashable]

    def __post_init__(self) -> None:
        needs = {"num_gpus": self.gpus} if self.gpus else {"num_cpus": 1}
        actor: Any = ray.remote(_DeskActor).options(
            max_restarts=100, max_task_retries=-1, max_concurrency=1000, **needs
        )
        rules = {"batch": self.batch, "wait": self.wait, "alike": self.alike}
        self.handles = [actor.remote(self.answerer, self.setup, rules, self.crowd) for _ in range(self.desks)]

    def about(self) -> list[Any]:
        """What each answerer says of itself. UserError where one cannot be made."""
        refs = [handle.about.remote() for handle in self.handles]
        done, late = ray.wait(refs, num_returns=len(refs), timeout=STARTING)
        if late:
            wanted = f"{self.gpus:g} GPU" if self.gpus else "one CPU"
            raise UserError(
                f"{len(late)} of {len(refs)} policies did not start within {STARTING:.0f} s.",
                why=f"each needs {wanted}; the cluster has {_resources()}",
                fix="ask for fewer with --policies, or add machines",
            )
        found = []
        for about, failed in ray.get(done):
            _raise(failed)
            found.append(about)
        return found

    def use(self) -> Use | None:
        """Of all desks together; None while they cannot say."""
        try:
            used = ray.get([handle.use.remote() for handle in self.handles], timeout=WATCH_EVERY)
        except (RayError, TimeoutError):
            return None
        whole = Use(answerers=len(used))
        for one in used:
            for name in ("questions", "batches", "seconds", "waiting"):
                setattr(whole, name, getattr(whole, name) + getattr(one, name))
        return whole


class _DeskFailed(BaseException):
    """The answerer raised, and would do so again."""


class _WorkerActor:
    """Does jobs, one at a time; another thread of it says how it is."""

    def __init__(self, make: Make[Any, Any], setup: Any, desk: Any) -> None:
        self._make, self._setup, self._desk = make, setup, desk
        self._do: Callable[[Any], Any] | None = None
        self._heard = time.monotonic()
        self._asking = False
        self._waited = 0.0

    def ready(self) -> bool:
        return True

    def do(self, job: Any) -> tuple[str, Any, float]:
        """`ended`, `raised` or `refused`; the result, a traceback or an error; seconds that were waited for answers."""
        self._heard, self._waited = time.monotonic(), 0.0
        try:
            self._do = self._do or self._make(self._setup, self._ask)
            return "ended", self._do(job), self._waited
        except UserError as error:
            return "refused", error, self._waited
        except _DeskFailed as failed:
            return "refused", failed.args[0], self._waited
        except Exception:
            self._do = None
            return "raised", traceback.format_exc(), self._waited

    @ray.method(concurrency_group="watch")
    def state(self) -> tuple[float, int]:
        """Seconds of silence (none while it waits for an answer), bytes held."""
        return 0.0 if self._asking else time.monotonic() - self._heard, held(os.getpid()) or 0

    def _ask(self, question: Any) -> Any:
        if self._desk is None:
            raise RuntimeError("a worker asked a question, and there is no desk to answer it")
        before, self._asking = time.monotonic(), True
        answer, failed = ray.get(self._desk.answer.remote(question))
        self._heard, self._asking = time.monotonic(), False
        self._waited += self._heard - before
        if failed is not None:
            raise _DeskFailed(failed)
        return answer


@dataclass(eq=False, kw_only=True)
class _Member(Generic[Job]):
    number: int
    actor: Any
    starting: Any
    """Reference to its first answer; None: it has started."""

    running: Any = None
    job: Job | None = None
    last: Job | None = None
    since: float = 0.0


@dataclass(kw_only=True)
class ClusterCrew(Generic[Job, Result]):
    """See crew.Crew for the fields and the rules, which are the same."""

    make: Make[Job, Result]
    setup: Any
    workers: int
    tries: int
    hang_after: float
    things: str
    log: str
    memory: int | None = None
    office: Office | None = None
    meanwhile: Callable[[], None] | None = None
    _members: list[_Member[Job]] = field(default_factory=list, init=False)
    _hired: int = field(default=0, init=False)
    _watched: float = field(default=0.0, init=False)
    _entered: int = field(default=0, init=False)
    _stillborn: int = field(default=0, init=False)
    """Workers in a row that were gone before they had started."""

    _alive: float = field(default=0.0, init=False)
    """When a worker had last started or done something."""

    def each(self, jobs: Iterable[Job], done: Callable[[Finished[Job, Result]], None]) -> None:
        left = iter(jobs)
        self.run(lambda last: next(left, None), done)

    def run(self, following: Callable[[Job | None], Job | None], done: Callable[[Finished[Job, Result]], None]) -> None:
        jobs = Jobs(following=following, done=done, tries=self.tries, things=self.things, log=self.log)
        self._alive = time.monotonic()
        with self:
            while self._hand_out(jobs):
                self._listen(jobs)
                self._watch(jobs)

    def __enter__(self) -> ClusterCrew[Job, Result]:
        self._entered += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:
            for member in self._members:
                _kill(member)
            self._members.clear()

    def _hand_out(self, jobs: Jobs[Job, Result]) -> bool:
        """A job for everybody who has started and is free. False: nobody is busy and nothing is left to do."""
        while len(self._members) < self.workers:
            self._members.append(self._hire())
        idle = False
        for member in self._members:
            if member.starting is None and member.job is None:
                job = jobs.next(member.last)
                if job is None:
                    idle = True
                    break
                member.job, member.since = job, time.monotonic()
                member.running = member.actor.do.remote(job)
        return not idle or any(member.job is not None for member in self._members)

    def _hire(self) -> _Member[Job]:
        handles = self.office.handles if self.office else [None]
        # `state` has a thread of its own, so jobs always run in the same one: a graphics context belongs to a thread.
        apart: Any = ray.remote(concurrency_groups={"watch": 1})  # type: ignore[call-overload]
        actor = apart(_WorkerActor).options(num_cpus=1, scheduling_strategy="SPREAD", max_restarts=0)
        made = actor.remote(self.make, self.setup, handles[self._hired % len(handles)])
        member = _Member[Job](number=self._hired, actor=made, starting=made.ready.remote())
        self._hired += 1
        return member

    def _listen(self, jobs: Jobs[Job, Result]) -> None:
        """Wait until somebody has started or ended something."""
        expected = {
            (member.running or member.starting): member for member in self._members if member.job or member.starting
        }
        if not expected:
            return
        ready, _ = ray.wait(list(expected), timeout=min(WATCH_EVERY, self.hang_after / 4))
        for ref in ready:
            self._hear(expected[ref], ref, jobs)

    def _hear(self, member: _Member[Job], ref: Any, jobs: Jobs[Job, Result]) -> None:
        try:
            answer = ray.get(ref)
        except RayError as error:
            why = f"the worker is gone: {str(error).strip().splitlines()[0]}"
            self._stillborn += member.starting is not None
            if self._stillborn > 2 * self.workers:
                raise UserError(
                    "The cluster's workers end before they begin.",
                    why=why,
                    fix="install the same handeye on every node; Ray's logs there (/tmp/ray) say more",
                ) from None
            self._lost(member, jobs, why)
            return
        self._alive, self._stillborn = time.monotonic(), 0
        if member.starting is not None:
            member.starting = None
            return
        kind, content, waited = answer
        if kind == "refused":
            _raise(content)
        job, last = self._off(member, waited)
        if kind == "raised":
            jobs.failed(job, content, last)
        else:
            jobs.succeeded(job, content, last)

    def _watch(self, jobs: Jobs[Job, Result]) -> None:
        """Who hangs, who holds too much, and is there anybody at all?"""
        now = time.monotonic()
        if now - self._watched < min(WATCH_EVERY, self.hang_after / 4):
            return
        self._watched = now
        if self.meanwhile is not None:
            self.meanwhile()
        if all(member.starting is not None for member in self._members) and now - self._alive > STARTING:
            raise UserError(
                f"The cluster started no worker within {STARTING:.0f} s.",
                why=f"each needs one CPU; the cluster has {_resources()}",
                fix="add machines, or ask for fewer policies that take CPUs",
            )
        asked = {member.actor.state.remote(): member for member in self._members if member.job is not None}
        done, late = ray.wait(list(asked), num_returns=len(asked), timeout=PATIENCE) if asked else ([], [])
        for ref in done:
            member = asked[ref]
            with suppress(RayError):  # its death is heard from the job
                silent, holds = ray.get(ref)
                if silent > self.hang_after:
                    self._lost(member, jobs, f"no sign from the worker for {silent:.0f} s")
                elif self.memory is not None and holds > 2 * self.memory:
                    bound = f"twice the bound of {self.memory / 1e9:.2f} GB"
                    self._lost(member, jobs, f"the worker held {holds / 1e9:.2f} GB, more than {bound}")
        for ref in late:
            if now - asked[ref].since > self.hang_after:
                self._lost(asked[ref], jobs, f"the worker did not say how it is within {PATIENCE:.0f} s")

    def _lost(self, member: _Member[Job], jobs: Jobs[Job, Result], why: str) -> None:
        self._members.remove(member)
        _kill(member)
        if member.job is not None:
            job, last = self._off(member, 0.0)
            jobs.failed(job, why, last)

    @staticmethod
    def _off(member: _Member[Job], waited: float) -> tuple[Job, Try]:
        job, member.job, member.last, member.running = member.job, None, member.job, None
        assert job is not None
        return job, Try(worker=member.number, seconds=time.monotonic() - member.since, waited=waited)


def _kill(member: _Member[Any]) -> None:
    with suppress(RayError):
        ray.kill(member.actor)


def _raise(failed: BaseException | str | None) -> None:
    if isinstance(failed, BaseException):
        raise failed
    if failed is not None:
        raise RuntimeError(f"on the cluster:\n{failed}")


def count(resource: str) -> int:
    """Of the whole cluster: `CPU` or `GPU`."""
    return int(ray.cluster_resources().get(resource, 0))


def _resources() -> str:
    found: Mapping[str, float] = ray.cluster_resources()
    return f"{found.get('CPU', 0):g} CPUs, {found.get('GPU', 0):g} GPUs on {len(ray.nodes())} nodes"
