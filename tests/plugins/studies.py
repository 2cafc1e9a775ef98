"""Evaluations that never ran: directories with the outcomes one asks for, in the layout of those that did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from handeye.evaluate import plan, results
from handeye.evaluate.results import EpisodeResult
from handeye.protocols.presets import protocol
from handeye.types import EpisodeId

MARKS = {"+": "success", "-": "failure", "!": "error"}


def identity(tasks: int, states: int, *, policy: str = "a", **changes: Any) -> dict[str, Any]:
    """Of a plan: the tabletop under our protocol. `protocol={...}` and the like are merged into what is there."""
    value: dict[str, Any] = {
        "format": plan.FORMAT,
        "suite": "tabletop",
        "tasks": [{"index": task, "name": f"task_{task}", "language": f"do {task}"} for task in range(tasks)],
        "initial_states": list(range(states)),
        "protocol": protocol("handeye-2026").to_json() | {"camera_size": 64},
        "policy": {"name": policy, "specs": None},
        "simulator": {"mujoco": "3.3.2", "arithmetic": "bitwise", "cameras": [], "backend": "egl"},
        "versions": {"handeye": "0.1.0", "numpy": "2.2", "mujoco": "3.3.2"},
    }
    for name, change in changes.items():
        value[name] = value.get(name, {}) | change if isinstance(change, Mapping) else change
    return value


def record(episode: EpisodeId, outcome: str, *, scene: str = "", actions: str = "") -> EpisodeResult:
    """`scene` and `actions` stand for what is hashed; by default the scene is the episode's own."""
    error = outcome == "error"
    values = {
        "episode": episode,
        "outcome": outcome,
        "steps": 0 if error else 10 + episode.task,
        "questions": 1,
        "unstable": 0,
        "unmet": None,
        "note": "",
        "hashes": {} if error else {"model": "m", "scene": scene or episode.key, "actions": actions or outcome},
        "error": "Traceback\nRuntimeError: broken" if error else None,
        "timing": {"seconds": 1.0, "tries": 1},
    }
    return EpisodeResult(**{field.name: values[field.name] for field in fields(EpisodeResult)})


def write_run(folder: Path, rows: list[str], *, scenes: Mapping[str, str] | None = None, **changes: Any) -> Path:
    """One string per task, one character per initial state: `+` success, `-` failure, `!` error, a blank for an episode
    that did not run. `scenes`: key -> another scene."""
    what = identity(len(rows), max(len(row) for row in rows), **changes)
    folder.mkdir(parents=True)
    (folder / plan.PLAN).write_text(json.dumps({"identity": what, "address": what["policy"]["name"]}))
    lines = []
    for episode in plan.episodes(what):
        mark = rows[episode.task].ljust(episode.initial_state + 1)[episode.initial_state]
        if mark != " ":
            made = record(episode, MARKS[mark], scene=(scenes or {}).get(episode.key, ""))
            lines.append(json.dumps(made.to_json()) + "\n")
    (folder / results.EPISODES).write_text("".join(lines))
    return folder


def drawn(rates: list[float], states: int, seed: int) -> list[str]:
    """Rows of outcomes by chance, one rate per task."""
    rng = np.random.default_rng(seed)
    return ["".join("+" if x < rate else "-" for x in rng.random(states)) for rate in rates]
