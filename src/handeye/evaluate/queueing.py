"""How fast would it be there? Simulators that share cores, and one policy that answers in batches, played through.

Each worker starts an episode (reset, settling), then simulates a chunk, asks, waits for its answer, and so on. Cores
are shared evenly by all who compute. The policy takes what has been asked, as `distributed.desk` does, and needs
`first + each * n` seconds for n questions, on cores of its own (a GPU) or on the same ones. A question costs the parent
process some time too, which no number of cores shortens. Nothing here is about any particular machine: the five costs
are measured by `handeye bench eval --model`, or assumed and said so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

WARM_UP = 0.2
"""Share of the episodes that is not counted: everybody starts at the same moment."""

SPREAD = 0.3
"""Each piece of work takes its cost times a factor within 1 +- this, so that workers do not march in step."""


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds of one core."""

    start: float
    """Of an episode, before its first question."""

    act: float
    """Between a question's answer and the next question: a chunk of steps and a picture."""

    questions: float
    """Per episode."""

    parent: float
    """Of the parent process per question: messages, bookkeeping."""


@dataclass(frozen=True, kw_only=True)
class Answering:
    """The policy."""

    first: float
    """Seconds of a batch, however small."""

    each: float
    """Seconds more for each question in it."""

    batch: int
    wait: float
    """Seconds that the oldest question may be held back for company."""

    on_cores: bool
    """It computes on the simulators' cores; else on a device of its own."""

    def seconds(self, questions: int) -> float:
        return self.first + self.each * questions


@dataclass(frozen=True, kw_only=True)
class Forecast:
    episodes_per_minute: float
    policy_busy: float
    """Share of the time in which it computes: near 1 it is what everybody waits for."""

    mean_batch: float


def forecast(costs: Costs, answering: Answering, *, workers: int, cores: float, episodes: int = 12) -> Forecast:
    """`episodes`: played by each worker."""
    rng = np.random.default_rng(0)
    questions = max(1, round(costs.questions))

    def varied(seconds: float) -> float:
        return seconds * float(rng.uniform(1 - SPREAD, 1 + SPREAD))

    work = np.array([varied(costs.start) + varied(costs.act) * rng.uniform() for _ in range(workers)])
    asked = np.full(workers, np.inf)  # when a worker asked; inf: it computes
    left = np.full(workers, questions)  # answers that a worker still needs in its episode
    now, busy_until_done = 0.0, 0.0
    in_batch: np.ndarray = np.zeros(0, int)
    finished, counted_from, busy, batches, answered = 0, 0.0, 0.0, 0, 0
    warm, total = int(WARM_UP * episodes * workers), episodes * workers
    while finished < total:
        waiting = np.flatnonzero(np.isfinite(asked))
        computing = np.flatnonzero(~np.isfinite(asked) & (work > 0))
        if not in_batch.size and waiting.size:
            oldest = asked[waiting].min()
            if waiting.size >= answering.batch or not computing.size or now - oldest >= answering.wait - 1e-12:
                in_batch = waiting[np.argsort(asked[waiting], kind="stable")][: answering.batch]
                asked[in_batch], work[in_batch] = np.inf, 0.0
                busy_until_done = answering.seconds(in_batch.size) + costs.parent * in_batch.size
                continue
        users = computing.size + (in_batch.size > 0 and answering.on_cores)
        speed = min(1.0, cores / users) if users else 1.0
        server_speed = speed if answering.on_cores else 1.0
        steps = [work[computing].min() / speed] if computing.size else []
        steps += [busy_until_done / server_speed] if in_batch.size else []
        if not in_batch.size and waiting.size:
            steps.append(asked[waiting].min() + answering.wait - now)
        step = max(min(steps), 0.0)
        now += step
        work[computing] -= step * speed
        for worker in computing[work[computing] <= 1e-12]:
            work[worker], asked[worker] = 0.0, now
        if in_batch.size:
            busy += step * (finished >= warm)
            busy_until_done -= step * server_speed
            if busy_until_done <= 1e-12:
                if finished >= warm:
                    batches, answered = batches + 1, answered + in_batch.size
                left[in_batch] -= 1
                for worker in in_batch:
                    work[worker] = varied(costs.act)
                    if left[worker] == 0:  # the last chunk is acted too: the next episode begins after it
                        work[worker] += varied(costs.start)
                        left[worker] = questions
                        finished += 1
                        if finished == warm:
                            counted_from = now
                in_batch = np.zeros(0, int)
    seconds = now - counted_from
    return Forecast(
        episodes_per_minute=60 * answered / questions / seconds,  # answers come evenly, ends of episodes in waves
        policy_busy=busy / seconds,
        mean_batch=answered / batches if batches else math.nan,
    )
