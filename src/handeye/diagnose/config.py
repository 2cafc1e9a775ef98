"""What `handeye diagnose` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.errors import UserError
from handeye.sim.config import Backend


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig:
    """Find out why a policy fails, with evidence: on demonstrations that it should know, and in the simulator. Ends
    with 0 if nothing is found, 1 if something is."""

    policy: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A checkpoint's folder, or any other address that `handeye evaluate` takes (ws://HOST:PORT, lerobot:PATH)."""

    dataset: Path
    """Demonstrations that it was trained on, or of the same kind, in any format."""

    suite: str | None = None
    """Also look in this suite's simulator: tabletop, libero_spatial, ... Default: demonstrations alone."""

    protocol: str = "handeye-2026"
    """The one that it failed under."""

    questions: int = 64
    """Steps of demonstrations that it is asked about, spread evenly. About 35 times as many forward passes."""

    episodes: int = 2
    """In the simulator: so many by the expert, at whose states the policy is asked, and as many by the policy."""

    steps: int = 150
    """Actions of each of these, at most."""

    out: Path = Path("diagnosis")
    """Folder for the pictures of what the policy saw, and diagnosis.json."""

    device: str = "auto"
    """Where a checkpoint computes."""

    rows: int | None = None
    """Observations that a checkpoint's model computes at once. Default: as it is evaluated."""

    backend: Backend = "auto"
    """Graphics library."""

    allow_mujoco: bool = False
    """Look although MuJoCo is outside the supported range."""

    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        for name, least in (("questions", 16), ("episodes", 1), ("steps", 8)):
            if getattr(self, name) < least:
                raise UserError(
                    f"--{name} {getattr(self, name)} is too few to tell anything.", fix=f"use --{name} {least} or more"
                )
