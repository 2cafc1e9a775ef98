"""One TFDS version folder: its shards indexed, and of each episode what may be known without its pictures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from handeye.data.rlds import example, tfrecord
from handeye.data.rlds.example import MalformedError, Values
from handeye.data.rlds.features import (
    ACTIONS,
    FEATURES,
    FILE,
    IMAGES,
    INFO,
    LANGUAGE,
    STEPS,
    WIDTHS,
    Info,
    Leaf,
    Shard,
    read_features,
    read_info,
    require_libero,
)
from handeye.data.rlds.tfrecord import FileBytes, Record, bad

MOST_STEPS = 100_000
"""Of one episode: two hundred times LIBERO's longest."""

MOST_TEXT = 50_000_000
"""Bytes of one episode's sentences: 500 for each of so many steps."""

READ = {*WIDTHS, *IMAGES.values(), LANGUAGE, FILE} | {
    STEPS + name for name in ("reward", "is_first", "is_last", "is_terminal", "discount")
}
"""Features that end up in an Episode or are checked; of any other a warning says that it is left out. `discount` is 1
everywhere in LIBERO's sets."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An episode in its file."""

    path: Path
    number: int
    """Of the record in its file."""

    split: str
    place: int
    """In its split, counted from 0 over all shards."""

    record: Record
    features: Mapping[str, Values]
    length: int
    prompt: str
    file: str
    """episode_metadata/file_path; empty where the set has none."""

    @property
    def where(self) -> str:
        return f"{self.path}: record {self.number}"

    @property
    def task(self) -> str:
        """The name of the HDF5 file that it comes from, which is LIBERO's name of the task; the sentence's words where
        there is none. A plain file name, whatever the set says."""
        file = re.split(r"[/\\]", self.file)[-1]
        return (plain(file.removesuffix("_demo.hdf5")) if file.endswith("_demo.hdf5") else "") or plain(self.prompt)


@dataclass(frozen=True, kw_only=True)
class Folder:
    path: Path
    info: Info
    features: Mapping[str, Leaf]
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]


def open_folder(path: Path) -> Folder:
    """Framing, shard lengths and the layout of every record are checked; pictures are not read, and neither are the
    checksums of the data."""
    if not (path / FEATURES).is_file():
        raise bad(str(path), f"it has {INFO} but no {FEATURES}")
    info, features = read_info(path), read_features(path)
    require_libero(features, path / FEATURES)
    for shard in info.shards:
        if not shard.path.is_file():
            raise bad(str(shard.path), f"it does not exist, and {INFO} promises {shard.records} episodes in it")
    places: dict[str, int] = defaultdict(int)
    entries: list[Entry] = []
    for shard in info.shards:
        entries += _entries(shard, places[shard.split], FILE in features)
        places[shard.split] += shard.records
    if not entries:
        raise bad(str(path), "it has no episodes")
    return Folder(
        path=path, info=info, features=features, entries=tuple(entries), warnings=tuple(_odd(info, features, entries))
    )


def plain(text: str) -> str:
    """Letters, digits, `_`, `-` and dots inside."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")


def floats(file: FileBytes, entry: Entry, name: str) -> Float32[np.ndarray, "T w"]:
    """One of the vectors, a row per step."""
    width = WIDTHS.get(name, 1)
    with placed(entry, name):
        values = example.floats(file, _values(entry, name), entry.length * width)
        if len(values) != entry.length * width:
            raise MalformedError(f"it has {len(values)} numbers, {entry.length} steps need {entry.length * width}")
    return values.reshape(entry.length, width)


def flags(file: FileBytes, entry: Entry, name: str) -> np.ndarray:
    """One truth value per step."""
    with placed(entry, name):
        values = example.integers(file, _values(entry, name), entry.length)
        if len(values) != entry.length:
            raise MalformedError(f"it has {len(values)} values for {entry.length} steps")
    return values != 0


def spans(file: FileBytes, entry: Entry, name: str) -> np.ndarray:
    """Where each step's picture lies: (T, 2)."""
    with placed(entry, name):
        return example.spans(file, _values(entry, name), entry.length)


