"""How fast training is fed: `handeye bench data`.

The same episodes are written in every format. Each way of reading them is a program of its own, pinned to one core and
one thread, that makes batches of rows that are drawn for all alike; they take turns. What counts is processor time, so
that a neighbour on a shared machine costs all alike; a figure is the median of the rounds, a ratio the median of the
rounds' ratios. Files are in the page cache: the disk is not measured.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from handeye import console
from handeye.data.bench.sets import ABOUT, SETS, Sets, prepare
from handeye.data.config import BenchDataConfig
from handeye.errors import UserError
from handeye.records import provenance, write_json

BATCH = 32
SECONDS = 0.5
"""Of processor time that a block takes about."""

BAR = 3.0
"""Times the naive loop on HDF5 as LIBERO publishes it."""

PIXELS, NUMBERS = 8.0, 1e-3
"""How far apart two sides may be in a picture's mean (codecs, filters) and in an action (float32)."""


@dataclass
class Side:
    """A program that makes batches."""

    name: str
    of: str
    """The set that it reads."""

    process: subprocess.Popen[str]
    errors: Any
    about: str = ""
    """What it says of itself."""

    count: int = BATCH
    """Samples per block."""

    blocks: list[dict[str, float]] = field(default_factory=list)

    def ask(self, rows: Sequence[int] | np.ndarray, *, show: bool = False) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"rows": list(map(int, rows)), "show": show}) + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self._gone() from None
        return self.hear()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        try:
            return dict(json.loads(self.process.stdout.readline()))
        except ValueError:
            raise self._gone() from None

    def _gone(self) -> UserError:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return UserError(
            f"The benchmark's side '{self.name}' ended on {self.of}.",
            why=lines[-1] if lines else "it said nothing",
            fix="check that interpreter: lerobot 0.4, torch, av" if self.name == "lerobot" else "report this",
        )

    def milliseconds(self) -> list[float]:
        """Per sample, round by round."""
        return [1e3 * block["cpu"] / self.count for block in self.blocks]

    def end(self) -> None:
        self.process.kill()
        with self.process, self.errors:
            pass


def run(config: BenchDataConfig) -> Path | None:
    with _folder(config.keep) as folder:
        sets = prepare(folder, config.root, config.episodes if config.root else config.make, _names(config))
        sides: list[Side] = []
        try:
            for side in _start(config, sets):
                sides.append(side)
                side.about = side.hear()["about"]
            _require_alike(sides, sets)
            _measure(sides, sets, config.rounds)
        finally:
            for side in sides:
                side.end()
        results = _results(sides)
        _show(config, sets, results)
        if config.json is not None:
            about = {"episodes": sets.episodes, "steps": sets.steps, "pixels": sets.size, "results": results}
            write_json(
                config.json, {**about, "provenance": provenance(("numpy", "h5py", "pillow", "simplejpeg", "av"))}
            )
    return config.json


def _names(config: BenchDataConfig) -> list[str]:
    return [name for name in SETS if name in config.formats]


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="handeye-bench-") as made:
            yield Path(made)
        return
    if keep.exists():
        raise UserError(f"{keep} exists already.", fix="name a new folder with --keep")
    keep.mkdir(parents=True)
    yield keep


def _start(config: BenchDataConfig, sets: Sets) -> Iterator[Side]:
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    size, chunk = str(config.size), str(config.chunk)
    ours, naive = ("handeye.data.bench.ours", "handeye.data.bench.naive")

    def begin(name: str, of: str, *command: str, interpreter: str = sys.executable) -> Side:
        threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(sets.folder / "hf"), "HANDEYE_HOME": str(sets.folder / "home")}
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            process = subprocess.Popen(
                [interpreter, "-W", "ignore", *command],
                env={**os.environ, **threads, **quiet},
                text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
            )  # fmt: skip
        except OSError as error:
            errors.close()
            raise UserError(f"{interpreter} cannot be run.", why=str(error), fix="name a Python interpreter") from None
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        return Side(name=name, of=of, process=process, errors=errors)

    def of_ours(name: str, of: str, way: str, augment: str = "plain") -> Side:
        cache = str(sets.folder / "cache")
        return begin(name, of, "-m", ours, str(sets.path(of)), way, cache, size, config.resize, chunk, augment)

    names = _names(config)
    for name in names:
        if name in ("raw", "gzip"):
            yield begin("naive", name, "-m", naive, str(sets.path(name)), size, config.resize, chunk)
        yield of_ours("stream", name, "stream")
        if name in ("png", "av1", "h264") and config.lerobot is not None:
            script = str(Path(__file__).with_name("by_lerobot.py"))
            yield begin("lerobot", name, script, str(sets.path(name)), size, chunk, interpreter=str(config.lerobot))
    yield of_ours("memory", names[0], "memory")
    yield of_ours("cache", names[0], "cache")
    yield of_ours("cache, augmented", names[0], "cache", "augment")


