"""Folders of arrays that are made once, episode by episode, and found again by what they were made of.

    FOLDER-KEY/<name>.npy           mapped into memory by whoever needs them, many processes at once
    FOLDER-KEY/manifest.json        what they were made of
    .FOLDER-KEY.part/               one that is being made; after a kill the next process goes on in it

Everything is written through files and not through the map: a disk that fills up is then an error and not a crash.
"""

from __future__ import annotations

import io
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from handeye import console
from handeye.console import size
from handeye.errors import UserError
from handeye.records import read_json, sha256_json, write_json
from handeye.transfer.lock import alone

NOTE_EVERY = 30.0
"""Seconds of work that a kill may cost."""

PROGRESS = "progress.json"


FIX = "free some space, or name another folder"


class CannotKeepError(UserError):
    """The disk is full, or nothing may be written there."""


@dataclass(frozen=True)
class Kind:
    """Of an array: its type, and its shape when it is complete."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize


def keep(
    place: Path,
    identity: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    *,
    episodes: int,
    make: Callable[[int], Mapping[str, np.ndarray]],
    label: str,
) -> Path:
    """The folder `place`-KEY for this identity, made if it is not there: `make(n)` gives the rows of each array that
    come from episode n. Raises CannotKeepError, and whatever `make` raises."""
    folder = place.with_name(f"{place.name}-{sha256_json(identity)[:16]}")
    part = folder.with_name(f".{folder.name}.part")
    if not folder.is_dir():
        try:
            part.mkdir(parents=True, exist_ok=True)
            with alone(part, fix=FIX):
                if not folder.is_dir():  # else a process that was waited for has made it
                    _make(part / "arrays", identity, kinds, episodes, make, label)
                    (part / "arrays").replace(folder)
                shutil.rmtree(part, ignore_errors=True)
        except OSError as error:
            need = sum(kind.bytes for kind in kinds.values())
            raise CannotKeepError(
                f"Could not make {folder}.", why=f"{error}; it needs {size(need)}", fix=FIX
            ) from error
    if read_json(folder / "manifest.json", what="a folder of kept arrays") != identity:
        raise UserError(f"{folder} is not what its name says.", fix=f"delete {folder}")
    return folder


def mapped(folder: Path, kinds: Mapping[str, Kind]) -> dict[str, np.ndarray]:
    """The arrays, read where they are touched."""
    found = {}
    for name, kind in kinds.items():
        path = folder / f"{name}.npy"
        try:
            found[name] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{path} cannot be read.", why=str(error), fix=f"delete {folder}") from None
        if (found[name].dtype, found[name].shape) != (kind.dtype, kind.shape):
            raise UserError(f"{path} is not what its name says.", fix=f"delete {folder}")
    return found


def _make(
    part: Path,
    identity: Mapping[str, Any],
    kinds: Mapping[str, Kind],
    episodes: int,
    make: Callable[[int], Mapping[str, np.ndarray]],
    label: str,
) -> None:
    part.mkdir(exist_ok=True)
    with ExitStack() as stack:
        files = {name: stack.enter_context((part / f"{name}.npy").open("a+b")) for name in kinds}
        done, noted = _resume(part, files, kinds), time.monotonic()
        with console.progress(label, episodes, done=done) as advance:
            for episode in range(done, episodes):
                for name, rows in make(episode).items():
                    files[name].write(np.ascontiguousarray(rows, kinds[name].dtype).data)
                advance()
                if time.monotonic() - noted > NOTE_EVERY:
                    sizes = _on_disk(files)
                    write_json(part / PROGRESS, {"episodes": episode + 1, "sizes": sizes})
                    noted = time.monotonic()
        for name, written in _on_disk(files).items():
            if written != len(_header(kinds[name])) + kinds[name].bytes:
                raise ValueError(f"{name} has {written} bytes, which is not {kinds[name]}")
    (part / PROGRESS).unlink(missing_ok=True)
    write_json(part / "manifest.json", identity)


def _resume(part: Path, files: Mapping[str, BinaryIO], kinds: Mapping[str, Kind]) -> int:
    """Episodes that are there. What was written after the last note goes: it may not have reached the disk."""
    try:
        said = read_json(part / PROGRESS, what="how far it came")
        done, sizes = int(said["episodes"]), {name: int(said["sizes"][name]) for name in files}
    except (UserError, KeyError, TypeError, ValueError):
        done, sizes = 0, dict.fromkeys(files, 0)
    if any(os.fstat(file.fileno()).st_size < sizes[name] for name, file in files.items()):
        done, sizes = 0, dict.fromkeys(files, 0)
    for name, file in files.items():
        file.truncate(sizes[name])
        if not done:
            file.write(_header(kinds[name]))
    return done


def _on_disk(files: Mapping[str, BinaryIO]) -> dict[str, int]:
    """Bytes of each, once all of them are safe."""
    for file in files.values():
        file.flush()
        os.fsync(file.fileno())
    return {name: file.tell() for name, file in files.items()}


def _header(kind: Kind) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": np.lib.format.dtype_to_descr(kind.dtype), "fortran_order": False, "shape": kind.shape}
    )
    return out.getvalue()
