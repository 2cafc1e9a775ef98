"""The border of every demonstration format: a `Source` is read, a `Writer` writes, and both speak of `Episode`.

Whatever a set looks like on the disk (bottom row first, turned, observed after the action, JPEG, video), a source hands
out upright images, each action with what was seen before it, and says in `stored` how it lay there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from handeye.conventions.image import Orientation
from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.transfer import remote
from handeye.types import Episode

Format = Literal["hdf5", "rlds", "lerobot"]
Observed = Literal["before", "after"]


@dataclass(frozen=True, kw_only=True)
class EpisodeRef:
    """Where one demonstration is, and what may be known without reading it."""

    id: str
    """Unique in its set: `libero_goal/turn_on_the_stove/demo_3`."""

    task: str
    """The id without the demonstration's own name, or the sentence's words where a format knows no task names."""

    prompt: str
    length: int
    """Steps of the episode that `Source.load` returns."""

    where: Mapping[str, Any]
    """The format's own address; JSON values, paths relative to the set's root."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How a set lies on the disk, before its reader turned it into our conventions."""

    format: Format
    version: str
    """`raw`, `regenerated` or `handeye` (HDF5); `1.0.0` (RLDS); `v2.0`, `v2.1`, `v3.0` (LeRobot)."""

    orientation: Orientation
    codec: str
    """`raw` or `gzip` (HDF5), `jpeg`, `png`, or a video codec: `av1`, `h264`."""

    observed: Observed
    """Whether what stands in an action's row was seen before or after that action."""

    lacks: tuple[str, ...]
    """What an Episode can hold and this set does not, in words: "simulator states", "joints"."""


@runtime_checkable
class Source(Protocol):
    """A set of demonstrations, read when asked for. Opening one reads what is small and checks it; NaN, broken pictures
    and the like are found by `load`. Every defect is a UserError that names the place. A worker opens it again."""

    @property
    def root(self) -> Path: ...

    @property
    def specs(self) -> Specs:
        """What the numbers of its episodes mean. Images are upright; their size is the stored one."""
        ...

    @property
    def stored(self) -> Stored: ...

    @property
    def episodes(self) -> tuple[EpisodeRef, ...]:
        """In the set's own order."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """Odd, but no reason to refuse the set."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that `load` may read, sorted: their bytes are the set's identity."""
        ...

    def load(self, ref: EpisodeRef, *, images: bool = True) -> Episode:
        """All of one demonstration."""
        ...

    def frames(self, ref: EpisodeRef, steps: Sequence[int]) -> dict[str, UInt8[np.ndarray, "n H W 3"]]:
        """Camera -> upright pictures of these steps, at the cost of these steps alone where the codec allows it."""
        ...

    def stored_vectors(self, ref: EpisodeRef) -> tuple[Float[np.ndarray, "N A"], Float[np.ndarray, "N S"]]:
        """(actions, proprio) row by row as they lie there, none left out or moved: what published statistics count."""
        ...


@runtime_checkable
class Writer(Protocol):
    """A format that can be written, in two halves, so that many workers can write and a killed conversion goes on:
    each episode is encoded into a part of its own, and the parts are assembled without being decoded."""

    @property
    def format(self) -> Format: ...

    @property
    def drops(self) -> tuple[str, ...]:
        """What an Episode may hold and this format cannot, in words."""
        ...

    def encode(self, episode: Episode, part: Path) -> None:
        """Write `part` (a file), whole or not at all. The same episode gives the same bytes."""
        ...

    def assemble(self, parts: Sequence[Path], out: Path) -> None:
        """Make the set in the new folder `out` from parts in order. The caller renames it when it is complete."""
        ...


READERS: Mapping[Format, str] = {
    "hdf5": "handeye.data.hdf5.source:Hdf5Source",
    "rlds": "handeye.data.rlds.source:RldsSource",
    "lerobot": "handeye.data.lerobot.source:LeRobotSource",
}
"""Format -> a class that is made with the set's root."""


def format_of(root: Path) -> Format:
    """Told from the files that are there. UserError where they are none of ours."""
    if not root.exists():
        raise UserError(f"{root} does not exist.", fix="check the path, or make demonstrations with `handeye demos`")
    if root.is_file():
        return "hdf5"
    found: list[Format] = []
    if any(_below(root, "meta/info.json")) or any(_below(root, "meta/tasks.jsonl")):
        found.append("lerobot")
    if any(_below(root, "features.json")) or any(_below(root, "dataset_info.json")):
        found.append("rlds")
    if any(not path.name.startswith(".") for path in root.rglob("*.hdf5")):
        found.append("hdf5")
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{root} holds sets of several formats: {', '.join(found)}.",
            why="which one is meant cannot be guessed",
            fix="name the folder of one of them",
        )
    xvr = any(root.glob("*.jsonl"))
    raise UserError(
        f"{root} holds no demonstrations.",
        why="it has questions about pictures (JSON lines), not demonstrations"
        if xvr
        else "there is no *.hdf5, no TFDS folder (dataset_info.json) and no LeRobot folder (meta/info.json) in it",
        fix="check the path, or make demonstrations with `handeye demos`",
    )


def open_source(root: Path) -> Source:
    """Whatever format `root` is: a folder of HDF5 files or one of them, a TFDS folder or one that holds several, a
    LeRobot folder or one that holds several. Where it is a URL, a copy is made first."""
    url = remote.url_of(root)
    root = root if url is None else remote.tree(url)
    module, _, name = READERS[format_of(root)].partition(":")
    source: Source = getattr(import_module(module), name)(root)
    return source


def _below(root: Path, name: str, depth: int = 3) -> list[Path]:
    """`root/name`, `root/*/name`, ...: a set lies at most three folders deep (suite, version, split)."""
    return [path for level in range(depth + 1) for path in root.glob("*/" * level + name)]
