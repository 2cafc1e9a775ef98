"""A LeRobot data set of LIBERO, or a folder that holds several, as a `Source`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from handeye.conventions import image, libero
from handeye.conventions.libero import ACTION, PROPRIO
from handeye.conventions.spec import Specs
from handeye.data import pictures
from handeye.data.lerobot.index import Index, Place, read_index
from handeye.data.lerobot.info import Info, bad
from handeye.data.lerobot.keys import JOINTS, SUCCESS
from handeye.data.lerobot.rows import read_rows
from handeye.data.lerobot.tables import Table
from handeye.data.lerobot.video import Video
from handeye.data.opened import OpenFiles
from handeye.data.source import EpisodeRef, Stored
from handeye.errors import UserError
from handeye.types import Episode

T = TypeVar("T")

MOST_VIDEOS = 8
"""That are open at a time, each with its decoder: both cameras' of a few files."""

MOST_BYTES = 2_000_000_000
"""Of the decoded pictures of one reading: 5,000 steps of two 256 x 256 cameras. A few bytes can declare any size."""


class LeRobotSource:
    """`episodes` is sorted by folder, then by episode_index. All sets must be of one version and image size."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sets = {folder.relative_to(root).as_posix(): read_index(folder) for folder in find_sets(root)}
        infos = [index.info for index in self._sets.values()]
        self._tables = OpenFiles(Table)
        self._videos = OpenFiles(self._open_video, most=MOST_VIDEOS)
        self._filmed = {path: of_file for index in self._sets.values() for path, of_file in _filmed(index).items()}
        height, width = _one(root, "image sizes", {(info.height, info.width) for info in infos})
        self.specs = Specs(action=ACTION, image=replace(libero.IMAGE, height=height, width=width), proprio=PROPRIO)
        joints, success = all(info.joints for info in infos), all(info.success for info in infos)
        held = {"simulator states": False, "joints": joints, "success": success}
        self.stored = Stored(
            format="lerobot",
            version=_one(root, "versions", {info.version for info in infos}),
            orientation=image.Orientation.TURNED_180,
            codec="+".join(sorted({self._codec(index) for index in self._sets.values()})),
            observed="before",
            lacks=tuple(name for name, there in held.items() if not there),
        )
        self.episodes = tuple(_ref(folder, at) for folder, index in self._sets.items() for at in index.places)
        self.warnings = tuple(f"{i.info.root}: {warning}" for i in self._sets.values() for warning in i.warnings)
        self.files = tuple(sorted({path for index in self._sets.values() for path in index.files}))

    def __reduce__(self) -> tuple[Any, ...]:
        return LeRobotSource, (self.root,)  # open files do not travel between processes

    def load(self, ref: EpisodeRef, *, images: bool = True) -> Episode:
        index, at = self._find(ref)
        columns = self._columns(index, at)
        joints, success = columns.get(JOINTS), columns.get(SUCCESS)
        return Episode(
            id=ref.id,
            task=ref.task,
            prompt=ref.prompt,
            images=self.frames(ref, range(at.length)) if images else {},
            proprio=columns[index.info.keys.state],
            actions=columns[index.info.keys.actions],
            joints=joints,
            success=None if success is None else bool(success[-1]),
            source={
                **ref.where,
                "file": at.data.relative_to(self.root).as_posix(),
                "row": at.row,
                "observed": "before",
            },
        )

    def frames(self, ref: EpisodeRef, steps: Sequence[int]) -> dict[str, UInt8[np.ndarray, "n H W 3"]]:
        """Of parquet, what lies before a step in its row group is unpacked too; of MP4, what follows its key frame."""
        index, at = self._find(ref)
        wanted, back = np.unique(np.asarray(steps, np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < at.length:
            raise IndexError(f"{ref.id} has {at.length} steps, not {wanted[0]} to {wanted[-1]}")
        if (total := len(wanted) * index.info.height * index.info.width * 3 * 2) > MOST_BYTES:
            raise bad(f"{ref.id} in {index.info.root}", f"its pictures take {total} bytes; {MOST_BYTES} are decoded")
        read = self._from_video if index.info.images == "video" else self._from_table
        stored = read(index, at, wanted.tolist())
        again: Any = slice(None) if np.array_equal(wanted, steps) else back  # in order and each once: no copy
        return {
            name: image.convert(found[again], source=image.Orientation.TURNED_180, target=image.Orientation.UPRIGHT)
            for name, found in stored.items()
        }

    def stored_vectors(self, ref: EpisodeRef) -> tuple[Float[np.ndarray, "N A"], Float[np.ndarray, "N S"]]:
        index, at = self._find(ref)
        columns = self._columns(index, at)
        return columns[index.info.keys.actions], columns[index.info.keys.state]

    def _find(self, ref: EpisodeRef) -> tuple[Index, Place]:
        index = self._sets[str(ref.where["folder"])]
        return index, index.places[int(ref.where["episode"])]

    def _columns(self, index: Index, at: Place) -> dict[str, np.ndarray]:
        with self._tables.use(at.data) as table:
            return read_rows(index, at, table)

    def _from_table(self, index: Index, at: Place, steps: list[int]) -> dict[str, np.ndarray]:
        info = index.info
        shape = (len(steps), info.height, info.width, 3)
        found = {name: np.empty(shape, np.uint8) for name in info.keys.cameras}
        with self._tables.use(at.data) as table:
            cells = table.pictures([at.row + step for step in steps], tuple(info.keys.cameras.values()))
            for place, (row, encoded) in enumerate(cells):
                where = f"step {row - at.row} of episode {at.number} of {info.root}"
                for name, key in info.keys.cameras.items():
                    pictures.decode(encoded[key], f"{key} in {where}", out=found[name][place])
        return found

    def _from_video(self, index: Index, at: Place, steps: list[int]) -> dict[str, np.ndarray]:
        found = {}
        for name, key in index.info.keys.cameras.items():
            path, first = at.videos[key]
            with self._videos.use(path) as video:
                found[name] = video.read([first + step for step in steps])
        return found

    def _open_video(self, path: Path) -> Video:
        info, frames = self._filmed[path]
        video = Video(path, fps=info.fps, size=(info.height, info.width))
        if video.frames and video.frames != frames:
            video.close()
            raise bad(path, f"it has {video.frames} frames; its episodes have {frames}")
        return video

    def _codec(self, index: Index) -> str:
        """Of the set's first picture."""
        info, at = index.info, index.places[0]
        key = info.keys.agentview
        if info.images == "video":
            with self._videos.use(at.videos[key][0]) as video:
                return video.codec
        with self._tables.use(at.data) as table:
            _, encoded = next(table.pictures([at.row], [key]))
            return pictures.header(encoded[key], f"{key} in step 0 of episode {at.number} of {info.root}").codec


