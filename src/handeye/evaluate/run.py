"""`handeye evaluate`: plan, what remains, schedule, summarise."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Protocol as Interface
from typing import runtime_checkable

from handeye.console import say, table, warn
from handeye.distributed.desk import Use
from handeye.errors import UserError
from handeye.evaluate import elsewhere, results, video
from handeye.evaluate import plan as plans
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.elsewhere import Send
from handeye.evaluate.plan import DeclaredPolicy, Plan
from handeye.evaluate.progress import shown
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.scheduler import Scheduler
from handeye.evaluate.sequential import Decision
from handeye.evaluate.summary import SUMMARY, median_steps, rate_of, summarise
from handeye.evaluate.worker import WorkerConfig
from handeye.records import append_line, provenance, write_bytes, write_json
from handeye.types import EpisodeId

MOST_FAILURES = 40
"""Rows of the table of failures."""


def run(config: EvaluateConfig, policy: DeclaredPolicy | None) -> Path:
    """Evaluate, or go on evaluating. None for the policy: the expert, which lives in the workers beside its simulator.
    A policy is asked in a thread of its own, and only ever in that one. Returns the run's directory; raises UserError
    at the end if episodes ended in errors and no rate may be given."""
    plan = plans.make(config, policy)
    named = config.out or plan.default_folder
    out = elsewhere.working_folder(named)
    refuse_foreign(out)
    if plan.rule is not None:
        plan.rule.check(plan.identity(), plan.episodes)
    with ExitStack() as stack:
        stack.enter_context(alone(out))
        elsewhere.fetch(named, out)
        plan.claim(out)
        send = stack.enter_context(elsewhere.sent(named, out))
        found = results.read(out)
        decision = None if plan.rule is None else plan.rule.decide(plan.episodes, found)
        left = [] if decision and decision.stop else results.remaining(plan.own, found)
        part = "" if plan.part == (1, 1) else "part {} of {}, ".format(*plan.part)
        say(f"{part}{len(plan.own)} episodes of {plan.suite} under {plan.protocol.name} -> {named}")
        if plan.rule is not None:
            say(f"{plan.rule}")
        if len(left) < len(plan.own):
            _say_what_is_not_filmed(plan, found, config, out)
            say(f"{len(plan.own) - len(left)} are there already or not needed, {len(left)} to go")
        if left:
            _clear_halves(out)
            append_line(out / plans.SESSIONS, _session(config, policy, len(plan.own) - len(left)))
            send(plans.SESSIONS)
            decision = _run(config, plan, policy, found, left, out, send)
            send(plans.SESSIONS)
        counted = plan.own[: decision.episodes] if decision and decision.stop else plan.own
        write_json(out / SUMMARY, summarise(counted, found, decision=decision))
        send(SUMMARY)
    _tell(plan, counted, found, config)
    if decision is not None:
        _tell_decision(plan, decision)
    return out


def _run(
    config: EvaluateConfig,
    plan: Plan,
    policy: DeclaredPolicy | None,
    found: dict[str, EpisodeResult],
    left: list[EpisodeId],
    out: Path,
    send: Send,
) -> Decision | None:
    """What is left, or less where a rule says so. Each result goes to the file first, then to the screen. What was
    under way when the rule said stop is finished and recorded, but is no part of the decision."""
    before, begun = len(plan.own) - len(left), time.monotonic()
    decision: Decision | None = None
    with shown(plan.suite, len(plan.own), before, found, partial(_device, policy)) as progress:

        def done(result: EpisodeResult, film: bytes | None) -> None:
            if film is not None:
                write_bytes(video.path(out, result.episode), film)
                send(video.path(Path(), result.episode).as_posix())
            results.append(out, result)
            send(results.EPISODES)
            found[result.episode.key] = result
            progress.ended()

        def meanwhile(use: Use | None) -> None:
            nonlocal decision
            progress.meanwhile(use)
            if plan.rule is not None:
                decision = plan.rule.decide(plan.episodes, found)

        worker = WorkerConfig(
            tasks=plan.tasks,
            protocol=plan.protocol,
            sim=plan.sim,
            cameras=plan.cameras,
            videos=config.videos,
            surroundings=plan.surroundings,
        )
        use = Scheduler(
            config=worker,
            policy=policy,
            workers=config.workers,
            attempts=config.attempts,
            hang_after=config.hang_after,
            memory=round(config.worker_memory * 1e9),
            cluster=config.ray is not None,
            batch=config.batch,
            wait=config.wait_ms / 1000,
            in_order=plan.rule is not None,
            enough=lambda: decision is not None and decision.stop,
            done=done,
            meanwhile=meanwhile,
        ).run(left)
    append_line(out / plans.SESSIONS, _ended(progress.finished, time.monotonic() - begun, use))
    return None if plan.rule is None else plan.rule.decide(plan.episodes, found)


@runtime_checkable
class OnDevice(Interface):
    """A policy that can say how busy its device is."""

    def device_use(self) -> str:
        """A few words, such as `cuda:0 71 %, 18.2 GB`; nothing where nobody knows."""
        ...


def _device(policy: DeclaredPolicy | None) -> str:
    return policy.device_use() if isinstance(policy, OnDevice) else ""


def _tell(plan: Plan, counted: Sequence[EpisodeId], found: dict[str, EpisodeResult], config: EvaluateConfig) -> None:
    """The table, what the expert did not reach, and the headline if there may be one."""
    rows = []
    for task in plan.tasks:
        of_task = [found[e.key] for e in counted if e.task == task.index and e.key in found]
        of_rate = rate_of(of_task)
        errors = sum(result.outcome == "error" for result in of_task)
        steps = "" if (middle := median_steps(of_task)) is None else f"{middle:g}"
        succeeded = f"{of_rate.successes}/{of_rate.episodes}"
        rows.append([f"{task.index} {task.language}", succeeded, of_rate, steps, errors or ""])
    table("", ["task", "succeeded", "rate [95 % Wilson]", "steps", "errors"], rows)
    if plan.cameras is None:
        _tell_failures([found[episode.key] for episode in counted])
    everything = [found[episode.key] for episode in counted]
    broken = [result for result in everything if result.outcome == "error"]
    if broken and not config.allow_errors:
        raise UserError(
            f"{len(broken)} of {len(everything)} episodes ended in an error, so there is no rate.",
            why=(broken[0].error or "").strip().splitlines()[-1],
            fix="run the same command again to try them again, or add --allow-errors for a rate over the others",
        )
    if exploded := sum(result.unstable > 0 for result in everything):
        warn(f"in {exploded} of {len(everything)} episodes the simulation exploded (`unstable` in episodes.jsonl)")
    if plan.policy.get("partial"):
        warn(plan.policy["partial"])
    without = f", {len(broken)} errors left out" if broken else ""
    say(f"{plan.address} on {plan.suite}: {rate_of(everything)} of {len(everything) - len(broken)} episodes{without}")


def _tell_decision(plan: Plan, decision: Decision) -> None:
    """What the rule was for: the rate that it stopped at is biased, its interval is not."""
    interval = f"[{100 * decision.low:.1f}, {100 * decision.high:.1f}]"
    rounds = f"after {decision.rounds} rounds, {decision.episodes} episodes"
    say(f"{plan.rule}: {decision.conclusion} {rounds}; {interval} points at any time of stopping")


def _tell_failures(everything: Sequence[EpisodeResult]) -> None:
    """Of a policy that can say why."""
    failures = [result for result in everything if result.outcome == "failure"]
    rows = [
        [f"{r.episode.task}, initial state {r.episode.initial_state}", ", ".join(r.unmet or ()), r.note]
        for r in failures[:MOST_FAILURES]
    ]
    if rows:
        table("", ["failure: task", "unmet at the end", "note"], rows)
    if more := len(failures) - len(rows):
        say(f"and {more} more: `unmet` and `note` in {results.EPISODES}")


def _session(config: EvaluateConfig, policy: object, episodes_before: int) -> dict[str, object]:
    """One line per start of the program: a run that was resumed under another commit says so."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "episodes_before": episodes_before,
        "workers": config.workers,
        "videos": config.videos,
        "control_step": _control_step(config),
        **({"compute": policy.compute} if hasattr(policy, "compute") else {}),
        "provenance": provenance(),
    }


