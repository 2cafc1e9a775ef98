"""Who runs what next. The parent owns the policy and answers its workers' questions one by one; a worker that dies,
hangs or raises costs a re-run of its episode, never a finished one and never a failure of the policy."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np
from jaxtyping import Float32

from handeye.errors import UserError
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.worker import Alive, Ended, Message, Question, Refused, WorkerConfig, work
from handeye.types import EpisodeId, Observation, Policy

STARTING = 60.0
"""Seconds that a worker may take to import what it needs, on a busy machine, before its silence counts."""

STOP_AFTER = 5
"""Episodes in a row that end as errors before the run stops: something is broken for all of them."""


@dataclass(eq=False)
class Worker:
    """A process, and what it is busy with."""

    number: int
    process: BaseProcess
    connection: Connection
    episode: EpisodeId | None = None
    task: int | None = None
    """Of the environment it has built; kept between episodes."""

    heard: float = 0.0
    """When it last said something or was given something to do; a newcomer gets the time it may take to start."""

    started: float = 0.0
    policy_seconds: float = 0.0


@dataclass(kw_only=True)
class Scheduler:
    """Runs episodes, in no particular order, and hands each result over once."""

    config: WorkerConfig
    policy: Policy | None
    """None: the expert, in the workers."""

    workers: int
    attempts: int
    hang_after: float
    done: Callable[[EpisodeResult], None]
    """Called with each episode's result. What it raises stops the run."""

    _pending: list[EpisodeId] = field(default_factory=list, init=False)
    _tries: Counter[str] = field(default_factory=Counter, init=False)
    _crew: list[Worker] = field(default_factory=list, init=False)
    _hired: int = field(default=0, init=False)
    _errors_in_a_row: int = field(default=0, init=False)

    def run(self, episodes: Sequence[EpisodeId]) -> None:
        self._pending = list(episodes)
        try:
            while self._pending or any(worker.episode for worker in self._crew):
                self._hand_out()
                busy = {worker.connection: worker for worker in self._crew if worker.episode}
                for connection in wait(list(busy), timeout=min(1.0, self.hang_after / 4)):
                    self._listen(busy[connection])  # type: ignore[index]
                self._look_for_the_hung()
        finally:
            self._dismiss()

    def _hand_out(self) -> None:
        busy = sum(worker.episode is not None for worker in self._crew)
        while len(self._crew) < min(self.workers, busy + len(self._pending)):
            self._crew.append(self._hire())
        for worker in list(self._crew):
            if worker.episode is None and self._pending:
                episode = self._pending.pop(self._best_for(worker))
                worker.episode, worker.task = episode, episode.task
                worker.started, worker.policy_seconds = time.monotonic(), 0.0
                self._tries[episode.key] += 1
                if self.policy is not None:
                    self.policy.reset([episode])
                self._give(worker, episode)

    def _best_for(self, worker: Worker) -> int:
        """Of its own task if any are left (building an environment takes long), else of the task fewest work on."""
        crowd = Counter(other.task for other in self._crew if other is not worker and other.episode)
        return min(
            range(len(self._pending)),
            key=lambda i: (self._pending[i].task != worker.task, crowd[self._pending[i].task]),
        )

    def _hire(self) -> Worker:
        context = multiprocessing.get_context("spawn")  # fork would copy the policy's threads and the GL library
        ours, theirs = context.Pipe()
        number, self._hired = self._hired, self._hired + 1
        process = context.Process(target=work, args=(theirs, self.config), name=f"handeye-worker-{number}", daemon=True)
        with _interrupts_held():
            process.start()
        theirs.close()  # so that the worker's death closes the pipe
        return Worker(number=number, process=process, connection=ours, heard=time.monotonic() + STARTING)

    def _give(self, worker: Worker, what: EpisodeId | Float32[np.ndarray, "T A"]) -> None:
        worker.heard = max(worker.heard, time.monotonic())
        try:
            worker.connection.send(what)
        except OSError:
            self._lost(worker)

    def _listen(self, worker: Worker) -> None:
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            self._lost(worker)
            return
        worker.heard = time.monotonic()
        if isinstance(message, Alive):
            return
        if isinstance(message, Question):
            self._give(worker, self._ask(worker, message.observation))
        elif isinstance(message, Refused):
            raise message.error
        else:
            self._end(worker, message)

    def _ask(self, worker: Worker, observation: Observation) -> Float32[np.ndarray, "T A"]:
        """One at a time: no answer depends on who else asks."""
        assert self.policy is not None
        before = time.monotonic()
        [chunk] = self.policy.act([observation])
        worker.policy_seconds += time.monotonic() - before
        wanted = self.config.protocol.replan_steps
        if wanted != "chunk" and len(chunk.actions) < wanted:
            raise UserError(
                f"The policy answers with {len(chunk.actions)} actions.",
                why=f"protocol {self.config.protocol.name} executes {wanted} of each answer",
                fix="use a protocol that replans more often, or handeye-2026, which executes what there is",
            )
        return chunk.actions

    def _look_for_the_hung(self) -> None:
        for worker in list(self._crew):
            silent = time.monotonic() - worker.heard
            # A message that waits to be read is a sign of life: the parent may have been busy with the policy.
            if worker.episode and silent > self.hang_after and not worker.connection.poll():
                self._lost(worker, f"no sign from the worker for {silent:.0f} s")

    def _end(self, worker: Worker, ended: Ended) -> None:
        episode = worker.episode
        assert episode is not None
        worker.episode = None
        if ended.rollout is None:
            assert ended.error is not None
            self._failed(worker, episode, ended.error)
            return
        self._errors_in_a_row = 0
        rollout = ended.rollout
        self.done(
            EpisodeResult(
                episode=episode,
                outcome="success" if rollout.success else "failure",
                steps=rollout.steps,
                questions=rollout.questions,
                unstable=rollout.unstable,
                hashes=rollout.hashes,
                error=None,
                timing=self._timing(worker, episode),
            )
        )

    def _lost(self, worker: Worker, why: str = "") -> None:
        """The worker is gone, or as good as gone."""
        self._crew.remove(worker)
        if why:
            worker.process.kill()
        worker.process.join(10)
        worker.connection.close()
        if worker.episode is not None:
            self._failed(worker, worker.episode, why or _last_words(worker.process.exitcode))

    def _failed(self, worker: Worker, episode: EpisodeId, why: str) -> None:
        if self._tries[episode.key] < self.attempts:
            self._pending.append(episode)
            return
        self.done(
            EpisodeResult(
                episode=episode,
                outcome="error",
                steps=0,
                questions=0,
                unstable=0,
                hashes={},
                error=why,
                timing=self._timing(worker, episode),
            )
        )
        self._errors_in_a_row += 1
        if self._errors_in_a_row >= STOP_AFTER:
            raise UserError(
                f"{STOP_AFTER} episodes in a row ended in an error, each after {self.attempts} attempts.",
                why=why.strip().splitlines()[-1],
                fix="mend that (the whole traceback is in episodes.jsonl), then run the same command again: it goes on",
            )

    def _timing(self, worker: Worker, episode: EpisodeId) -> dict[str, float | int]:
        return {
            "seconds": round(time.monotonic() - worker.started, 3),
            "policy_seconds": round(worker.policy_seconds, 3),
            "worker": worker.number,
            "tries": self._tries[episode.key],
        }

    def _dismiss(self) -> None:
        for worker in self._crew:
            worker.connection.close()
            worker.process.terminate()
        for worker in self._crew:
            worker.process.join(5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._crew.clear()


def _last_words(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the worker was killed by {signal.Signals(-exit_code).name} (out of memory, or a crash in a library)"
    return f"the worker ended with exit code {exit_code}"


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """A process started here never sees Ctrl-C, not even before its first line; ours arrives afterwards."""
    resource_tracker.ensure_running()  # it would lift the mask, were it started inside
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
