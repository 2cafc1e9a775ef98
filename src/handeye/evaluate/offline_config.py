"""What `handeye evaluate-offline` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.compute.config import Attention, Precision
from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """How near are a policy's answers to demonstrations that it was not trained on, and what does it look at? Each
    figure beside that of the best constant answer. Not a rate of success: `handeye evaluate` gives that."""

    policy: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """A checkpoint, or any other policy that `handeye evaluate` takes."""

    dataset: Annotated[Path, Positional, arg(metavar="DATASET")]
    """Demonstrations in any format. Of the set that it was trained on, those held out; the checkpoint says which."""

    examples: int = 256
    """Steps that it is asked at, spread evenly over the demonstrations."""

    sensitivity: int = 64
    """Steps at which pictures, sentence and state are swapped with another step's, each in turn: about seven more
    answers for each. 0: none."""

    batch: int = 16
    """Questions asked together."""

    attention: Attention = "auto"
    """As of `handeye evaluate`."""

    precision: Precision = "auto"
    """As of `handeye evaluate`."""

    rows: int | None = None
    """As of `handeye evaluate`."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes the first GPU if there is one."""

    out: Path | None = None
    """Also write the result there, as JSON."""

    json: bool = False
    """Print one JSON object instead of tables."""

    def __post_init__(self) -> None:
        for name in ("examples", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)} is too few.", fix=f"use --{name} 1 or more")
        if self.sensitivity < 0:
            raise UserError(f"--sensitivity {self.sensitivity} is no number of steps.", fix="use 0 or more")
