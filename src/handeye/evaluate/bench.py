"""How fast an evaluation is: `handeye bench eval`.

Four ways of running the same episodes with the same policy take turns in one process: the published loop; the same
without its hard resets; one that draws only what is looked at; and the engine, whose workers rest while the others are
at it. Records must agree, or the figures would be about different things. How long each had to wait for a core is
printed: a loop on one core and an engine on all of them do not suffer alike from what else runs on the machine.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handeye.console import say, table, warn
from handeye.evaluate import plan as plans
from handeye.evaluate.bench_config import BenchEvalConfig
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.plan import DeclaredPolicy, Plan
from handeye.evaluate.published_loop import PublishedLoop
from handeye.evaluate.queueing import Answering, Costs, forecast
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.rollout import roll_out
from handeye.evaluate.scheduler import Scheduler
from handeye.evaluate.worker import Local, WorkerConfig
from handeye.records import provenance, write_json
from handeye.sim import suites
from handeye.types import ActionChunk, EpisodeId, Observation

PUBLISHED, SOFT, LAZY = "published loop", "without hard resets", "drawing only what is looked at"
DISTURBED = 0.1
"""Share of its time that the published loop, alone in its block, may wait for a core before figures are mistrusted."""

AHEAD = (16, 32, 64, 128, 256)
"""Cores, and workers, that the model is asked about."""

Records = dict[str, tuple[bool, int, str | None]]
"""Episode -> success, steps, digest of the executed actions."""


@dataclass
class Timed:
    """The policy, with its processor time and pure answering time counted."""

    policy: DeclaredPolicy
    cpu: float = 0.0

    def __post_init__(self) -> None:
        self.specs, self.identity = self.policy.specs, getattr(self.policy, "identity", {})

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        self.policy.reset(episodes)

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        before = time.thread_time()
        chunks = self.policy.act(observations)
        self.cpu += time.thread_time() - before
        return chunks


@dataclass
class Way:
    """One way of running the episodes, and how long its blocks took."""

    name: str
    run: Callable[[Sequence[EpisodeId]], Records]
    seconds: list[float] = field(default_factory=list)

    def per_minute(self, episodes: int) -> float:
        return 60 * episodes / statistics.median(self.seconds)


def run(config: BenchEvalConfig, policy: DeclaredPolicy) -> int:
    """Prints tables. 1 if the ways did not agree on what happened."""
    timed = Timed(policy)
    plan = plans.make(_evaluation(config), timed)
    assert plan.cameras is not None
    [task] = plan.tasks
    loops = {
        PUBLISHED: PublishedLoop(task, plan.sim, plan.protocol, timed, plan.cameras),
        SOFT: PublishedLoop(task, plan.sim, plan.protocol, timed, plan.cameras, hard_resets=False),
    }
    env = suites.make(task, plan.sim)

    def lazily(episodes: Sequence[EpisodeId]) -> Records:
        mind = Local(timed, plan.cameras or ())
        rollouts = {each.key: roll_out(env, each, mind, plan.protocol) for each in episodes}
        return {key: (one.success, one.steps, one.hashes["actions"]) for key, one in rollouts.items()}

    ways = [Way(name, loop.all) for name, loop in loops.items()]
    ways.append(Way(LAZY, lazily))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    say(f"{task.suite}/{task.index}, {plan.protocol.name}, {config.policy}, {plan.simulator.get('renderer', '')}")
    found: dict[str, Any] = {"cores": cores, "episodes": len(plan.episodes), "engines": {}}
    agree = True
    for workers in config.workers:
        measured = _measure(config, plan, timed, ways, workers)
        agree, found["engines"][workers] = agree and measured["records agree"], measured
    for loop in loops.values():
        loop.close()
    env.close()
    _show(config, ways, found)
    if config.model:
        found["model"] = _model(config, timed, plan, found)
    if config.json is not None:
        write_json(config.json, {**found, "provenance": provenance()})
    return 0 if agree else 1


def _evaluation(config: BenchEvalConfig) -> EvaluateConfig:
    return EvaluateConfig(
        policy=config.policy,
        suite=config.suite,
        tasks=(config.task,),
        episodes=config.episodes,
        protocol=config.protocol,
        backend=config.backend,
    )


def _measure(config: BenchEvalConfig, plan: Plan, policy: Timed, ways: list[Way], workers: int) -> dict[str, Any]:
    """Rounds of all ways with an engine of so many workers. The first round warms everything up and is not counted."""
    results: dict[str, EpisodeResult] = {}
    scheduler = Scheduler(
        config=WorkerConfig(
            tasks=plan.tasks,
            protocol=plan.protocol,
            sim=plan.sim,
            cameras=plan.cameras,
            videos="none",
            surroundings=plan.surroundings,
        ),
        policy=policy,
        workers=workers,
        attempts=1,
        hang_after=600.0,
        memory=10**11,
        batch=config.batch,
        wait=config.wait_ms / 1000,
        done=lambda result, film: results.update({result.episode.key: result}),
        meanwhile=lambda use: None,
    )

    def engine(episodes: Sequence[EpisodeId]) -> Records:
        scheduler.run(episodes)
        return {key: (r.outcome == "success", r.steps, r.hashes.get("actions")) for key, r in results.items()}

    its = Way(f"engine, {workers} workers", engine)
    for way in ways:
        way.seconds.clear()
    agree, costs = True, []
    waits: dict[str, list[float]] = {way.name: [] for way in (*ways, its)}
    with scheduler:
        for number in range(config.rounds + 1):
            wanted = None
            for way in (*ways, its):
                episodes = plan.episodes if number else plan.episodes[: max(1, workers if way is its else 1)]
                meter = Meter(policy)
                records = way.run(episodes)
                meter.stop()
                if not number:
                    continue
                way.seconds.append(meter.seconds)
                waits[way.name].append(meter.waited)
                wanted = wanted or records
                agree = agree and records == wanted
                if way is its:
                    costs.append(_costs(list(results.values()), meter))
    if not agree:
        warn("the ways did not agree on what happened in the episodes: do not believe these figures")
    waited = {name: statistics.median(shares) for name, shares in waits.items()}
    if waited[PUBLISHED] > DISTURBED:
        warn(
            f"the published loop waited for a core {100 * waited[PUBLISHED]:.0f} % of its time: measure again "
            "when other programs are not busy"
        )
    return {
        "episodes per minute": {way.name: way.per_minute(len(plan.episodes)) for way in (*ways, its)},
        "engine": its.per_minute(len(plan.episodes)),
        "against the published loop": statistics.median(
            published / ours for published, ours in zip(ways[0].seconds, its.seconds, strict=True)
        ),
        "records agree": agree,
        "waited for a core": waited,
        "costs": {name: statistics.median(cost[name] for cost in costs) for name in costs[0]},
    }


class Meter:
    """Wall time, the parent's processor time beside the policy's, and how long everybody had to wait for a core."""

    def __init__(self, policy: Timed) -> None:
        self._policy = policy
        self._begun = self._now()
        self.seconds = self.parent = self.policy = self.waited = 0.0

    def stop(self) -> None:
        wall, cpu, policy, ran, waited = (
            after - before for after, before in zip(self._now(), self._begun, strict=True)
        )
        self.seconds, self.policy = wall, policy
        self.parent = max(0.0, cpu - policy)
        self.waited = waited / (ran + waited) if ran + waited > 0 else 0.0

    def _now(self) -> tuple[float, ...]:
        ran, waited = _on_cores(os.getpid())
        return time.monotonic(), time.process_time(), self._policy.cpu, ran, waited


def _on_cores(process: int) -> tuple[float, float]:
    """Seconds that the threads of a process and of its children ran, and waited for a core. Zero outside Linux."""
    ran = waited = 0
    for folder in Path("/proc").glob("[0-9]*") if Path("/proc/self/schedstat").exists() else ():
        with suppress(OSError):  # it ended meanwhile
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if process in (int(folder.name), parent):
                for thread in (folder / "task").iterdir():
                    times = (thread / "schedstat").read_text().split()
                    ran, waited = ran + int(times[0]), waited + int(times[1])
    return ran / 1e9, waited / 1e9


def _costs(results: list[EpisodeResult], meter: Meter) -> dict[str, float]:
    """What an episode and a question cost here, in seconds of a core."""
    questions = sum(result.questions for result in results)
    return {
        "start": sum(result.timing["cpu_start"] for result in results) / len(results),
        "act": sum(result.timing["cpu_act"] for result in results) / questions,
        "questions": questions / len(results),
        "parent": meter.parent / questions,
        "policy": meter.policy / questions,
    }


def _show(config: BenchEvalConfig, ways: list[Way], found: dict[str, Any]) -> None:
    say(f"{found['episodes']} episodes a block, {config.rounds} blocks of each way in turns, {found['cores']} cores")
    rows = []
    for measured in found["engines"].values():
        per_minute = measured["episodes per minute"]
        for name, speed in per_minute.items():
            rows.append([name, f"{speed:.1f}", f"{speed / per_minute[PUBLISHED]:.2f}x"])
    table("", ["way", "episodes/min", "against the published loop"], rows)
    for workers, measured in found["engines"].items():
        agreed = "same outcomes, steps and actions" if measured["records agree"] else "DIFFERENT RECORDS"
        say(
            f"{workers} workers: {measured['against the published loop']:.2f}x the published loop (median of rounds); "
            f"{agreed}; of its time the loop waited {100 * measured['waited for a core'][PUBLISHED]:.0f} % for a core"
        )


def _model(config: BenchEvalConfig, policy: Timed, plan: Plan, found: dict[str, Any]) -> dict[str, Any]:
    """Calibrate, compare with what was measured, and look ahead."""
    last = list(found["engines"].values())[-1]["costs"]
    costs = Costs(start=last["start"], act=last["act"], questions=last["questions"], parent=last["parent"])
    own = Answering(first=0.0, each=last["policy"], batch=config.batch, wait=config.wait_ms / 1000, on_cores=True)
    first, each = (part / 1000 for part in config.latency_ms)
    gpu = Answering(first=first, each=each, batch=config.batch, wait=config.wait_ms / 1000, on_cores=False)
    say(
        f"\ncosts here, ms of a core: {1e3 * costs.start:.0f} an episode's start, {1e3 * costs.act:.1f} a chunk, "
        f"{1e3 * last['policy']:.1f} an answer, {1e3 * costs.parent:.2f} the parent's share; "
        f"{costs.questions:.0f} questions an episode"
    )
    rows, checked = [], {}
    for workers, measured in found["engines"].items():
        expected = forecast(costs, own, workers=workers, cores=float(found["cores"])).episodes_per_minute
        checked[workers] = {"measured": measured["engine"], "model": expected}
        rows.append([workers, f"{measured['engine']:.1f}", f"{expected:.1f}", f"{expected / measured['engine']:.2f}"])
    table("the model here", ["workers", "measured, episodes/min", "model", "model / measured"], rows)
    rows, ahead = [], {}
    for cores in AHEAD:
        there = forecast(costs, gpu, workers=cores, cores=float(cores))
        ahead[cores] = vars(there)
        rows.append(
            [
                cores,
                f"{there.episodes_per_minute:.0f}",
                f"{100 * there.policy_busy:.0f} %",
                f"{there.mean_batch:.1f}",
                f"{2000 / there.episodes_per_minute:.0f}",
            ]
        )
    title = f"expected with one GPU that answers n questions in {1e3 * first:g} + {1e3 * each:g} n ms"
    columns = ["cores and workers", "episodes/min", "GPU busy", "mean batch", "minutes for 2,000 episodes"]
    table(title, columns, rows)
    return {"costs": vars(costs), "here": checked, "latency_ms": config.latency_ms, "expected": ahead}
