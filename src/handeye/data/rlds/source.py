"""RLDS data sets, as TFDS writes them, as a `Source`; without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

from handeye.conventions import image, libero
from handeye.conventions.spec import Specs
from handeye.data import pictures
from handeye.data.opened import OpenFiles
from handeye.data.rlds import tfrecord
from handeye.data.rlds.features import (
    ACTIONS,
    FEATURES,
    FIRST,
    IMAGES,
    INFO,
    JOINTS,
    LAST,
    REWARD,
    STATE,
    TERMINAL,
)
from handeye.data.rlds.folder import Entry, Folder, flags, floats, open_folder, spans
from handeye.data.rlds.tfrecord import FileBytes, bad
from handeye.data.source import EpisodeRef, Stored
from handeye.errors import UserError
from handeye.types import Episode

T = TypeVar("T")

MOST_BYTES = 2_000_000_000
"""Of one episode's decoded pictures: 5,000 steps of two 256 x 256 cameras. A few bytes can declare any size."""

LARGEST = 1e9
"""No position or angle comes near it; NaN and infinity are refused by the same comparison."""


class RldsSource:
    """`root`: a version folder (`.../1.0.0`), a data set's folder, or one that holds several data sets. `episodes` is
    in the order of the folders' paths, then of shards and records. All must have one picture size."""

    def __init__(self, root: Path) -> None:
        self.root = root
        folders = [open_folder(path) for path in _find(root)]
        names = [folder.info.name for folder in folders]
        if twice := next((name for name in names if names.count(name) > 1), None):
            of = [str(folder.path) for folder in folders if folder.info.name == twice]
            raise UserError(
                f"{root} holds the data set {twice} {len(of)} times.",
                why=", ".join(of),
                fix="name the folder of the version that you mean",
            )
        self.warnings = tuple(f"{folder.path}: {warning}" for folder in folders for warning in folder.warnings)
        self.files = tuple(
            sorted(
                path
                for folder in folders
                for path in (folder.path / INFO, folder.path / FEATURES, *(s.path for s in folder.info.shards))
            )
        )
        (cameras, height, width) = _one(root, "cameras or picture sizes", {_pictures(folder) for folder in folders})
        self.specs = Specs(
            action=libero.ACTION,
            image=replace(libero.IMAGE, cameras=cameras, height=height, width=width),
            proprio=libero.PROPRIO,
        )
        held = {
            "simulator states": False,
            "joints": all(JOINTS in folder.features for folder in folders),
            "success": all({REWARD, TERMINAL} & set(folder.features) for folder in folders),
        }
        self.stored = Stored(
            format="rlds",
            version="+".join(sorted({folder.info.version for folder in folders})),
            orientation=image.Orientation.TURNED_180,
            codec="+".join(sorted({codec for folder in folders for codec in _codecs(folder)})),
            observed="before",  # nothing in a TFDS folder says it: docs/data/rlds.md
            lacks=tuple(name for name, there in held.items() if not there),
        )
        named = [(folder, entry) for folder in folders for entry in folder.entries]
        self.episodes = tuple(_ref(root, folder, entry) for folder, entry in named)
        self._stored = {ref.id: pair for ref, pair in zip(self.episodes, named, strict=True)}
        self._files = OpenFiles(FileBytes)
        self._checked: set[str] = set()
        self._places: dict[tuple[str, str], Int64[np.ndarray, "T 2"]] = {}

    def load(self, ref: EpisodeRef, *, images: bool = True) -> Episode:
        with self._opened(ref) as (file, folder, entry):
            actions, proprio = _vectors(file, entry)
            joints = _bounded(floats(file, entry, JOINTS), entry, JOINTS) if JOINTS in folder.features else None
            _check_ends(file, folder, entry)
            seen = self._decode(file, ref, entry, range(entry.length)) if images else {}
            success = _success(file, folder, entry)
        return Episode(
            id=ref.id,
            task=ref.task,
            prompt=ref.prompt,
            images=seen,
            proprio=proprio,
            actions=actions,
            joints=joints,
            success=success,
            source={**ref.where, "dataset": folder.info.name, "version": folder.info.version, "file_path": entry.file},
        )

    def frames(self, ref: EpisodeRef, steps: Sequence[int]) -> dict[str, UInt8[np.ndarray, "n H W 3"]]:
        with self._opened(ref) as (file, _, entry):
            return self._decode(file, ref, entry, steps)

    def stored_vectors(self, ref: EpisodeRef) -> tuple[Float[np.ndarray, "N A"], Float[np.ndarray, "N S"]]:
        with self._opened(ref) as (file, _, entry):
            return _vectors(file, entry)

    @contextmanager
    def _opened(self, ref: EpisodeRef) -> Iterator[tuple[FileBytes, Folder, Entry]]:
        """Nothing is handed out of a record before its checksum was compared, once in each process."""
        folder, entry = self._stored[ref.id]
        with self._files.use(entry.path) as file:
            if ref.id not in self._checked:
                tfrecord.check(file, entry.record, entry.where)
                self._checked.add(ref.id)
            yield file, folder, entry

    def _decode(
        self, file: FileBytes, ref: EpisodeRef, entry: Entry, steps: Sequence[int]
    ) -> dict[str, UInt8[np.ndarray, "n H W 3"]]:
        wanted, back = np.unique(np.asarray(steps, np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < entry.length:
            raise IndexError(f"steps {wanted[0]} to {wanted[-1]} of an episode with {entry.length}")
        spec = self.specs.image
        if (total := len(wanted) * spec.height * spec.width * 3 * len(spec.cameras)) > MOST_BYTES:
            raise bad(entry.where, f"its pictures would take {total} bytes; up to {MOST_BYTES} are decoded at once")
        seen = {}
        for camera in spec.cameras:
            name = IMAGES[camera]
            if (ref.id, camera) not in self._places:
                self._places[ref.id, camera] = spans(file, entry, name)
            frames = np.empty((len(wanted), spec.height, spec.width, 3), np.uint8)
            for frame, step in zip(frames, wanted, strict=True):
                start, stop = self._places[ref.id, camera][step].tolist()
                where = f"{entry.where}: {name}[{step}]"
                if stop - start > pictures.MOST_BYTES:
                    raise bad(where, f"it has {stop - start} bytes; up to {pictures.MOST_BYTES} are read")
                pictures.decode(file[start:stop], where, out=frame)
            seen[camera] = image.convert(
                frames if np.array_equal(back, np.arange(len(wanted))) else frames[back],
                source=image.Orientation.TURNED_180,
                target=image.Orientation.UPRIGHT,
            )
        return seen


def _find(root: Path) -> list[Path]:
    """The version folders in `root` or below it."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder.", fix="name the folder that holds dataset_info.json, or one above it")

    def folders(name: str) -> set[Path]:
        inside = (path.relative_to(root).parent for path in root.rglob(name))
        return {path for path in inside if not any(part.startswith(".") for part in path.parts)}

    found = folders(INFO)
    if lost := sorted(folders(FEATURES) - found):
        raise bad(str(root / lost[0]), f"it has {FEATURES} but no {INFO}")
    if not found:
        raise UserError(
            f"{root} holds no TFDS data set.", why=f"there is no {INFO} in it or below it", fix="check the path"
        )
    return [root / path for path in sorted(found)]


def _ref(root: Path, folder: Folder, entry: Entry) -> EpisodeRef:
    task = f"{folder.info.name}/{entry.task}"
    return EpisodeRef(
        id=f"{task}/{entry.split}_{entry.place}",
        task=task,
        prompt=entry.prompt,
        length=entry.length,
        where={"file": entry.path.relative_to(root).as_posix(), "record": entry.number},
    )


def _vectors(file: FileBytes, entry: Entry) -> tuple[Float32[np.ndarray, "T 7"], Float32[np.ndarray, "T 8"]]:
    """Actions, proprioception."""
    actions = _bounded(floats(file, entry, ACTIONS), entry, ACTIONS, low=libero.ACTION.low, high=libero.ACTION.high)
    return actions, _bounded(floats(file, entry, STATE), entry, STATE)


def _bounded(
    values: Float32[np.ndarray, "T w"], entry: Entry, name: str, *, low: float = -LARGEST, high: float = LARGEST
) -> Float32[np.ndarray, "T w"]:
    if (odd := np.argwhere(~((values >= low) & (values <= high)))).size:
        step, dimension = odd[0]
        raise bad(
            f"{entry.where}: {name}[{step}, {dimension}]",
            f"it is {values[step, dimension]}; such values lie in [{low:g}, {high:g}]",
        )
    return values


def _check_ends(file: FileBytes, folder: Folder, entry: Entry) -> None:
    """The record is one whole episode: it begins at its first step and ends at its last."""
    for name, place in ((FIRST, 0), (LAST, entry.length - 1)):
        if name in folder.features and (set_at := np.flatnonzero(flags(file, entry, name)).tolist()) != [place]:
            raise bad(f"{entry.where}: {name}", f"it is true at the steps {set_at[:5]} instead of step {place} alone")


def _success(file: FileBytes, folder: Folder, entry: Entry) -> bool | None:
    """The last reward, which LIBERO's sets give to demonstrations that reached the goal; without rewards, whether the
    last step ends the task."""
    if REWARD in folder.features:
        return bool(_bounded(floats(file, entry, REWARD), entry, REWARD)[-1, 0] > 0)
    return bool(flags(file, entry, TERMINAL)[-1]) if TERMINAL in folder.features else None


def _pictures(folder: Folder) -> tuple[tuple[str, ...], int, int]:
    """Cameras, height and width: as declared, or that of the first picture where it is declared to vary."""
    cameras = tuple(camera for camera, name in IMAGES.items() if name in folder.features)
    sizes = set()
    for camera in cameras:
        height, width, _ = folder.features[IMAGES[camera]].shape
        if height is None or width is None:
            first = _first(folder, camera)
            height, width = first.height, first.width
        sizes.add((height, width))
    return (cameras, *_one(folder.path, "picture sizes", sizes))


def _codecs(folder: Folder) -> set[str]:
    cameras = [camera for camera, name in IMAGES.items() if name in folder.features]
    return {folder.features[IMAGES[camera]].encoding or _first(folder, camera).codec for camera in cameras}


def _first(folder: Folder, camera: str) -> pictures.Header:
    """Of the first picture of a camera."""
    entry, name = folder.entries[0], IMAGES[camera]
    with FileBytes(entry.path) as file:
        tfrecord.check(file, entry.record, entry.where)
        start, stop = spans(file, entry, name)[0]
        return pictures.header(file[start:stop], f"{entry.where}: {name}[0]")


def _one(root: Path, what: str, values: set[T]) -> T:
    if len(values) > 1:
        raise UserError(
            f"The demonstrations in {root} are of different {what}.",
            why=", ".join(sorted(map(str, values))),
            fix="name the folder of one of them",
        )
    return values.pop()
