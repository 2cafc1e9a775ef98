"""How fast the simulator is: `handeye bench sim`.

Ours and the reference run as two programs that answer the same commands (bench_ours.py, bench_reference.py) and take
turns on one core. What counts is processor time, so that a neighbour on a shared machine costs both alike; a figure is
the median of alternating blocks. Both use OpenBLAS's Haswell kernels, without which the reference's own last bits
change with the processor.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handeye import console
from handeye.errors import UserError
from handeye.records import provenance, write_json
from handeye.sim import assets, rendering
from handeye.sim.config import BenchSimConfig

BLOCK = 10  # control steps between alternations
CHUNK = 8  # actions per question: OpenVLA-OFT's
SIZE = 256  # pixels, two cameras
SETTLE_STEPS = 10
OPENINGS = 5  # of a task that was open before


@dataclass
class Side:
    """One of the two programs."""

    name: str
    process: subprocess.Popen[str]
    errors: Any
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def ask(self, do: str, note: str = "", **arguments: Any) -> Any:
        """Sends a command; its processor time is filed under `note`, if there is one."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            reply = json.loads(self.process.stdout.readline())
        except (OSError, ValueError):
            self.errors.seek(0)
            lines = self.errors.read().decode(errors="replace").strip().splitlines()
            raise UserError(
                f"The benchmark's {self.name} side ended at '{do}'.",
                why=lines[-1] if lines else "it said nothing",
                fix="check that interpreter: hf-libero 0.1.4, robosuite 1.4.0, mujoco 3.3.2, gymnasium, torch"
                if self.name == "reference"
                else "run `handeye sim check`",
            ) from None
        if note:
            self.seconds.setdefault(note, []).append(reply["cpu"])
        return reply["value"]

    def median(self, note: str) -> float:
        return statistics.median(self.seconds[note])

    def memory(self) -> dict[str, float]:
        """Megabytes of the process now: resident, and with shared pages divided among their users."""
        rows = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()
        found = {row.split(":")[0]: float(row.split()[1]) / 1024 for row in rows[1:]}
        return {"rss": found["Rss"], "pss": found["Pss"]}

    def end(self) -> None:
        self.process.kill()
        with suppress(BrokenPipeError), self.process, self.errors:
            pass  # closing the pipe writes what was not read, which may find nobody there


def run(config: BenchSimConfig) -> Path | None:
    backend = rendering.choose(config.backend)
    with _sides(config, backend) as sides:
        steps = {task: _control_step(task, sides, config.blocks) for task in config.tasks}
    cameras = {}
    for task in config.tasks:
        with _sides(config, backend) as sides:  # anew, so that memory is that of one task
            cameras[task] = _with_cameras(task, sides, config)
    _show(config, steps, cameras)
    if config.json is None:
        return None
    write_json(config.json, {"control_step": steps, "cameras": cameras, "provenance": provenance(("numpy", "mujoco"))})
    return config.json


@contextmanager
def _sides(config: BenchSimConfig, backend: str) -> Iterator[list[Side]]:
    """Ours, and the reference if there is one."""
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    sides = [_start("ours", [sys.executable, "-m", "handeye.sim.bench_ours", backend], core, backend)]
    try:
        if config.reference:
            script = Path(__file__).with_name("bench_reference.py")
            command = [str(config.reference), "-W", "ignore", str(script), str(assets.libero_assets())]
            sides.append(_start("reference", command, core, backend))
        yield sides
    finally:
        for side in sides:
            side.end()


def _start(name: str, command: list[str], core: int | None, backend: str) -> Side:
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
    graphics = {"MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    environment = {**os.environ, **threads, **graphics, "OPENBLAS_CORETYPE": "Haswell", "LP_NUM_THREADS": "1"}
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
    process = subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload]
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    return Side(name=name, process=process, errors=errors)


def _control_step(task: str, sides: list[Side], blocks: int) -> dict[str, Any]:
    """Milliseconds per control step without cameras."""
    console.say(f"{task}: control step")
    suite, index = task.split("/")
    which: dict[str, Any] = {"suite": suite, "task": int(index), "size": SIZE, "cameras": False}
    actions = np.random.RandomState(0).uniform(-0.5, 0.5, (blocks + 1, BLOCK, 7)).tolist()
    ours, *reference = sides
    result: dict[str, Any] = {"ms": {}}
    for side in reference:
        side.ask("open", **which)
    for arithmetic in ("bitwise", "fast"):
        ours.ask("open", **which, arithmetic=arithmetic)
        result[f"ours, {arithmetic}"] = ours.ask("about")
        for number, block in enumerate(actions):
            warm = number > 0  # the first block compiles and touches memory
            ours.ask("steps", f"{task} {arithmetic}" if warm else "", actions=block)
            ours.ask("floor", f"{task} floor" if warm else "", steps=BLOCK)
            for side in reference if arithmetic == "bitwise" else ():
                side.ask("steps", f"{task} reference" if warm else "", actions=block)
        ours.ask("close")
    for side in reference:
        side.ask("close")
    notes = {"ours, bitwise": "bitwise", "ours, fast": "fast", "floor: 25 mj_step": "floor"}
    for name, note in notes.items():
        result["ms"][name] = 1e3 * ours.median(f"{task} {note}") / BLOCK
    for side in reference:
        result["ms"]["reference"] = 1e3 * side.median(f"{task} reference") / BLOCK
    return result


