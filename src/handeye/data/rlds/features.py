"""What a TFDS folder says of itself: dataset_info.json (name, version, shards), features.json (names, types, shapes).

File names follow from dataset_info.json alone. They need not resemble the folder's: the published libero_10_no_noops
holds files called liber_o10-train.tfrecord-...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from handeye.conventions.libero import ACTION
from handeye.conventions.proprio import WIDTH
from handeye.data.rlds.tfrecord import bad
from handeye.errors import UserError
from handeye.records import read_json

INFO, FEATURES = "dataset_info.json", "features.json"

STEPS = "steps/"
"""Before the name of everything that is there once per step."""

IMAGES = {"agentview": STEPS + "observation/image", "wrist": STEPS + "observation/wrist_image"}
"""Our name of a camera -> its feature."""

STATE, JOINTS, ACTIONS = STEPS + "observation/state", STEPS + "observation/joint_state", STEPS + "action"
DISCOUNT, REWARD, LANGUAGE = STEPS + "discount", STEPS + "reward", STEPS + "language_instruction"
FIRST, LAST, TERMINAL = STEPS + "is_first", STEPS + "is_last", STEPS + "is_terminal"
FILE = "episode_metadata/file_path"

WIDTHS = {ACTIONS: ACTION.width, STATE: WIDTH, JOINTS: 7}

MOST_JSON = 10_000_000
"""Bytes of one of the two files; LIBERO's have 10,000."""

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One file of records."""

    split: str
    path: Path
    records: int


@dataclass(frozen=True, kw_only=True)
class Info:
    """dataset_info.json."""

    name: str
    version: str
    splits: tuple[str, ...]
    shards: tuple[Shard, ...]
    """In order of splits, then of numbers."""

    num_bytes: int | None
    """Of all payloads, as promised; None where it does not say."""


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """One feature: what a list in a record means."""

    kind: Literal["image", "tensor", "text", "other"]
    shape: tuple[int | None, ...] = ()
    """Of one step. None: it varies."""

    dtype: str = ""
    encoding: str = ""
    """Of an image: `jpeg` or `png`, empty where it does not say. Of a tensor: `none`, or how its bytes are packed."""


def read_info(folder: Path) -> Info:
    path = folder / INFO
    said = _read(path, "a TFDS data set's description")
    name, version = _word(said, "name", path), _word(said, "version", path)
    splits = said.get("splits")
    if not isinstance(splits, list) or not splits:
        raise bad(str(path), "it has no list of splits")
    shards: list[Shard] = []
    sizes: list[int | None] = []
    for split in splits:
        if not isinstance(split, dict):
            raise bad(str(path), f"a split is {split!r}")
        if any(split.get("name") == shard.split for shard in shards):
            raise bad(str(path), f"it lists the split {split['name']} twice")
        shards += _shards(split, folder, name, str(said.get("fileFormat") or "tfrecord"))
        sizes.append(_number(split["numBytes"], "numBytes", path) if "numBytes" in split else None)
    return Info(
        name=name,
        version=version,
        splits=tuple(dict.fromkeys(str(split["name"]) for split in splits)),
        shards=tuple(shards),
        num_bytes=None if None in sizes else sum(size for size in sizes if size is not None),
    )


def read_features(folder: Path) -> dict[str, Leaf]:
    """Name as in the records (`steps/observation/image`) -> what it is."""
    path = folder / FEATURES
    try:
        return dict(_leaves(_read(path, "a TFDS data set's features"), "", path))
    except RecursionError:
        raise bad(str(path), "its features are nested too deeply") from None


def require_libero(features: Mapping[str, Leaf], path: Path) -> None:
    """What an Episode needs is there and has LIBERO's widths."""
    for name in (IMAGES["agentview"], STATE, ACTIONS, LANGUAGE):
        if name not in features:
            raise bad(str(path), f"there is no feature {name}; it has: {', '.join(sorted(features)) or 'none'}")
    for name, width in WIDTHS.items():
        leaf = features.get(name)
        if leaf and (leaf.kind != "tensor" or leaf.shape != (width,) or not leaf.dtype.startswith("float")):
            raise bad(str(path), f"{name} is a {leaf.kind} {leaf.dtype} {leaf.shape} instead of floats ({width},)")
        if leaf and leaf.encoding not in ("", "none"):
            raise bad(str(path), f"{name} is packed as {leaf.encoding}; plain numbers are read")
    for name in IMAGES.values():
        leaf = features.get(name)
        if leaf and (leaf.kind != "image" or len(leaf.shape) != 3 or leaf.shape[2] != 3 or leaf.dtype != "uint8"):
            raise bad(str(path), f"{name} is a {leaf.kind} {leaf.dtype} {leaf.shape} instead of pictures in RGB")
        if leaf and leaf.encoding not in ("", "jpeg", "png"):
            raise bad(str(path), f"{name} is encoded as {leaf.encoding}; jpeg and png are read")


