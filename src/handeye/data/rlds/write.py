"""RLDS sets as TFDS writes them, without TensorFlow: the features of openvla/modified_libero_rlds, to the byte.

A part is one finished record. Assembling looks into each for its task, pictures' size and joints, and strings the
records together. Tasks in a folder (`libero_goal/turn_on_the_stove`) make a data set named after it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handeye.conventions import image
from handeye.data import pictures
from handeye.data.rlds import example, tfrecord
from handeye.data.rlds.describe import VERSION, features_json, info_json
from handeye.data.rlds.example import MalformedError
from handeye.data.rlds.features import (
    ACTIONS,
    DISCOUNT,
    FEATURES,
    FILE,
    FIRST,
    IMAGES,
    INFO,
    JOINTS,
    LANGUAGE,
    LAST,
    REWARD,
    STATE,
    TERMINAL,
    WIDTHS,
)
from handeye.data.rlds.tfrecord import FileBytes, Record, bad
from handeye.data.source import Format
from handeye.errors import UserError
from handeye.records import write_bytes
from handeye.types import Episode

SHARD_BYTES = 128 << 20
"""A shard is closed before it grows beyond this; an episode is never cut."""


@dataclass(frozen=True)
class RldsWriter:
    """One TFDS data set per folder of tasks: `out/<name>/1.0.0`."""

    name: str = "demonstrations"
    """Of the data set for tasks that are in no folder. What TFDS does not allow in a name becomes `_`."""

    shard_bytes: int = SHARD_BYTES

    @property
    def format(self) -> Format:
        return "rlds"

    @property
    def drops(self) -> tuple[str, ...]:
        return (
            "simulator states",
            "digits of vectors beyond float32",
            "exact pixels (JPEG, quality 95)",
            "where an episode comes from, but for its task's name",
            "that success is unknown (it becomes no success)",
        )

    def encode(self, episode: Episode, part: Path) -> None:
        write_bytes(part, tfrecord.framed(example.encode(_features(episode))))

    def assemble(self, parts: Sequence[Path], out: Path) -> None:
        sets: dict[str, list[_Part]] = {}
        for path in parts:
            part = _look(path)
            sets.setdefault(_set_name(part.folder or self.name), []).append(part)
        for name, of_set in sets.items():
            self._write_set(name, of_set, out / name / VERSION)

    def _write_set(self, name: str, parts: Sequence[_Part], folder: Path) -> None:
        first = parts[0]
        if len(folders := {part.folder for part in parts}) > 1:
            raise UserError(
                f"The tasks of several folders would go into one RLDS set, {name}.",
                why=", ".join(sorted(folders)),
                fix="rename one of the folders",
            )
        for part in parts:
            if (part.sizes, part.joints) != (first.sizes, first.joints):
                raise UserError(
                    f"The episodes of {name} do not fit into one RLDS set.",
                    why=f"{_described(first)} in one, {_described(part)} in another",
                    fix="convert those of each kind into a set of their own",
                )
        shards = _shards(parts, self.shard_bytes)
        try:
            folder.mkdir(parents=True)
            for number, shard in enumerate(shards):
                with (folder / f"{name}-train.tfrecord-{number:05d}-of-{len(shards):05d}").open("wb") as file:
                    for part in shard:
                        with part.path.open("rb") as record:
                            shutil.copyfileobj(record, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"Could not write {folder}.",
                why=str(error),
                fix="free some space or choose another folder, then run it again",
            ) from error
        features = features_json(first.sizes, joints=first.joints)
        write_bytes(folder / FEATURES, json.dumps(features, indent=4).encode())
        info = info_json(name, [len(shard) for shard in shards], sum(part.record.length for part in parts))
        write_bytes(folder / INFO, json.dumps(info, indent=2).encode())


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What assembling must know of a record."""

    path: Path
    record: Record
    folder: str
    """Of its task."""

    sizes: Mapping[str, tuple[int, int]]
    """Camera -> height and width."""

    joints: bool


