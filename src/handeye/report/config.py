"""What `handeye report` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.errors import UserError
from handeye.evaluate.study_config import require_share
from handeye.transfer.remote import url_of


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """One page about one or several evaluations. Those on one suite are compared with the first of them. The page loads
    nothing from anywhere; it can be sent, printed and read on a phone."""

    runs: Annotated[tuple[Path, ...], Positional, arg(metavar="DIR [DIR ...]")]
    """Directories that `handeye evaluate` wrote, finished or not; here or at URLs."""

    out: Path | None = None
    """The page. Default: report.html in the first directory (where that is at a URL, here), or index.html in
    --assets."""

    assets: Path | None = None
    """A folder for copies of the videos, which the page then loads one by one when they are looked at. For many videos,
    or to put on a server: the folder and the page are all that is needed."""

    embed_mb: float = 40.0
    """Without --assets: megabytes of videos inside the page. What does not fit is linked, relative to the page."""

    margin: float | None = None
    """Differences smaller than this do not matter to you: makes the verdict `equivalent` possible. To be chosen before
    looking; 0.02 is two points."""

    alpha: float = 0.05
    """Chance of a wrong verdict, over all comparisons of the page together (Holm)."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("No evaluation was named.", fix="handeye report runs/eval-...")
        if len({folder.resolve() for folder in self.runs}) < len(self.runs):
            raise UserError("An evaluation is named twice.", fix="name each once")
        if not self.embed_mb >= 0:  # NaN too
            raise UserError(f"--embed-mb {self.embed_mb} is less than nothing.", fix="use 0 to link every video")
        require_share("--margin", self.margin)
        require_share("--alpha", self.alpha)

    @property
    def page(self) -> Path:
        if self.out is not None:
            return self.out
        if self.assets is not None:
            return self.assets / "index.html"
        return Path("report.html") if url_of(self.runs[0]) else self.runs[0] / "report.html"