def _read(path: Path, what: str) -> dict[str, Any]:
    if path.is_file() and path.stat().st_size > MOST_JSON:
        raise bad(str(path), f"it has {path.stat().st_size} bytes; {what} has a few thousand")
    said = read_json(path, what=what)
    if not isinstance(said, dict):
        raise bad(str(path), "it is not a JSON object")
    return said


def _word(said: Mapping[str, Any], key: str, path: Path) -> str:
    """Names become parts of file names, so nothing in them may lead elsewhere."""
    value = said.get(key)
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w.-]{0,199}", value, re.ASCII):
        raise bad(str(path), f"{key} is {value!r}, not a word")
    return value


def _number(value: object, key: str, path: Path) -> int:
    """Protobuf's JSON writes 64-bit integers as strings."""
    if isinstance(value, int | str) and re.fullmatch(r"\d{1,18}", str(value), re.ASCII):
        return int(value)
    raise bad(str(path), f"{key} holds {value!r}, not a number")


def _shards(split: Mapping[str, Any], folder: Path, name: str, file_format: str) -> Iterator[Shard]:
    path = folder / INFO
    if file_format != "tfrecord":
        raise UserError(
            f"{folder} is stored as {file_format}.",
            why="of TFDS' file formats only tfrecord is read",
            fix="write it again with file_format='tfrecord'",
        )
    title, lengths = _word(split, "name", path), split.get("shardLengths")
    if not isinstance(lengths, list) or not lengths:
        raise bad(str(path), f"the split {title} has no shardLengths")
    template = str(split.get("filepathTemplate") or _TEMPLATE)
    for index, length in enumerate(lengths):
        parts = {
            "DATASET": name,
            "SPLIT": title,
            "FILEFORMAT": file_format,
            "SHARD_X_OF_Y": f"{index:05d}-of-{len(lengths):05d}",
            "SHARD_INDEX": f"{index:05d}",
            "NUM_SHARDS": f"{len(lengths):05d}",
        }
        file = template
        for key, value in parts.items():
            file = file.replace(f"{{{key}}}", value)
        if not re.fullmatch(r"\w[\w.-]{0,250}", file, re.ASCII):
            raise bad(str(path), f"filepathTemplate {template!r} gives {file!r}, which is no plain file name")
        yield Shard(split=title, path=folder / file, records=_number(length, "shardLengths", path))


def _leaves(node: Any, name: str, path: Path) -> Iterator[tuple[str, Leaf]]:
    """TFDS writes dictionaries and sequences as nested messages, and records name what is in them by the path."""
    if not isinstance(node, dict):
        raise bad(str(path), f"the feature {name or 'at the top'} is {node!r}")
    if "featuresDict" in node:
        children = _member(node["featuresDict"], "features", name, path)
        for key, child in children.items():
            yield from _leaves(child, f"{name}/{key}" if name else str(key), path)
    elif "sequence" in node:
        yield from _leaves(_member(node, "sequence", name, path).get("feature"), name, path)
    elif "image" in node:
        image = _member(node, "image", name, path)
        yield (
            name,
            Leaf(
                kind="image",
                shape=_shape(image, name, path),
                dtype=str(image.get("dtype", "uint8")),
                encoding=str(image.get("encodingFormat") or ""),
            ),
        )
    elif "tensor" in node:
        tensor = _member(node, "tensor", name, path)
        yield (
            name,
            Leaf(
                kind="tensor",
                shape=_shape(tensor, name, path),
                dtype=str(tensor.get("dtype", "")),
                encoding=str(tensor.get("encoding") or ""),
            ),
        )
    else:
        yield name, Leaf(kind="text" if "text" in node else "other")


def _member(node: Any, key: str, name: str, path: Path) -> dict[str, Any]:
    found = node.get(key) if isinstance(node, dict) else None
    if not isinstance(found, dict):
        raise bad(str(path), f"the feature {name or 'at the top'} has no proper {key}")
    return found


def _shape(node: Mapping[str, Any], name: str, path: Path) -> tuple[int | None, ...]:
    """`{"dimensions": ["256", "256", "3"]}`; -1: it varies. An empty one is a scalar."""
    shape = node.get("shape", {})
    dimensions = shape.get("dimensions", []) if isinstance(shape, dict) else None
    if not isinstance(dimensions, list):
        raise bad(str(path), f"the feature {name} has the shape {shape!r}")
    return tuple(None if str(size) == "-1" else _number(size, f"{name}: shape", path) for size in dimensions)
