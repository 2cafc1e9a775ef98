"""`meta/info.json`: what a LeRobot set says of itself, checked before anything that it points to is opened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from handeye.conventions.libero import ACTION, CAMERAS, PROPRIO
from handeye.data.lerobot.keys import JOINTS, KNOWN_EXTRAS, ROWS, STYLES, SUCCESS, Keys, Version, style_of
from handeye.data.pictures import MOST_SIDE
from handeye.errors import UserError

FPS = 10
"""Of every published copy of LIBERO, as a label alone: the simulator acts 20 times a second."""

MOST_ROWS = 10**9
_HOLE = re.compile(r"\{(?P<name>[a-z_]+)(?::0(?P<width>\d)d)?\}")
_HOLES = {"v2": ("episode_chunk", "episode_index"), "v3": ("chunk_index", "file_index")}
"""Of a path template, by version: folder and file. A video's has `video_key` besides."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """meta/info.json, as far as a reader needs it."""

    root: Path
    version: Version
    fps: float
    keys: Keys
    images: Literal["image", "video"]
    """How the cameras are stored: pictures in the parquet files, or MP4."""

    height: int
    width: int
    joints: bool
    """There is a column of the arm's joints."""

    success: bool
    """There is a column that says whether the goal was reached."""

    episodes: int
    frames: int
    tasks: int
    chunks_size: int
    """Episodes (v2) or files (v3) per folder."""

    data_path: str
    video_path: str
    """Templates; see `place`. Empty where there is no video."""

    warnings: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Of the data files, as far as they are read, pictures left out."""
        extras = (JOINTS,) * self.joints + (SUCCESS,) * self.success
        return (self.keys.state, self.keys.actions, *ROWS, *extras)


def read_info(root: Path) -> Info:
    """UserError for an unknown version, unknown columns, impossible sizes and paths that leave `root`."""
    path = root / "meta" / "info.json"
    info = read_json(path)
    said = info.get("codebase_version")
    if said not in get_args(Version):
        raise UserError(
            f"{path} is of the LeRobot version {said!r}.",
            why=f"the layouts that are known: {', '.join(get_args(Version))}",
            fix="convert it with the lerobot library, or fetch a copy in one of these versions",
        )
    version: Version = info["codebase_version"]
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(feature, dict) for feature in features.values()):
        raise bad(path, "it has no features")
    keys = _keys(features, path)
    stored, height, width = _cameras(features, keys, path)
    for key, length in ((keys.state, PROPRIO.width), (keys.actions, ACTION.width), (JOINTS, 7)):
        if key in features and (dtype := features[key].get("dtype"), shape := features[key].get("shape")) not in (
            ("float32", [length]),
            ("float64", [length]),
        ):
            raise bad(path, f"{key} is {dtype} {shape} instead of float32 [{length}]")
    fps = info.get("fps")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= 1000:
        raise bad(path, f"fps is {fps!r}")
    warnings = []
    if fps not in (FPS, ACTION.hz):
        warnings.append(f"fps is {fps:g}; LIBERO acts {ACTION.hz:g} times a second, and published copies say {FPS}")
    splits = info.get("splits")
    if isinstance(splits, dict) and set(splits) - {"train"}:
        warnings.append(f"its splits ({', '.join(map(str, splits))}) are read as one set")
    return Info(
        root=root,
        version=version,
        fps=float(fps),
        keys=keys,
        images=stored,
        height=height,
        width=width,
        joints=JOINTS in features,
        success=SUCCESS in features,
        episodes=whole(info, "total_episodes", path),
        frames=whole(info, "total_frames", path),
        tasks=whole(info, "total_tasks", path),
        chunks_size=whole(info, "chunks_size", path, low=1),
        data_path=_template(info, "data", path),
        video_path=_template(info, "video", path) if stored == "video" else "",
        warnings=tuple(warnings),
    )


def place(root: Path, template: str, **values: int | str) -> Path:
    """The file that a checked template names for these values."""

    def fill(hole: re.Match[str]) -> str:
        value = values[hole["name"]]
        return str(value).rjust(int(hole["width"] or 0), "0")

    return root / re.sub(_HOLE, fill, template)


def _template(info: Mapping[str, Any], kind: Literal["data", "video"], path: Path) -> str:
    """Plain holes in a path below the folder, nothing else: Python's format language reaches anything."""
    name = f"{kind}_path"
    template = info.get(name)
    if not isinstance(template, str):
        raise bad(path, f"{name} is {template!r}")
    folder, file = _HOLES[info["codebase_version"][:2]]
    needed = {file, "video_key"} if kind == "video" else {file}
    holes = {match["name"] for match in _HOLE.finditer(template)}
    plain = re.sub(_HOLE, "x", template)
    if "{" in plain or "}" in plain or not needed <= holes <= {folder, *needed}:
        raise bad(path, f"{name} is {template!r}; in braces stand {', '.join(sorted(needed))} and, if at all, {folder}")
    if plain.startswith("/") or ".." in plain.split("/") or re.search(r"[\\:\0]", plain):
        raise UserError(
            f"{path} points out of its folder.",
            why=f"{name} is {template!r}",
            fix="do not use this set, or put its own path there",
        )
    return template


