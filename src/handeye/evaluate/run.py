"""`handeye evaluate`: plan, what remains, schedule, summarise."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from handeye.console import progress, say, table, warn
from handeye.errors import UserError
from handeye.evaluate import plan as plans
from handeye.evaluate import results, video
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.plan import DeclaredPolicy, Plan
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.scheduler import Scheduler
from handeye.evaluate.summary import SUMMARY, rate_of, summarise
from handeye.evaluate.worker import WorkerConfig
from handeye.records import append_line, provenance, write_json


def run(config: EvaluateConfig, policy: DeclaredPolicy | None) -> Path:
    """Evaluate, or go on evaluating. None for the policy: the expert, which lives in the workers beside its simulator.
    Returns the run's directory; raises UserError at the end if episodes ended in errors and no rate may be given."""
    plan = plans.make(config, policy)
    out = config.out or plan.default_folder
    _refuse_foreign(out)
    with _alone(out):
        plan.claim(out)
        found = results.read(out)
        left = results.remaining(plan.episodes, found)
        say(f"{len(plan.episodes)} episodes of {plan.suite} under {plan.protocol.name} -> {out}")
        if len(left) < len(plan.episodes):
            _say_what_is_not_filmed(plan, found, config, out)
            say(f"{len(plan.episodes) - len(left)} are there already, {len(left)} to go")
        if left:
            _clear_halves(out)
            append_line(out / plans.SESSIONS, _session(config, len(plan.episodes) - len(left)))
            with _record(plan, found, out) as done:
                Scheduler(
                    config=WorkerConfig(
                        tasks=plan.tasks,
                        protocol=plan.protocol,
                        sim=plan.sim,
                        cameras=plan.cameras,
                        out=out,
                        videos=config.videos,
                    ),
                    policy=policy,
                    workers=config.workers,
                    attempts=config.attempts,
                    hang_after=config.hang_after,
                    done=done,
                ).run(left)
        write_json(out / SUMMARY, summarise(plan.episodes, found))
    _tell(plan, found, config)
    return out


@contextmanager
def _record(plan: Plan, found: dict[str, EpisodeResult], out: Path) -> Iterator[Callable[[EpisodeResult], None]]:
    """Each result goes to the file first, then to the progress bar."""
    begun, at_start = time.monotonic(), len(plan.episodes) - len(results.remaining(plan.episodes, found))
    with progress(plan.suite, len(plan.episodes), done=at_start) as advance:
        finished = 0

        def done(result: EpisodeResult) -> None:
            nonlocal finished
            results.append(out, result)
            found[result.episode.key] = result
            finished += 1
            per_minute = 60 * finished / (time.monotonic() - begun)
            errors = sum(other.outcome == "error" for other in found.values())
            note = f"{rate_of(list(found.values()))}, {per_minute:.0f} episodes/min"
            advance(note=note + (f", {errors} errors" if errors else ""))

        yield done


def _tell(plan: Plan, found: dict[str, EpisodeResult], config: EvaluateConfig) -> None:
    """The table, and the headline if there may be one."""
    rows = []
    for task in plan.tasks:
        of_task = [found[e.key] for e in plan.episodes if e.task == task.index and e.key in found]
        of_rate = rate_of(of_task)
        errors = sum(result.outcome == "error" for result in of_task)
        rows.append([f"{task.index} {task.language}", f"{of_rate.successes}/{of_rate.episodes}", of_rate, errors or ""])
    table("", ["task", "succeeded", "rate [95 % Wilson]", "errors"], rows)
    everything = [found[episode.key] for episode in plan.episodes]
    broken = [result for result in everything if result.outcome == "error"]
    if broken and not config.allow_errors:
        raise UserError(
            f"{len(broken)} of {len(everything)} episodes ended in an error, so there is no rate.",
            why=(broken[0].error or "").strip().splitlines()[-1],
            fix="run the same command again to try them again, or add --allow-errors for a rate over the others",
        )
    if exploded := sum(result.unstable > 0 for result in everything):
        warn(f"in {exploded} of {len(everything)} episodes the simulation exploded (`unstable` in episodes.jsonl)")
    without = f", {len(broken)} errors left out" if broken else ""
    say(f"{plan.address} on {plan.suite}: {rate_of(everything)} of {len(everything) - len(broken)} episodes{without}")


def _session(config: EvaluateConfig, episodes_before: int) -> dict[str, object]:
    """One line per start of the program: a run that was resumed under another commit says so."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "episodes_before": episodes_before,
        "workers": config.workers,
        "videos": config.videos,
        "provenance": provenance(),
    }


def _say_what_is_not_filmed(plan: Plan, found: dict[str, EpisodeResult], config: EvaluateConfig, out: Path) -> None:
    """Finished episodes are not run again for their video's sake."""
    wanted = {"none": (), "failures": ("failure",), "all": ("failure", "success")}[config.videos]
    without = [e for e in plan.episodes if e.key in found and found[e.key].outcome in wanted]
    if missing := sum(not video.path(out, episode).is_file() for episode in without):
        warn(f"{missing} finished episodes have no video and are not run again; use another --out to film them")


def _refuse_foreign(out: Path) -> None:
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
def _alone(out: Path) -> Iterator[None]:
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
