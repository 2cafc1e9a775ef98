"""One episode, encoded, in a file of its own, from which a set is assembled without decoding anything.

A part is a zip archive without compression: `episode.json`, `rows.arrow` (state, actions and, with PNG, the pictures)
and, with video, one MP4 per camera.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from handeye.conventions import image
from handeye.conventions.libero import ACTION, CAMERAS, PROPRIO
from handeye.data import pictures
from handeye.data.lerobot import statistics, video
from handeye.data.lerobot.info import FPS, bad
from handeye.data.lerobot.keys import ImageKind, Keys
from handeye.data.lerobot.rows import LARGEST
from handeye.errors import UserError
from handeye.types import Episode

EPISODE, ROWS = "episode.json", "rows.arrow"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What assembling must know of a part beforehand."""

    path: Path
    settings: Mapping[str, Any]
    """What all parts of a set must have in common: the writer's options, height and width."""

    sentence: str
    length: int
    stats: Mapping[str, statistics.Stats]
    """Column of a camera -> statistics of its pictures."""

    sizes: Mapping[str, int]
    """Column of a camera -> bytes of its MP4."""

    def table(self) -> pa.Table:
        content = self.member(ROWS)
        with damage(self.path):
            return pa.ipc.open_file(content).read_all()

    def member(self, name: str) -> bytes:
        with damage(self.path), zipfile.ZipFile(self.path) as archive:
            return archive.read(name)


def encode(episode: Episode, *, keys: Keys, images: ImageKind, settings: Mapping[str, Any]) -> bytes:
    """A part's bytes; the same for the same episode. Pictures are turned by 180 degrees, as in the published sets."""
    height, width = _check(episode, images)
    quantiles = settings["version"] == "v3.0"
    columns: dict[str, pa.Array] = {}
    films: dict[str, bytes] = {}
    stats = {}
    for camera, key in keys.cameras.items():
        upright, turned = image.Orientation.UPRIGHT, image.Orientation.TURNED_180
        frames = np.ascontiguousarray(image.convert(episode.images[camera], source=upright, target=turned))
        stats[key] = statistics.of_pictures(frames[statistics.sampled(len(frames))], quantiles=quantiles)
        if images == "png":
            columns[key] = pa.array([pictures.encode_png(frame) for frame in frames], pa.binary())
        else:
            films[key] = video.encode(frames, codec=images, fps=FPS)
    columns[keys.state] = _vectors(episode.proprio)
    columns[keys.actions] = _vectors(episode.actions)
    said = {
        "settings": {**settings, "height": height, "width": width},
        "sentence": episode.prompt,
        "length": len(episode),
        "stats": {key: {name: value.tolist() for name, value in of_key.items()} for key, of_key in stats.items()},
    }
    table, rows = pa.table(columns), io.BytesIO()
    with pa.ipc.new_file(rows, table.schema) as file:
        file.write_table(table)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in {EPISODE: json.dumps(said).encode(), ROWS: rows.getvalue(), **films}.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # without a date: the same bytes tomorrow
    return out.getvalue()


def look(path: Path) -> Part:
    with damage(path), zipfile.ZipFile(path) as archive:
        said = json.loads(archive.read(EPISODE))
        return Part(
            path=path,
            settings=said["settings"],
            sentence=said["sentence"],
            length=said["length"],
            stats={
                key: {name: np.asarray(value) for name, value in of_key.items()}
                for key, of_key in said["stats"].items()
            },
            sizes={entry.filename: entry.file_size for entry in archive.infolist() if entry.filename in said["stats"]},
        )


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """A part that is not one of ours, or cut off, ends as a UserError."""
    try:
        yield
    except (zipfile.BadZipFile, pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise bad(path, f"it is no episode prepared for a LeRobot set: {error}") from error


def _check(episode: Episode, images: ImageKind) -> tuple[int, int]:
    """Height and width of the pictures, if the layout can hold the episode."""
    length = len(episode)
    if length == 0 or not episode.prompt.strip():
        raise _unfit(episode, "it has no steps" if length == 0 else "it has no sentence")
    if set(episode.images) != set(CAMERAS):
        raise _unfit(episode, f"its cameras are {', '.join(episode.images) or 'none'} instead of {', '.join(CAMERAS)}")
    shapes = {frames.shape for frames in episode.images.values()}
    if len(shapes) != 1 or {len(frames) for frames in episode.images.values()} != {length}:
        raise _unfit(episode, f"it has {length} steps, and its pictures the shapes {sorted(shapes)}")
    height, width = shapes.pop()[1:3]
    if images != "png" and (height % 2 or width % 2):
        raise _unfit(episode, f"its pictures are {height} x {width}; a video of this kind needs even sides")
    for name, values, wide in (("actions", episode.actions, ACTION.width), ("proprio", episode.proprio, PROPRIO.width)):
        if values.shape != (length, wide):
            raise _unfit(episode, f"its {name} have the shape {values.shape} instead of ({length}, {wide})")
        if not np.all(np.abs(values) < LARGEST):
            raise _unfit(episode, f"its {name} are not all finite")
    if np.any(np.abs(episode.actions) > ACTION.high):
        raise _unfit(episode, f"its actions go beyond [{ACTION.low:g}, {ACTION.high:g}]")
    return height, width


def _vectors(values: np.ndarray) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(values, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _unfit(episode: Episode, why: str) -> UserError:
    return UserError(
        f"{episode.id} cannot be written as LeRobot.",
        why=why,
        fix="leave it out, or convert a set of LIBERO's conventions",
    )