@contextmanager
def placed(entry: Entry, name: str) -> Iterator[None]:
    try:
        yield
    except MalformedError as error:
        raise bad(f"{entry.where}: {name}", str(error)) from None


def _values(entry: Entry, name: str) -> Values:
    try:
        return entry.features[name]
    except KeyError:
        raise MalformedError(f"the record has no such feature, and {FEATURES} promises it") from None


def _entries(shard: Shard, place: int, has_file: bool) -> Iterator[Entry]:
    records = tfrecord.index(shard.path, shard.records)
    with FileBytes(shard.path) as file:
        for number, record in enumerate(records):
            where = f"{shard.path}: record {number}"
            try:
                features = example.layout(file, record.start, record.stop)
                length = _length(file, features)
                prompt = _prompt(_texts(file, features, LANGUAGE, length))
                name = _texts(file, features, FILE, 1)[0] if has_file else ""
            except MalformedError as error:
                tfrecord.check(file, record, where)  # changed bytes are the better explanation
                raise bad(where, str(error)) from None
            yield Entry(
                path=shard.path,
                number=number,
                split=shard.split,
                place=place + number,
                record=record,
                features=features,
                length=length,
                prompt=prompt,
                file=name,
            )


def _length(file: FileBytes, features: Mapping[str, Values]) -> int:
    if ACTIONS not in features:
        raise MalformedError(f"there is no {ACTIONS}")
    width = WIDTHS[ACTIONS]
    values = example.floats(file, features[ACTIONS], MOST_STEPS * width)
    if len(values) == 0:
        raise MalformedError("it has no steps")
    if len(values) % width or len(values) > MOST_STEPS * width:
        raise MalformedError(f"{ACTIONS} has {len(values)} numbers: not {width} for each of at most {MOST_STEPS} steps")
    return len(values) // width


def _texts(file: FileBytes, features: Mapping[str, Values], name: str, count: int) -> list[str]:
    if name not in features:
        raise MalformedError(f"there is no {name}")
    values = features[name]
    if values.stop - values.start > MOST_TEXT:
        raise MalformedError(f"{name} has {values.stop - values.start} bytes; up to {MOST_TEXT} are read")
    content = file[values.start : values.stop]
    inside = Values(kind=values.kind, start=0, stop=len(content))
    try:
        return [content[start:stop].decode() for start, stop in example.spans(content, inside, count)]
    except UnicodeDecodeError:
        raise MalformedError(f"{name} is not UTF-8") from None


def _prompt(sentences: list[str]) -> str:
    for step, sentence in enumerate(sentences):
        if sentence != sentences[0]:
            raise MalformedError(f"{LANGUAGE} changes at step {step}: {sentences[0]!r}, then {sentence!r}")
    if not sentences[0].strip():
        raise MalformedError(f"{LANGUAGE} is empty")
    return sentences[0]


def _odd(info: Info, features: Mapping[str, Leaf], entries: list[Entry]) -> Iterator[str]:
    """Warnings."""
    if len(info.splits) > 1:
        yield f"its splits are read together: {', '.join(info.splits)}"
    if left := sorted(set(features) - READ):
        yield f"not read: {', '.join(left)}"
    known = {shard.path for shard in info.shards}
    folder = entries[0].path.parent
    if more := sorted(path.name for path in folder.glob("*tfrecord*") if path not in known):
        yield f"{INFO} does not name {len(more)} of its files, which are not read: {more[0]}" + ", ..." * (
            len(more) > 1
        )
    counted = sum(entry.record.length for entry in entries)
    if info.num_bytes is not None and info.num_bytes != counted:
        yield f"{INFO} says {info.num_bytes} bytes, the records have {counted}"
    sentences: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        sentences[entry.task].add(entry.prompt)
    if two := [task for task, said in sentences.items() if len(said) > 1]:
        yield f"the demonstrations of {two[0]} have {len(sentences[two[0]])} different sentences"