def _features(episode: Episode) -> dict[str, Sequence[bytes] | np.ndarray]:
    """In the order of features.json. Pictures are turned by 180 degrees, as in the published sets."""
    length = len(episode)
    if length == 0 or not episode.prompt.strip():
        raise _unfit(episode, "it has no steps" if length == 0 else "it has no sentence")
    if "agentview" not in episode.images or not set(episode.images) <= set(IMAGES):
        seen = ", ".join(episode.images) or "none"
        raise _unfit(episode, f"its cameras are {seen}; the layout has agentview, and wrist if there is one")
    ends = np.zeros(length, np.int64)
    ends[-1] = 1
    success = ends * bool(episode.success)
    features: dict[str, Sequence[bytes] | np.ndarray] = {}
    for camera, name in IMAGES.items():
        if camera in episode.images:
            features[name] = [
                pictures.encode_jpeg(frame)
                for frame in image.convert(
                    episode.images[camera],
                    source=image.Orientation.UPRIGHT,
                    target=image.Orientation.TURNED_180,
                )
            ]
    features[STATE] = _float32(episode, episode.proprio, STATE)
    if episode.joints is not None:
        features[JOINTS] = _float32(episode, episode.joints, JOINTS)
    features[ACTIONS] = _float32(episode, episode.actions, ACTIONS)
    return features | {
        DISCOUNT: np.ones(length, np.float32),
        REWARD: success.astype(np.float32),
        FIRST: np.roll(ends, 1),
        LAST: ends,
        TERMINAL: success,
        LANGUAGE: [episode.prompt.encode()] * length,
        FILE: [f"{episode.task}_demo.hdf5".encode()],
    }


def _float32(episode: Episode, values: np.ndarray, name: str) -> np.ndarray:
    if values.shape != (len(episode), WIDTHS[name]):
        raise _unfit(episode, f"{name} would be {values.shape} instead of ({len(episode)}, {WIDTHS[name]})")
    return values.astype(np.float32)


def _unfit(episode: Episode, why: str) -> UserError:
    return UserError(
        f"{episode.id} cannot be written as RLDS.",
        why=why,
        fix="leave it out, or convert a set of LIBERO's conventions",
    )


def _look(path: Path) -> _Part:
    (record,) = tfrecord.index(path, 1)
    with FileBytes(path) as file:
        try:
            features = example.layout(file, record.start, record.stop)
            start, stop = example.spans(file, features[FILE], 1)[0].tolist()
            task = file[start:stop].decode()
            length = len(example.floats(file, features[ACTIONS], record.length)) // WIDTHS[ACTIONS]
            sizes = {}
            for camera, name in IMAGES.items():
                if name in features:
                    begin, end = example.spans(file, features[name], length)[0].tolist()
                    header = pictures.header(file[begin:end], f"{path}: {name}[0]")
                    sizes[camera] = header.height, header.width
        except (MalformedError, KeyError, UnicodeDecodeError) as error:
            raise bad(str(path), f"it is no part that was encoded here: {error}") from None
    return _Part(path=path, record=record, folder=task.rpartition("/")[0], sizes=sizes, joints=JOINTS in features)


def _set_name(name: str) -> str:
    """A letter, then letters, digits and `_` (tensorflow_datasets/core/naming.py)."""
    plain = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_")
    return plain if re.match("[a-zA-Z]", plain) else f"set_{plain}"


def _shards(parts: Sequence[_Part], most: int) -> list[list[_Part]]:
    """In order, each as full as `most` bytes allow."""
    shards: list[list[_Part]] = []
    room = 0
    for part in parts:
        size = part.record.length + tfrecord.HEADER + tfrecord.FOOTER
        if not shards or size > room:
            shards.append([])
            room = most
        shards[-1].append(part)
        room -= size
    return shards


def _described(part: _Part) -> str:
    sizes = ", ".join(f"{camera} {height} x {width}" for camera, (height, width) in part.sizes.items())
    return f"{sizes}, {'with' if part.joints else 'without'} joints"
