"""`handeye prove`: the expert on every task of a suite, without cameras. Is it the policy, or is it the set-up?"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from handeye import records
from handeye.console import progress, say, table
from handeye.errors import UserError
from handeye.evaluate.statistics import wilson
from handeye.expert.config import ProveConfig
from handeye.expert.solve import Expert
from handeye.protocols.presets import protocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import EpisodeId


def run(config: ProveConfig) -> Path:
    """Prints a table and writes one record per episode."""
    known = suites.tasks(config.suite)
    tasks = [suites.task(config.suite, index) for index in config.tasks] or list(known)
    for task in tasks:
        if config.states > suites.initial_state_count(task):
            raise UserError(
                f"{config.suite} task {task.index} has {suites.initial_state_count(task)} initial states.",
                why=f"--states {config.states} asks for more",
                fix="ask for fewer",
            )
    episodes: list[dict[str, Any]] = []
    with progress(f"prove {config.suite}", len(tasks)) as advance:
        for done in _prove_all(config, tasks):
            episodes += done
            advance(note=f"{sum(e['success'] for e in episodes)}/{len(episodes)} episodes")
    rows = [_row(task, [e for e in episodes if e["task"] == task.index]) for task in tasks]
    good = sum(e["success"] for e in episodes)
    low, high = wilson(good, len(episodes))
    table(f"expert on {config.suite}", ["task", "reached", "steps, middle", "steps, most", "lost"], rows)
    say(f"{good}/{len(episodes)} = {good / len(episodes):.1%}, 95 % interval {low:.1%} to {high:.1%}")
    path = config.file()
    records.write_json(path, {"episodes": episodes, "provenance": records.provenance(("numpy", "mujoco"))})
    say(f"every episode: {path}")
    return path


def _prove_all(config: ProveConfig, tasks: list[Task]) -> Any:
    work = partial(prove_task, config)
    if config.workers == 1:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(config.workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)


def prove_task(config: ProveConfig, task: Task) -> list[dict[str, Any]]:
    """One record per initial state."""
    rules = protocol(config.protocol)
    stream, seed = rules.scenes()
    env: Any = suites.make(task, SimConfig(cameras=(), arithmetic=config.arithmetic))
    expert = Expert(env, noise=config.noise, speed=config.speed)
    episodes = []
    for state in range(config.states):
        env.reset(EpisodeId(suite=task.suite, task=task.index, initial_state=state, stream=stream, seed=seed))
        for _ in range(rules.settle_steps):
            env.step(np.array(rules.settle_action))
        expert.reset()
        begun, success, steps = time.monotonic(), False, 0
        while not success and steps < rules.horizon(task.suite):
            success, steps = env.step(expert.act()).success, steps + 1
        open_parts = [" ".join(predicate) for predicate, holds in env.truths().items() if not holds]
        episodes.append(
            {
                "task": task.index,
                "name": task.name,
                "initial_state": state,
                "success": success,
                "steps": steps,
                "lost": expert.losses,
                "note": ""
                if success
                else "; ".join(filter(None, [f"not reached: {', '.join(open_parts)}", expert.note])),
                "seconds": round(time.monotonic() - begun, 1),
            }
        )
    env.close()
    return episodes


def _row(task: Task, episodes: list[dict[str, Any]]) -> list[object]:
    steps = sorted(e["steps"] for e in episodes if e["success"]) or [0]
    return [
        f"{task.index} {task.name}",
        f"{sum(e['success'] for e in episodes)}/{len(episodes)}",
        steps[len(steps) // 2],
        steps[-1],
        sum(e["lost"] for e in episodes),
    ]
