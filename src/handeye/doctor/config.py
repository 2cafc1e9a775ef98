"""What `handeye doctor` is configured with. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handeye.errors import UserError

Topic = Literal["environment", "gpu", "attention", "simulator", "given", "disk", "network"]
Machine = Literal["here", "colab-t4", "sciserver-40gb", "rtx4090", "vast-l40s", "a100", "cpu"]


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Is this machine fit, and what should be used on it? Exit code 1 if anything fails; warnings do not count."""

    data: tuple[Path, ...] = ()
    """Sets of demonstrations to look at."""

    checkpoint: tuple[str, ...] = ()
    """Checkpoints to look at, as `handeye inspect` does."""

    topics: tuple[Topic, ...] = ()
    """These alone; all if none is named."""

    offline: bool = False
    """Ask nothing outside this machine."""

    port: int = 8000
    """Which `handeye serve` would use."""

    profile: Machine = "here"
    """Check nothing, and print what to use on this kind of machine: precision, attention, batch, times, commands."""

    json: bool = False
    """Print JSON for another program."""

    def __post_init__(self) -> None:
        named = [f"--{name}" for name in ("data", "checkpoint") if getattr(self, name)]
        if self.profile != "here":
            named += [f"--{name}" for name in ("topics", "offline") if getattr(self, name)]
            named += ["--port"] * (self.port != type(self).port)
            if named:
                raise UserError(
                    f"--profile {self.profile} goes without {' and '.join(named)}.",
                    why="a profile is what to use on such a machine: nothing is checked",
                    fix=f"leave out {' and '.join(named)}, or --profile",
                )
        elif named and self.topics and "given" not in self.topics:
            raise UserError(
                f"{' and '.join(named)} would not be looked at.",
                why=f"they are the topic 'given', and --topics is {' '.join(self.topics)}",
                fix=f"use --topics {' '.join(self.topics)} given",
            )