def _keys(features: Mapping[str, Any], path: Path) -> Keys:
    if keys := style_of(set(features)):
        return keys
    styles = "; ".join(
        f"{name}: {keys.agentview}, {keys.wrist}, {keys.state}, {keys.actions}" for name, keys in STYLES.items()
    )
    raise UserError(
        f"{path} names columns that are not those of a LIBERO set.",
        why=f"it has {', '.join(sorted(set(features) - set(ROWS)))}. Known are {styles}; "
        f"besides, {', '.join(KNOWN_EXTRAS)}",
        fix="rename its columns to one of these styles, or fetch one of the published copies",
    )


def _cameras(features: Mapping[str, Any], keys: Keys, path: Path) -> tuple[Literal["image", "video"], int, int]:
    """How the pictures are stored, their height and width: the same for both cameras."""
    found = set()
    for camera in CAMERAS:
        key = keys.cameras[camera]
        dtype, shape, names = (features[key].get(field) for field in ("dtype", "shape", "names"))
        if dtype not in ("image", "video"):
            raise bad(path, f"{key} is {dtype!r}, neither image nor video")
        if not isinstance(names, list) or not isinstance(shape, list) or len(shape) != 3 or len(names) != 3:
            raise bad(path, f"{key} has the shape {shape} and names {names} instead of height, width and channel")
        sides = dict(zip(map(str, names), shape, strict=True))
        size = [sides.get(name) for name in ("height", "width")]
        if not all(type(side) is int and 1 < side <= MOST_SIDE for side in size) or 3 not in shape:
            raise bad(path, f"{key} has the shape {shape} with the names {names}")
        found.add((dtype, *size))
    if len(found) != 1:
        raise bad(path, f"its cameras differ in kind or size: {sorted(found)}")
    return found.pop()


def read_json(path: Path) -> dict[str, Any]:
    """An object, or a UserError that names the file."""
    return _object(read_text(path), path, "")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """An object per line, blank lines aside; a line that is none is named."""
    lines = read_text(path).split("\n")
    return [_object(line, path, f"line {number}: ") for number, line in enumerate(lines, start=1) if line.strip()]


def read_text(path: Path) -> str:
    if not path.is_file():
        raise bad(path, "the file is missing")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise bad(path, str(error)) from None


def _object(text: str, path: Path, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(path, f"{where}it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad(path, f"{where}it is no JSON object")
    return value


def whole(row: Mapping[str, Any], name: str, where: object, *, low: int = 0) -> int:
    """A whole number of a sensible size."""
    value = row.get(name)
    if type(value) is not int or not low <= value <= MOST_ROWS:
        raise bad(where, f"{name} is {value!r} instead of a whole number from {low} up")
    return value


def bad(where: object, why: str) -> UserError:
    return UserError(f"{where} cannot be used.", why=why, fix="fetch or make the set again")
