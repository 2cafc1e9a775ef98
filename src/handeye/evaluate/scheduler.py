"""Which episode is next, who answers its questions, and what became of it.

The processes and their mishaps are `distributed.crew`'s. A policy sits in this process and is asked in batches
(`distributed.desk`); whatever it raises stops the run, since it would do so again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float32

from handeye.distributed.crew import Crew
from handeye.distributed.desk import Desk, Use
from handeye.distributed.jobs import Finished
from handeye.evaluate.results import EPISODES, EpisodeResult
from handeye.evaluate.worker import Played, Question, WorkerConfig, runner
from handeye.types import EpisodeId, Policy


@dataclass(kw_only=True)
class Scheduler:
    """Runs episodes, in no particular order, and hands each result over once."""

    config: WorkerConfig
    policy: Policy | None
    """None: the expert, in the workers. `Replicas` are asked each on its own."""

    workers: int
    attempts: int
    hang_after: float
    memory: int
    """Bytes that a worker may hold (crew.py)."""

    cluster: bool = False
    """On the Ray cluster that this process is connected to; the policy is there (on_cluster.py)."""

    batch: int
    wait: float
    """Seconds that a question may wait for company."""

    in_order: bool = False
    """Begin episodes in the order given, because it may be over before the last."""

    enough: Callable[[], bool] = lambda: False
    """True: begin no more."""

    done: Callable[[EpisodeResult, bytes | None], None]
    """Called with each episode's result and its video, if there is one. What it raises stops the run."""

    meanwhile: Callable[[Use | None], None]
    """Called about once a second; hears how busy the policy is."""

    _pending: list[EpisodeId] = field(default_factory=list, init=False)
    _running: set[EpisodeId] = field(default_factory=set, init=False)
    _crew: Any = field(init=False)
    """A Crew or a ClusterCrew."""

    _desk: Any = field(init=False)

    def __post_init__(self) -> None:
        how: dict[str, Any] = {
            "make": runner,
            "setup": self.config,
            "workers": self.workers,
            "tries": self.attempts,
            "hang_after": self.hang_after,
            "memory": self.memory,
            "things": "episodes",
            "log": EPISODES,
            "meanwhile": lambda: self.meanwhile(self._use()),
        }
        if self.cluster:
            from handeye.distributed.cluster import ClusterCrew

            self._desk = getattr(self.policy, "office", None)
            self._crew = ClusterCrew(**how, office=self._desk)
            return
        self._desk = None
        if self.policy is not None:
            policies = getattr(self.policy, "replicas", [self.policy])
            answerers = [partial(answer, policy) for policy in policies]
            batch = min(self.batch, at_once(self.policy) or self.batch)
            self._desk = Desk(answerers=answerers, batch=batch, wait=self.wait, alike=prompt)
        self._crew = Crew(**how, desk=self._desk)

    def run(self, episodes: Sequence[EpisodeId]) -> Use | None:
        """Returns what the policy had to do since the workers were hired; None for the expert."""
        with self:
            self._pending = list(episodes)
            self._crew.run(self._following, self._end)
            return self._use()

    def __enter__(self) -> Scheduler:
        """In a `with` block the workers stay from one `run` to the next."""
        self._crew.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._crew.__exit__(*error)

    def _use(self) -> Use | None:
        found: Use | None = self._desk.use() if self._desk is not None else None
        return found

    def _following(self, last: EpisodeId | None) -> EpisodeId | None:
        """Of the worker's own task if any are left, since building an environment takes long. Else of the task that
        most are at, so that those who ask together ask with the same prompt; the expert's workers, who ask nobody,
        spread out instead and build each environment once."""
        if not self._pending or self.enough():
            return None
        if self.in_order:
            self._running.add(self._pending[0])
            return self._pending.pop(0)
        crowd, own = Counter(episode.task for episode in self._running), last.task if last else None
        sign = 1 if self.policy is None else -1
        best = min(self._pending, key=lambda episode: (episode.task != own, sign * crowd[episode.task]))
        self._pending.remove(best)
        self._running.add(best)
        return best

    def _end(self, finished: Finished[EpisodeId, Played]) -> None:
        self._running.discard(finished.job)
        timing = {
            "seconds": round(finished.last.seconds, 3),
            "waited": round(finished.last.waited, 3),
            "worker": finished.last.worker,
            "tries": finished.tries,
        }
        if finished.result is None:
            assert finished.error is not None
            self.done(EpisodeResult.broken(finished.job, finished.error, timing), None)
            return
        rollout = finished.result.rollout
        timing |= {f"cpu_{name}": round(seconds, 6) for name, seconds in rollout.cpu.items()}
        self.done(
            EpisodeResult(
                episode=finished.job,
                outcome="success" if rollout.success else "failure",
                steps=rollout.steps,
                questions=rollout.questions,
                unstable=rollout.unstable,
                unmet=rollout.unmet,
                note=rollout.note,
                hashes=rollout.hashes,
                error=None,
                timing=timing,
            ),
            finished.result.film,
        )


def answer(policy: Policy, questions: Sequence[Question]) -> list[Float32[np.ndarray, "T A"]]:
    """All at once."""
    if begun := [question.begins for question in questions if question.begins is not None]:
        policy.reset(begun)
    chunks = policy.act([question.observation for question in questions])
    return [chunk.actions for chunk in chunks]


def at_once(policy: object) -> int | None:
    """How many observations it computes at once, if it says so: whoever asked first would wait for any more."""
    rows: int | None = dict(getattr(policy, "identity", {})).get("rows")
    return rows


def prompt(question: Question) -> str:
    """What makes questions alike: a batch of one prompt needs no padding."""
    return question.observation.prompt
