"""`handeye data replay`: how many recorded demonstrations still succeed in this simulator? One number that proves
actions, gripper, scene and simulator version at once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from handeye.console import progress, say, table
from handeye.data.config import ReplayConfig
from handeye.data.replay.play import Replayed, play
from handeye.data.replay.start import start_of
from handeye.data.source import Source, open_source
from handeye.distributed.crew import Ask, Crew
from handeye.distributed.jobs import Finished
from handeye.errors import UserError
from handeye.records import write_json
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.sim.task_env import TaskEnv

LARGE = 0.01
"""Metres or radians: a drift that people want to know of."""


def run(config: ReplayConfig) -> int:
    """The exit code: 0 if every episode succeeds, 1 if one does not."""
    source = open_source(config.root)
    start_of(source, source.episodes[0], suite=config.suite)  # what cannot work for any is said before work begins
    found = replay(source, suite=config.suite, limit=config.episodes, workers=config.workers)
    lines = [{"id": id, **{k: v for k, v in asdict(one).items() if k != "seen"}} for id, one in found.items()]
    successes = sum(one.success for one in found.values())
    low, high = _wilson(successes, len(found))
    summary = {
        "root": str(config.root),
        "succeeded": successes,
        "episodes": len(found),
        "interval": [low, high],
        "largest_drift": max((one.drift for one in found.values() if one.drift is not None), default=None),
        "replays": lines,
    }
    if config.out is not None:
        write_json(config.out, summary)
    if config.json:
        print(json.dumps(summary, indent=2, sort_keys=True))  # noqa: T201 - JSON for another program, not for a person
    else:
        _tell(source, found, summary)
    return int(successes < len(found))


def replay(
    source: Source, *, suite: str | None = None, limit: int | None = None, workers: int = 1
) -> dict[str, Replayed]:
    """Episode id -> how it went, in the set's order. `limit`: the first so many of each task."""
    chosen = _first(source, limit)
    found: dict[int, Replayed] = {}
    with progress("replaying", len(chosen)) as advance:

        def done(ended: Finished[int, Replayed]) -> None:
            if ended.result is None:
                raise UserError(
                    f"{source.root}: {source.episodes[ended.job].id} could not be replayed.",
                    why=(ended.error or "").strip().splitlines()[-1],
                    fix="look at it: handeye data verify",
                )
            found[ended.job] = ended.result
            wins = sum(one.success for one in found.values())
            advance(note=f"{wins} of {len(found)} succeed")

        Crew(
            make=_make, setup=_Setup(source.root, suite), workers=min(workers, len(chosen)), tries=2, hang_after=300.0,
            things="episodes", log="the message",
        ).each(chosen, done)  # fmt: skip
    return {source.episodes[number].id: found[number] for number in chosen}


@dataclass(frozen=True)
class _Setup:
    root: Path
    suite: str | None


def _make(setup: _Setup, ask: Ask) -> Callable[[int], Replayed]:
    source, stage = open_source(setup.root), Stage(SimConfig(cameras=()))

    def go(number: int) -> Replayed:
        start = start_of(source, source.episodes[number], suite=setup.suite)
        return play(stage.of(start.task), start)

    return go


class Stage:
    """The environment of one task, kept until another one is asked for."""

    def __init__(self, config: SimConfig) -> None:
        self._config = config
        self._task: Task | None = None
        self._env: TaskEnv | None = None

    def of(self, task: Task) -> TaskEnv:
        if self._env is None or task != self._task:
            if self._env is not None:
                self._env.close()
            env = suites.make(task, self._config)
            if not isinstance(env, TaskEnv):
                raise UserError(
                    f"{task.suite} cannot be replayed.",
                    why="its environments do not show their state",
                    fix="replay demonstrations of LIBERO or tabletop",
                )
            self._env, self._task = env, task
        return self._env


def _first(source: Source, limit: int | None) -> list[int]:
    seen: dict[str, int] = defaultdict(int)
    chosen = []
    for number, ref in enumerate(source.episodes):
        seen[ref.task] += 1
        if limit is None or seen[ref.task] <= limit:
            chosen.append(number)
    return chosen


def _wilson(successes: int, episodes: int) -> tuple[float, float]:
    from scipy.stats import binomtest

    interval = binomtest(successes, episodes).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def _tell(source: Source, found: dict[str, Replayed], summary: dict[str, Any]) -> None:
    by_task: dict[str, list[Replayed]] = defaultdict(list)
    prompts = {ref.id: ref.prompt for ref in source.episodes}
    for id, one in found.items():
        by_task[prompts[id]].append(one)
    rows: list[list[object]] = []
    for prompt, ones in by_task.items():
        drifts = [one.drift for one in ones if one.drift is not None]
        rows.append([prompt, f"{sum(o.success for o in ones)}/{len(ones)}", f"{max(drifts):.2g}" if drifts else "-"])
    table("", ["task", "succeed", "largest drift (m, rad)"], rows)
    low, high = summary["interval"]
    say(
        f"{summary['succeeded']} of {summary['episodes']} demonstrations still succeed "
        f"({100 * summary['succeeded'] / summary['episodes']:.1f} %, 95 % Wilson {100 * low:.1f} to {100 * high:.1f})"
    )
    drift = summary["largest_drift"]
    if drift is not None:
        exact = "exact: every state is the recorded one" if drift == 0 else f"largest drift {drift:.2g}"
        say(exact + (", so the recording came from another simulator or scene" if drift > LARGE else ""))
