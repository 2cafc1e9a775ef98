"""metrics.jsonl: one line per logged step and per validation. Plots, tables and other trackers read this."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handeye.records import append_line, read_lines, write_bytes
from handeye.train.trackers import Send, numbers

FILE = "metrics.jsonl"
TIMES = ("seconds",)
"""Fields that differ between two equal runs."""


@dataclass
class Metrics:
    """Appends to a run's metrics; seconds of training are counted across interruptions."""

    folder: Path
    before: float = 0.0
    """Seconds spent before this process took over."""

    trackers: Sequence[Send] = ()
    silent: bool = False
    """In all processes but the first."""

    _started: float = field(default_factory=time.perf_counter, init=False)

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self._started

    def log(self, kind: str, step: int, **values: object) -> None:
        if self.silent:
            return
        append_line(self.folder / FILE, {"kind": kind, "step": step, **values, "seconds": round(self.seconds, 3)})
        for send in self.trackers:
            send(kind, step, numbers(values))


def rewind(folder: Path, step: int) -> None:
    """Drop what was logged after `step`: training goes on from there and will log it again."""
    path = folder / FILE
    if path.exists():
        kept = [line for line in read_lines(path) if line["step"] <= step]
        write_bytes(path, "".join(json.dumps(line, sort_keys=True) + "\n" for line in kept).encode())
