"""What `handeye report` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """One page about one or several evaluations, side by side. Can be read without the runs' folders."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="DIR [DIR ...]")]
    """Directories that `handeye evaluate` wrote, finished or not."""

    out: Path | None = None
    """The page. Default: report.html in the first directory."""

    embed_mb: float = 40.0
    """Megabytes of videos inside the page. What does not fit is linked, relative to the page."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("No evaluation was named.", fix="handeye report runs/eval-...")
        if self.embed_mb < 0:
            raise UserError(f"--embed-mb {self.embed_mb} is less than nothing.", fix="use 0 to link every video")