def _with_cameras(task: str, sides: list[Side], config: BenchSimConfig) -> dict[str, Any]:
    """Start, episodes and memory, with two cameras. States are compared after every block."""
    console.say(f"{task}: start, episodes and memory with two {SIZE} x {SIZE} cameras")
    suite, index = task.split("/")
    which: dict[str, Any] = {"suite": suite, "task": int(index), "size": SIZE, "cameras": True}
    blocks = max(2, config.blocks // 2)
    actions = np.random.RandomState(1).uniform(-0.5, 0.5, (blocks, CHUNK, 7)).tolist()
    for side in sides:  # libraries are loaded and compiled
        side.ask("open", **{**which, "cameras": False})
        side.ask("close")
    uses = ["first use"] + ["second use"] * OPENINGS
    for number, note in enumerate(uses, start=1):
        for side in sides:
            side.ask("open", note, **which)
            if number < len(uses):
                side.ask("close")
    for _ in range(2):
        for side in sides:
            side.ask("start", "start", initial_state=0, settle=SETTLE_STEPS)
    equal = 0
    for block in actions:
        for side in sides:
            side.ask("steps", "chunk", actions=block)
        states = [side.ask("state") for side in sides]
        equal += all(state == states[0] for state in states)
    result: dict[str, Any] = {"blocks": blocks, "blocks with equal bits": equal if len(sides) > 1 else None}
    for side in sides:
        seconds = side.median("start") + side.median("chunk") * config.horizon / CHUNK
        result[side.name] = {
            "first use, s": side.median("first use"),
            "second use, s": side.median("second use"),
            "start of an episode, s": side.median("start"),
            f"chunk of {CHUNK}, s": side.median("chunk"),
            "episodes per minute": 60 / seconds,
            "memory, MB": side.memory() if Path("/proc").is_dir() else None,
        }
    return result


def _show(config: BenchSimConfig, steps: dict[str, Any], cameras: dict[str, Any]) -> None:
    compared = config.reference is not None
    columns = ["control step, ms", "floor", "fast", "bitwise"] + ["reference", "fast", "bitwise"] * compared
    rows = []
    for task, found in steps.items():
        ms = found["ms"]
        row = [task, *(f"{ms[name]:.2f}" for name in ("floor: 25 mj_step", "ours, fast", "ours, bitwise"))]
        if compared:
            ratios = (f"{ms['reference'] / ms[name]:.1f}x" for name in ("ours, fast", "ours, bitwise"))
            row += [f"{ms['reference']:.2f}", *ratios]
        rows.append(row)
    console.table("", columns, rows)
    console.say(f"  {next(iter(steps.values()))['ours, bitwise']}; {next(iter(steps.values()))['ours, fast']}")
    console.say()
    for task, found in cameras.items():
        rows = _camera_rows(found["ours"], found.get("reference"))
        title = f"{task}, two {SIZE} x {SIZE} cameras, {config.backend}"
        console.table("", [title, "ours"] + ["reference", "ratio"] * compared, rows)
        if compared:
            equal, blocks = found["blocks with equal bits"], found["blocks"]
            console.say(f"  states equal to the last bit after {equal} of {blocks} chunks")
    console.say(
        f"  an episode: reset, {SETTLE_STEPS} settle steps, {config.horizon} steps in chunks of {CHUNK}, no policy time"
    )


def _camera_rows(ours: dict[str, Any], reference: dict[str, Any] | None) -> list[list[str]]:
    rows = []
    for name in ours:
        if name == "memory, MB":
            continue
        row = [name, f"{ours[name]:.3g}"]
        if reference:
            ratio = ours[name] / reference[name] if "per minute" in name else reference[name] / ours[name]
            row += [f"{reference[name]:.3g}", f"{ratio:.1f}x"]
        rows.append(row)
    for kind in ("rss", "pss") if ours["memory, MB"] else ():
        row = [f"memory of the process, MB {kind.upper()}", f"{ours['memory, MB'][kind]:.0f}"]
        if reference:
            theirs = reference["memory, MB"][kind]
            row += [f"{theirs:.0f}", f"{theirs / ours['memory, MB'][kind]:.1f}x"]
        rows.append(row)
    return rows