def _control_step(config: EvaluateConfig) -> str | None:
    """C and NumPy give the same bits, so this is no part of the plan; it tells the speed. The fake suite has none."""
    if config.suite == "fake":
        return None
    from handeye.sim import native

    return native.computed_by(config.arithmetic)


def _ended(episodes: int, seconds: float, use: Use | None) -> dict[str, object]:
    """One line per end of the program that was no kill: how fast it was, and what the policy had to do."""
    line: dict[str, object] = {
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "episodes": episodes,
        "seconds": round(seconds, 1),
        "episodes_per_minute": round(60 * episodes / seconds, 2),
    }
    if use is not None and use.batches:
        line["policy"] = {
            "questions": use.questions,
            "batches": use.batches,
            "mean_batch": round(use.questions / use.batches, 2),
            "seconds": round(use.seconds, 1),
            "busy": round(use.seconds / seconds / use.answerers, 3),
        }
    return line


def _say_what_is_not_filmed(plan: Plan, found: dict[str, EpisodeResult], config: EvaluateConfig, out: Path) -> None:
    """Finished episodes are not run again for their video's sake."""
    wanted = {"none": (), "failures": ("failure",), "all": ("failure", "success")}[config.videos]
    without = [e for e in plan.own if e.key in found and found[e.key].outcome in wanted]
    if missing := sum(not video.path(out, episode).is_file() for episode in without):
        warn(f"{missing} finished episodes have no video and are not run again; use another --out to film them")


def refuse_foreign(out: Path) -> None:
    """Only an evaluation's directory or an empty one is written into."""
    if not out.is_dir() or (out / plans.PLAN).exists():
        return
    if there := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
        raise UserError(
            f"{out} is not an evaluation's directory, and not empty.",
            why=f"it has no {plans.PLAN}, but {', '.join(there[:3])}",
            fix="choose another --out, or leave it out",
        )


def _clear_halves(out: Path) -> None:
    """What a killed process had begun to write. Only ours: the directory is locked."""
    for part in (out / "videos").glob(".*.part"):
        part.unlink(missing_ok=True)


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """One evaluation per directory at a time. The lock goes with its process, however that ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / ".lock").open("w")
    except OSError as error:
        raise UserError(f"Could not write into {out}.", why=str(error), fix="choose another --out") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"Another evaluation is writing into {out}.", fix="wait for it, or choose another --out"
            ) from None
        yield