def find_sets(root: Path) -> list[Path]:
    """Every folder with a set, from `root` itself to three levels below it."""
    marks = ("meta/info.json", "meta/tasks.jsonl", "meta/tasks.parquet")
    paths = [path for level in range(4) for mark in marks for path in root.glob("*/" * level + mark)]
    if paths:
        return sorted({path.parents[1] for path in paths})
    raise UserError(
        f"{root} holds no LeRobot set.",
        why="there is no meta/info.json in it or up to three folders below it",
        fix="check the path, or make demonstrations with `handeye demos`",
    )


def task_name(sentence: str) -> str:
    """The sentence's words, as LIBERO names its tasks: `turn_on_the_stove`. A plain file name, whatever it says."""
    return re.sub(r"[^\w.-]+", "_", sentence).strip("._") or "task"


def _ref(folder: str, at: Place) -> EpisodeRef:
    task = task_name(at.sentence) if folder == "." else f"{folder}/{task_name(at.sentence)}"
    return EpisodeRef(
        id=f"{task}/episode_{at.number}",
        task=task,
        prompt=at.sentence,
        length=at.length,
        where={"folder": folder, "episode": at.number},
    )


def _filmed(index: Index) -> dict[Path, tuple[Info, int]]:
    """Video file -> its set's info, and how many frames its episodes have."""
    frames: dict[Path, int] = {}
    for at in index.places:
        for path, _ in at.videos.values():
            frames[path] = frames.get(path, 0) + at.length
    return {path: (index.info, count) for path, count in frames.items()}


def _one(root: Path, what: str, values: set[T]) -> T:
    if len(values) > 1:
        raise UserError(
            f"The LeRobot sets in {root} are of different {what}.",
            why=", ".join(sorted(map(str, values))),
            fix="keep each kind in a folder of its own",
        )
    return values.pop()
