"""What the versions of a LeRobot set have in common when it is put together: rows, their statistics, features."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from handeye.conventions.libero import ACTION, PROPRIO
from handeye.data.lerobot.info import FPS
from handeye.data.lerobot.keys import ROWS, ImageKind, Keys, Version
from handeye.data.lerobot.part import Part
from handeye.data.lerobot.statistics import Stats, of_numbers
from handeye.data.lerobot.tables import vectors
from handeye.errors import UserError
from handeye.records import write_bytes

CHUNK = 1000
"""Episodes (version 2) or files (version 3) per folder; the library's number."""

_POSE = ["x", "y", "z", "axis_angle1", "axis_angle2", "axis_angle3"]
_NAMES: Mapping[str, Any] = {
    "state": ["state"],
    "actions": ["actions"],
    "observation.state": {"motors": [*_POSE, "gripper", "gripper"]},
    "action": {"motors": [*_POSE, "gripper"]},
}
"""Column -> what the published sets call its numbers."""


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """A set that is being put together."""

    out: Path
    version: Version
    images: ImageKind
    keys: Keys
    size: tuple[int, int]
    parts: Sequence[Part]
    tasks: Mapping[str, int]
    """Sentence -> task_index, in the order of their first episodes."""

    @property
    def frames(self) -> int:
        return sum(part.length for part in self.parts)

    def episode(self, number: int, start: int) -> tuple[pa.Table, dict[str, Stats]]:
        """The rows of one episode, whose first is row `start` of the set, and the statistics of all its columns."""
        part = self.parts[number]
        stored = part.table()
        step = np.arange(part.length)
        counted = {
            "timestamp": step / FPS,
            "frame_index": step,
            "episode_index": np.full(part.length, number),
            "index": start + step,
            "task_index": np.full(part.length, self.tasks[part.sentence]),
        }
        columns: dict[str, pa.Array] = {}
        stats: dict[str, Stats] = {}
        quantiles = self.version == "v3.0"
        file_name = "frame-{:06d}.png" if self.version == "v3.0" else "frame_{:06d}.png"
        for key in self.keys.cameras.values():
            stats[key] = part.stats[key]
            if self.images == "png":
                paths = pa.array([file_name.format(k) for k in step.tolist()])
                pictures = stored.column(key).combine_chunks()
                columns[key] = pa.StructArray.from_arrays([pictures, paths], ["bytes", "path"])
        for key, width in ((self.keys.state, PROPRIO.width), (self.keys.actions, ACTION.width)):
            columns[key] = stored.column(key).combine_chunks()
            stats[key] = of_numbers(vectors(stored, key, width, str(part.path)), quantiles=quantiles)
        for name in ROWS:
            columns[name] = pa.array(counted[name], pa.float32() if name == "timestamp" else pa.int64())
            stats[name] = of_numbers(counted[name], quantiles=quantiles)
        return pa.table(columns).replace_schema_metadata({"huggingface": self._huggingface(columns)}), stats

    def _huggingface(self, columns: Mapping[str, pa.Array]) -> str:
        """How the `datasets` library is to read the columns; its name for lists changed with version 4."""
        lists = "List" if self.version == "v3.0" else "Sequence"
        features: dict[str, Any] = {}
        for name, column in columns.items():
            if pa.types.is_struct(column.type):
                features[name] = {"_type": "Image"}
            elif pa.types.is_fixed_size_list(column.type):
                value = {"dtype": "float32", "_type": "Value"}
                features[name] = {"feature": value, "length": column.type.list_size, "_type": lists}
            else:
                features[name] = {"dtype": "float32" if name == "timestamp" else "int64", "_type": "Value"}
        return json.dumps({"info": {"features": features}})

    def features(self) -> dict[str, Any]:
        """As info.json lists them."""
        height, width = self.size
        found: dict[str, Any] = {}
        for key in self.keys.cameras.values():
            kind = "image" if self.images == "png" else "video"
            found[key] = {"dtype": kind, "shape": [height, width, 3], "names": ["height", "width", "channel"]}
            if self.images != "png":
                found[key]["info"] = {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": self.images,
                    "video.pix_fmt": "yuv420p",
                    "video.is_depth_map": False,
                    "video.fps": FPS,
                    "video.channels": 3,
                    "has_audio": False,
                }
        for key, wide in ((self.keys.state, PROPRIO.width), (self.keys.actions, ACTION.width)):
            found[key] = {"dtype": "float32", "shape": [wide], "names": _NAMES[key]}
        for name in ROWS:
            found[name] = {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
        return found


def plain(stats: Mapping[str, Stats]) -> dict[str, dict[str, Any]]:
    return {key: {name: value.tolist() for name, value in of_key.items()} for key, of_key in stats.items()}


def write_json(path: Path, value: object) -> None:
    """As the library does: four blanks, no newline at the end."""
    write_bytes(path, json.dumps(value, indent=4, ensure_ascii=False).encode())


def write_lines(path: Path, rows: Sequence[object]) -> None:
    write_bytes(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def synced(path: Path) -> None:
    """What was written under this name is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def durable(out: Path) -> Iterator[None]:
    """A full disk is one clear error."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(
            f"Could not write {out}.",
            why=str(error),
            fix="free some space or choose another folder, then run it again",
        ) from error
