"""What the `handeye data` verbs are configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.errors import UserError

Set = Annotated[Path, Positional, arg(metavar="DIR")]
SuiteName = Literal["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90", "none"]


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Is this set of demonstrations what it says it is? Exit code 0: sound; 1: something is odd; 2: do not use it."""

    root: Set
    """A folder of HDF5 files, a TFDS folder, a LeRobot folder, or a folder of questions about pictures (XVR)."""

    suite: SuiteName | None = None
    """Compare counts and lengths with the published sets of this suite. Default: told from the folder's name; `none`: a
    set of your own."""

    quick: bool = False
    """Leave the pictures out: counts, vectors and language only."""

    workers: int = 2
    """Processes. The findings do not depend on it."""

    json: bool = False
    """Print one JSON object instead of a table."""

    def __post_init__(self) -> None:
        _at_least_one(workers=self.workers)


@dataclass(frozen=True, kw_only=True)
class StatsConfig:
    """Mean, deviation, range and 1 % and 99 % quantiles of actions and proprioception, exact."""

    root: Set
    """A set of demonstrations of any format."""

    as_stored: bool = False
    """Count every row as it lies there, in float64: the definition of the published statistics. Otherwise each action
    stands with what was seen before it, which leaves one row of a raw HDF5 demonstration out."""

    gripper: Literal["stored", "openvla"] = "stored"
    """`openvla`: of the gripper after 1 - clip(gripper, 0, 1), as in the statistics of published checkpoints."""

    name: str | None = None
    """The key under which a dataset_statistics.json holds them. Default: the folder's name."""

    out: Path | None = None
    """Also write them there, in the form of OpenVLA's dataset_statistics.json."""

    json: bool = False
    """Print that instead of a table."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """What is in a set: tasks with their sentences, episodes and lengths."""

    root: Set
    """A set of demonstrations of any format."""

    out: Path | None = None
    """Also write one JSON line per episode there: id, task, prompt, length, and where it is."""

    json: bool = False
    """Print these lines instead of a table."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """One demonstration to look at: a contact sheet with its actions plotted, and a video of its cameras."""

    root: Set
    """A set of demonstrations of any format."""

    episode: Annotated[str, Positional, arg(metavar="EPISODE")] = "0"
    """Its id, or its number in the set's order."""

    out: Path | None = None
    """Folder for the two files. Default: shown/."""

    columns: int = 8
    """Pictures in a row of the contact sheet; one row per camera."""

    def __post_init__(self) -> None:
        _at_least_one(columns=self.columns)


def _at_least_one(**flags: int) -> None:
    for flag, value in flags.items():
        if value < 1:
            raise UserError(f"--{flag.replace('_', '-')} {value} is too few.", fix="use 1 or more")
