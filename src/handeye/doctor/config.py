"""What `handeye doctor` is configured with. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Topic = Literal["environment", "gpu", "attention", "simulator", "given", "disk", "network"]
Machine = Literal["here", "colab-t4", "sciserver-40gb", "vast-l40s", "a100", "cpu"]


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
