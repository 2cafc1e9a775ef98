"""What `handeye demos` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from handeye.errors import UserError
from handeye.sim.config import Backend


@dataclass(frozen=True, kw_only=True)
class DemosConfig:
    """Record successful episodes of the scripted expert. The same command again goes on where it was killed."""

    suite: Positional[str]
    """tabletop, libero_spatial, libero_object, libero_goal, libero_10 or libero_90."""

    tasks: tuple[int, ...] = ()
    """Indices in the suite's order. Default: all."""

    per_task: int = 50
    """Demonstrations to keep of each task."""

    out: Path | None = None
    """Where the files go, one per task. Default: demos/SUITE."""

    workers: int = 2
    """Simulator processes. The demonstrations do not depend on it."""

    start: Literal["sampled", "stored"] = "sampled"
    """`sampled`: scenes drawn from the task's own placement regions, never those of an evaluation. `stored`: the
    suite's stored initial states, in turn."""

    initial_states: tuple[int, int] = (0, 50)
    """With --start stored: the first one, and one past the last."""

    seed: int = 0
    """Of scenes and of the expert's noise."""

    noise: float = 0.0
    """Scale of the noise on the expert's actions; 0: none."""

    speed: tuple[float, float] = (1.0, 1.0)
    """Each demonstration's speed is drawn from this range; 1: the expert's usual."""

    camera_size: int = 128
    """Height and width of the images, in pixels."""

    protocol: str = "handeye-2026"
    """Settling and horizon: the protocol that a policy trained on these will be evaluated under."""

    give_up: int = 3
    """A task gets this many attempts per demonstration asked for, and no more."""

    tries: int = 2
    """How often an attempt is tried when its worker dies, hangs or raises, before it counts as an error."""

    hang_after: float = 300.0
    """Seconds an attempt may take before its worker is killed."""

    worker_memory: float = 3.0
    """Gigabytes. A worker that holds more after an attempt is replaced; at twice as much it is killed at once."""

    arithmetic: Literal["bitwise", "fast"] = "bitwise"
    """`bitwise` repeats the reference's controller to the last bit; `fast` differs by less than 1e-9."""

    backend: Backend = "auto"
    """Graphics library: the first of EGL, OSMesa, GLFW that renders a frame, or the one named."""

    expert: str = "handeye.expert.solve:Expert"
    """Who acts, as `module:class`: made with (env, noise=, speed=, seed=), asked with `act()`."""

    def __post_init__(self) -> None:
        for flag, value in (
            ("per-task", self.per_task),
            ("workers", self.workers),
            ("give-up", self.give_up),
            ("tries", self.tries),
        ):
            if value < 1:
                raise UserError(f"--{flag} {value} is too few.", fix=f"use --{flag} 1 or more")
        if self.worker_memory <= 0:
            raise UserError(f"--worker-memory {self.worker_memory:g} is no memory.", fix="give gigabytes, such as 3")
        if self.noise < 0:
            raise UserError(f"--noise {self.noise} is negative.", fix="use 0 or more")
        if not 0 < self.speed[0] <= self.speed[1]:
            raise UserError(
                f"--speed {self.speed[0]} {self.speed[1]} is not a range of speeds.",
                fix="give the slowest and the fastest, such as --speed 0.8 1.2",
            )
        first, end = self.initial_states
        if not 0 <= first < end:
            raise UserError(
                f"--initial-states {first} {end} is not a range.",
                fix="give the first and one past the last, such as --initial-states 0 40",
            )
        if ":" not in self.expert:
            raise UserError(f"--expert {self.expert} names no class.", fix="write module:class")

    def folder(self) -> Path:
        return self.out if self.out is not None else Path("demos", self.suite)
