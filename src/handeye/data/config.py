"""What the `handeye data` verbs are configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.errors import UserError

Set = Annotated[Path, Positional, arg(metavar="DIR")]
Way = Literal["auto", "memory", "cache", "stream"]
"""To hold what training sees of every step: data/loading/frames.py."""

Ends = Literal["pad", "drop", "repeat"]
"""What becomes of chunks that reach past the end of their episode: data/loading/index.py."""

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


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Any format into any other. Killed, the same command goes on, to the same bytes."""

    root: Set
    """A set of demonstrations of any format."""

    target: Annotated[Path, Positional, arg(metavar="DST")]
    """The new set's folder. It appears when it is complete."""

    to: Literal["hdf5", "rlds", "lerobot"]
    """LIBERO's HDF5 files, a TFDS folder, or a LeRobot folder."""

    drop_no_ops: bool = False
    """Leave out steps in which the arm stands still and the gripper is commanded as before: the rule of the published
    "no_noops" sets."""

    successes: bool = False
    """Leave out episodes that are known not to end in success."""

    hdf5_images: Literal["gzip", "raw"] = "gzip"
    """--to hdf5: pictures compressed, or as they are, like LIBERO's own: several times the size, and single frames are
    read several times as fast."""

    name: str | None = None
    """--to rlds: the name of a data set whose tasks lie in no folder of their own. Default: DST's."""

    lerobot_version: Literal["v2.0", "v2.1", "v3.0"] = "v2.1"
    """--to lerobot: v2.1 is what openpi reads, v3.0 what lerobot 0.4 and later write."""

    lerobot_images: Literal["png", "av1", "h264"] = "png"
    """--to lerobot: pictures in the tables, without loss, or one video per camera."""

    lerobot_keys: Literal["openpi", "lerobot"] = "openpi"
    """--to lerobot: `image`, `wrist_image`, `state`, `actions`, or `observation.images.image`, ..., `action`."""

    replay: bool = False
    """Go through each episode again in our simulator and record what is seen then: the rule of the published "no_noops"
    sets, with --drop-no-ops. Episodes that do not succeed again are left out. From HDF5 only."""

    camera_size: int | None = None
    """With --replay: height and width of the new pictures. Default: those of the source."""

    suite: str | None = None
    """With --replay: where the tasks' names occur in several suites."""

    workers: int = 2
    """Processes. The bytes do not depend on it."""

    def __post_init__(self) -> None:
        _at_least_one(workers=self.workers)
        if self.camera_size is not None and not self.replay:
            raise UserError(
                "--camera-size was given without --replay.",
                why="pictures of another size are made by the simulator, not by scaling",
                fix="add --replay, or leave it out",
            )


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Do recorded demonstrations still succeed in this simulator? Exit code 1 if one does not."""

    root: Set
    """A set of HDF5 demonstrations: other formats hold no simulator states to begin from."""

    suite: str | None = None
    """Where the tasks' names occur in several suites."""

    episodes: int | None = None
    """The first so many of each task. Default: all."""

    workers: int = 2
    """Simulator processes. The results do not depend on it."""

    out: Path | None = None
    """Also write a JSON file with one record per episode."""

    json: bool = False
    """Print that instead of a table."""

    def __post_init__(self) -> None:
        _at_least_one(workers=self.workers, episodes=1 if self.episodes is None else self.episodes)


@dataclass(frozen=True, kw_only=True)
class BenchDataConfig:
    """Samples per second and core, as training gets them and as a naive loop (and lerobot) would: two cameras, decoded
    and resized, with the actions that follow."""

    root: Annotated[Path | None, Positional, arg(metavar="DIR")] = None
    """A set of demonstrations of any format, of which some episodes are used. Default: made-up ones."""

    make: int = 6
    """Without DIR: so many made-up episodes."""

    episodes: int = 6
    """With DIR: so many of its episodes, evenly."""

    lerobot: Path | None = None
    """A Python interpreter with lerobot 0.4, to be measured beside it."""

    formats: tuple[Literal["raw", "gzip", "rlds", "png", "av1", "h264"], ...] = (
        "raw", "gzip", "rlds", "png", "av1", "h264",
    )  # fmt: skip
    """HDF5 as LIBERO publishes it and as we write it, RLDS with JPEG, LeRobot 3.0 with PNG and with video."""

    size: int = 224
    """Height and width of the model's pictures, in pixels."""

    resize: Literal["area", "bilinear", "bicubic", "lanczos"] = "area"
    """Of ours and of the naive loop, by Pillow; lerobot's is bilinear, by PyTorch."""

    chunk: int = 8
    """Actions per sample."""

    rounds: int = 7
    """Blocks of each, in turns."""

    keep: Path | None = None
    """Write the sets into this new folder and keep them. Default: a temporary one."""

    json: Path | None = None
    """Also write all figures there."""

    def __post_init__(self) -> None:
        _at_least_one(
            make=self.make, episodes=self.episodes, formats=len(self.formats), size=self.size, chunk=self.chunk,
            rounds=self.rounds,
        )  # fmt: skip


def _at_least_one(**flags: int) -> None:
    for flag, value in flags.items():
        if value < 1:
            raise UserError(f"--{flag.replace('_', '-')} {value} is too few.", fix="use 1 or more")