def _require_alike(sides: Sequence[Side], sets: Sets) -> None:
    """All sides hand out the same samples: else there is nothing to compare."""
    for row in (0, sets.steps // 2, sets.steps - 1):
        shown = [(side, side.ask([row], show=True)) for side in sides if not side.name.endswith("augmented")]
        first = shown[0][1]
        for side, found in shown[1:]:
            pixels = np.abs(np.subtract(found["means"], first["means"])).max()
            numbers = np.abs(np.subtract(found["actions"], first["actions"])).max()
            if pixels > PIXELS or numbers > NUMBERS:
                raise UserError(
                    f"The side '{side.name}' on {side.of} hands out another sample {row} than '{sides[0].name}' does.",
                    why=f"pictures are {pixels:.1f} levels apart on average, actions {numbers:.2g}",
                    fix="report this",
                )


def _measure(sides: Sequence[Side], sets: Sets, rounds: int) -> None:
    rng = np.random.default_rng(0)
    for side in sides:  # once to touch everything, once to know how much fits into a block
        side.ask(rng.integers(0, sets.steps, 8))
        taken = side.ask(rng.integers(0, sets.steps, 8))["cpu"] / 8
        side.count = max(8, min(64 * BATCH, int(SECONDS / max(taken, 1e-5)) // BATCH * BATCH))
    with console.progress("measuring", rounds * len(sides)) as advance:
        for _ in range(rounds):
            rows = rng.integers(0, sets.steps, 64 * BATCH)
            for side in sides:
                total = {"cpu": 0.0, "wall": 0.0}
                for start in range(0, side.count, BATCH):
                    answer = side.ask(rows[start : min(start + BATCH, side.count)])
                    total = {name: value + answer[name] for name, value in total.items()}
                side.blocks.append(total)
                advance()


def _results(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Of each side: milliseconds of one core per sample, and how many times as fast as others, in the same rounds."""
    by_name = {(side.name, side.of): side for side in sides}
    found = []
    for side in sides:
        cost = side.milliseconds()
        others = {"naive": by_name.get(("naive", "raw")), "lerobot": by_name.get(("lerobot", side.of))}
        ratios = {
            name: statistics.median(b / a for a, b in zip(cost, other.milliseconds(), strict=True))
            for name, other in others.items()
            if other is not None and other is not side
        }
        found.append({
            "way": side.name, "set": side.of, "about": side.about, "ms": statistics.median(cost), "rounds": cost,
            "wall_ms": statistics.median(1e3 * block["wall"] / side.count for block in side.blocks), "times": ratios,
        })  # fmt: skip
    return found


def _show(config: BenchDataConfig, sets: Sets, results: Sequence[Mapping[str, Any]]) -> None:
    console.say(
        f"{sets.episodes} episodes, {sets.steps} steps, two cameras of {sets.size} x {sets.size} to {config.size} x "
        f"{config.size} ({config.resize}), chunks of {config.chunk}, batches of {BATCH}; one core, one thread.\n"
        "ms: of that core's time for one sample. x naive: times as fast as h5py and Pillow on raw HDF5. x lerobot: as "
        "its own loader on the same files"
    )
    rows = []
    for one in results:
        encoded = one["way"].startswith(("memory", "cache"))
        where = "any" if encoded else ABOUT[one["set"]]
        size = "" if encoded else f"{1e3 * sets.megabytes(one['set']) / sets.steps:.0f}"
        times = [f"{one['times'][name]:.2f}" if name in one["times"] else "" for name in ("naive", "lerobot")]
        rows.append([where, one["about"] or one["way"], size, f"{one['ms']:.2f}", f"{1e3 / one['ms']:.0f}", *times])
    columns = ["set", "way", "kB/step", "ms", "samples/s", "x naive", "x lerobot"]
    console.table("", columns, rows)
    judged = [one for one in results if "naive" in one["times"] and one["way"] not in ("naive", "lerobot")]
    if judged:
        for verb, chosen in (
            ("at least", [one for one in judged if one["times"]["naive"] >= BAR]),
            ("less than", [one for one in judged if one["times"]["naive"] < BAR]),
        ):
            if chosen:
                named = (f"{one['way']} ({one['set']})" if one["way"] == "stream" else one["way"] for one in chosen)
                console.say(f"{verb} {BAR:g} times the naive loop on raw HDF5: {', '.join(named)}")
