"""What `handeye bench eval` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.errors import UserError
from handeye.sim.config import Backend

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True)
class BenchEvalConfig:
    """How fast is an evaluation: episodes per minute against a faithful sequential loop, which resets, renders and asks
    as the published scripts do, with the same policy, episodes and machine, in turns. Only ratios mean anything."""

    policy: Annotated[Positional[str], arg(metavar="POLICY")] = UNTRAINED
    """A checkpoint, or `untrained`: the default family with random weights, whose episodes all last to the horizon."""

    suite: str = "tabletop"
    """As in `handeye evaluate`."""

    task: int = 0
    """Index of the task."""

    episodes: int = 8
    """Of a block, from the first so many initial states. Every way of running them runs the same ones."""

    rounds: int = 3
    """Blocks of each way, taking turns."""

    workers: tuple[int, ...] = (2,)
    """Simulator processes of the engine; several numbers are measured one after the other."""

    protocol: str = "handeye-2026"
    """Horizon, settling, cameras."""

    camera_size: int = 128
    """Of the untrained policy; a checkpoint has its own."""

    batch: int = 16
    """As in `handeye evaluate`."""

    wait_ms: float = 0.0
    """As in `handeye evaluate`."""

    rows: int | None = None
    """As in `handeye evaluate`."""

    backend: Backend = "auto"
    """Graphics library of all ways."""

    model: bool = False
    """Also calibrate the queueing model here, compare it with what was measured, and say what it expects of more cores
    and of one GPU."""

    latency_ms: tuple[float, float] = (50.0, 22.0)
    """With --model, of the GPU: a batch of n takes the first number plus n times the second. The default is a policy of
    7 B on an H100 (CogACT: 13.8 questions/s one by one, 39 in batches of 16; vla-eval's own figures)."""

    json: Path | None = None
    """Also write every figure to this file."""

    def __post_init__(self) -> None:
        counts = {"episodes": self.episodes, "rounds": self.rounds, "batch": self.batch, "rows": self.rows}
        for flag, value in counts.items():
            if value is not None and value < 1:
                raise UserError(f"--{flag} {value} is too few.", fix=f"use --{flag} 1 or more")
        if not self.workers or min(self.workers) < 1:
            raise UserError("--workers names no number of workers.", fix="use --workers 2, or several: --workers 1 2 4")
        if min(self.latency_ms) < 0 or max(self.latency_ms) <= 0:
            raise UserError(f"--latency-ms {self.latency_ms} is no time.", fix="give two numbers, such as 50 22")
