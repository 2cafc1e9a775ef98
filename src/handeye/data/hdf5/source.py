"""A folder of LIBERO's HDF5 files (or one of them) as a `Source`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

from handeye.conventions import image, libero, proprio
from handeye.conventions.spec import Specs
from handeye.data.hdf5.demo import DemoRecord
from handeye.data.hdf5.frames import FrameFile
from handeye.data.hdf5.read import OPTIONAL, FileIndex, find_files, index_file, read_demo
from handeye.data.opened import OpenFiles
from handeye.data.source import EpisodeRef, Stored
from handeye.errors import UserError
from handeye.types import Episode

T = TypeVar("T")

TASK_FILE, MODEL_FILE = "task_file", "model_file"
"""In Episode.source: fields of the TaskHeader; MJCF text of the scene, empty where there is none."""


class Hdf5Source:
    """`episodes` is sorted by file, then by number. All files must be of one kind and one image size."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = root if root.is_dir() else root.parent
        indexed = [index_file(path) for path in find_files(root)]
        self.files = tuple(index.path for index in indexed)
        self.warnings = tuple(f"{index.path}: {warning}" for index in indexed for warning in index.warnings)
        height, width = _one(root, "image sizes", {index.image_size for index in indexed})
        self.specs = Specs(
            action=libero.ACTION, image=replace(libero.IMAGE, height=height, width=width), proprio=libero.PROPRIO
        )
        observed = _one(root, "kinds (observed before and after their actions)", {i.observed for i in indexed})
        lacks = _one(root, "kinds (with and without states or joints)", {index.lacks for index in indexed})
        self.stored = Stored(
            format="hdf5",
            version=_one(root, "versions", {index.version for index in indexed}),
            orientation=image.Orientation.OPENGL,
            codec="+".join(sorted({index.codec for index in indexed})),
            observed=observed,
            lacks=tuple(OPTIONAL[name] for name in lacks),
        )
        self.episodes = tuple(ref for index in indexed for ref in self._refs(index))
        self._headers = {index.path: index.header for index in indexed}
        self._opened = OpenFiles(FrameFile)
        tasks = [index.task for index in indexed]
        if len(tasks) != len({ref.task for ref in self.episodes}):
            raise UserError(
                f"Two files in {root} are of the same task.",
                why="with and without _demo in their names: " + ", ".join(sorted(tasks)),
                fix="take one of them away, or put it into a folder of its own",
            )

    def _refs(self, index: FileIndex) -> list[EpisodeRef]:
        file = index.path.relative_to(self._base)
        task = (file.parent / index.task).as_posix()
        cut = index.observed == "after"
        return [
            EpisodeRef(
                id=f"{task}/{name}",
                task=task,
                prompt=index.prompt,
                length=rows - cut,
                where={"file": file.as_posix(), "demo": name},
            )
            for name, rows in index.demos
        ]

    def _path(self, ref: EpisodeRef) -> Path:
        return self._base / str(ref.where["file"])

    def record(self, ref: EpisodeRef, *, images: bool = True) -> DemoRecord:
        """All that the file holds of it, rows as they lie there."""
        return read_demo(self._path(ref), ref.where["demo"], images=images)

    def load(self, ref: EpisodeRef, *, images: bool = True) -> Episode:
        """Its `source` also holds the file's words about the task and the scene's model, for who writes HDF5 again."""
        record = self.record(ref, images=images)
        header = asdict(self._headers[self._path(ref)])
        told = {**record.info, **ref.where, TASK_FILE: header, MODEL_FILE: record.model_file}
        return record.episode(id=ref.id, task=ref.task, prompt=ref.prompt, source=told)

    def frames(self, ref: EpisodeRef, steps: Sequence[int]) -> dict[str, UInt8[np.ndarray, "n H W 3"]]:
        """Row t of a file observed after its actions was seen before action t + 1, which is step t: the same row. A
        compressed file is unpacked by whole chunks all the same."""
        wanted, back = np.unique(np.asarray(steps, np.int64), return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < ref.length:
            raise IndexError(f"{ref.id} has {ref.length} steps, not {wanted[0]} to {wanted[-1]}")
        with self._opened.use(self._path(ref)) as file:
            found = file.read(ref.where["demo"], wanted)
        if np.array_equal(wanted, steps):  # in order and each once: no copy
            return found
        return {camera: frames[back] for camera, frames in found.items()}

    def stored_vectors(self, ref: EpisodeRef) -> tuple[Float[np.ndarray, "N A"], Float[np.ndarray, "N S"]]:
        record = self.record(ref, images=False)
        return record.actions, proprio.from_hdf5(record.ee_states, record.gripper_states)


def _one(root: Path, what: str, values: set[T]) -> T:
    if len(values) > 1:
        raise UserError(
            f"The demonstrations in {root} are of different {what}.",
            why=", ".join(sorted(map(str, values))),
            fix="keep each kind in a folder of its own",
        )
    return values.pop()
