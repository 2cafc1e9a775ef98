"""What `handeye fetch demos` and `fetch xvr` are configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handeye.errors import UserError

Kind = Literal["hdf5", "rlds", "lerobot"]
Suite = Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90", "all"]


@dataclass(frozen=True, kw_only=True)
class Download:
    """What every download from the hub can be told."""

    out: Path
    revision: str = ""
    """Branch, tag or commit. The commit it means at first is written down, and the folder stays with it."""

    workers: int = 8
    """Files at once."""

    dry_run: bool = False
    """Ask the hub what it has, say how large that is, and write nothing."""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 64:
            raise UserError(f"--workers {self.workers} is not possible.", fix="use 1 to 64")


@dataclass(frozen=True, kw_only=True)
class FetchDemosConfig(Download):
    """Bring published LIBERO demonstrations from the hub, whole and checked, and go on where a download was cut.

    $HF_ENDPOINT names a mirror, $HF_TOKEN (or `hf auth login`) a login, $HF_HUB_OFFLINE=1 forbids the network.
    """

    source: Kind
    """`hdf5`: LIBERO's own files, 128 pixels, with simulator states. `rlds`: without no-ops, 256 pixels, what OpenVLA
    trains on. `lerobot`: the same as parquet or video. `docs/data/fetch.md` lists them."""

    suite: tuple[Suite, ...]
    """One or more; `all`: every suite that the source has."""

    repo: str = ""
    """OWNER/NAME of another data set of the same layout. Default: the source's first that has each suite by itself."""

    out: Path = Path("demos")
    """Each data set goes into OUT/OWNER/NAME."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.suite:
            raise UserError("--suite names no suite.", fix="name one or more, or `all`")
        if self.repo and not re.fullmatch(r"[\w.-]+/[\w.-]+", self.repo):
            raise UserError(f"--repo {self.repo!r} is not a name of the hub.", fix="give OWNER/NAME")


@dataclass(frozen=True, kw_only=True)
class FetchXvrConfig(Download):
    """Bring XVR: 108,650 questions about 396,320 pictures, about 80 GB, whole and checked."""

    repo: str = "Jaehwisong/XVR"
    """OWNER/NAME of the data set, or of another one of the same layout."""

    questions_only: bool = False
    """The questions without their pictures: train.jsonl, valid.jsonl, xvr_eval.jsonl."""

    out: Path = Path("data")
    """It goes into OUT/OWNER/NAME."""
