"""Where each episode of a LeRobot set lies. Version 2 has a file per episode and lists them in JSON lines; version 3
packs many into a file and lists them in parquet. What the lists, the totals and the files say must agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from handeye.data.lerobot.info import MOST_ROWS, Info, bad, place, read_info, read_json_lines, whole
from handeye.data.lerobot.tables import Table, check_file
from handeye.data.lerobot.video import OFF_BY

MOST_EPISODES, MOST_STEPS = 100_000, 100_000
"""In a file's list, and of one episode: fifteen times all of LIBERO's, two hundred times its longest. A few bytes of
parquet can hold any number of equal rows."""

MOST_LISTED = 100_000_000
"""Bytes of such a list, without statistics: LIBERO's takes 300 an episode."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One episode on the disk."""

    number: int
    sentence: str
    length: int
    start: int
    """`index` of its first row, counted through the set."""

    data: Path
    row: int
    """Of its first step in `data`."""

    videos: Mapping[str, tuple[Path, int]]
    """Column of a camera -> file and the number of the first frame in it. Empty where pictures are in `data`."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """A whole set without its contents."""

    info: Info
    sentences: Mapping[int, str]
    """task_index -> sentence."""

    places: tuple[Place, ...]
    meta: tuple[Path, ...]
    """The files that this was read from."""

    warnings: tuple[str, ...]

    @property
    def files(self) -> set[Path]:
        videos = {path for at in self.places for path, _ in at.videos.values()}
        return {*self.meta, *videos, *(at.data for at in self.places)}


def read_index(root: Path) -> Index:
    """UserError where something is missing or two places disagree. Of data files, only length and columns are read."""
    info = read_info(root)
    old = info.version != "v3.0"
    sentences, tasks = _tasks_lines(root) if old else _tasks_table(root)
    rows, lists = _episodes_lines(root) if old else _episodes_tables(root)
    numbers = [whole(row, "episode_index", f"an episode in {lists[0]}") for row in rows]
    if len(set(numbers)) != len(numbers) or sorted(numbers) != list(range(len(numbers))):
        odd = sorted(set(range(len(numbers))) ^ set(numbers)) or [n for n in numbers if numbers.count(n) > 1]
        raise bad(lists[0], f"its {len(rows)} episodes are not numbered from 0 on: see number {odd[0]}")
    places = []
    start = 0
    for row in sorted(rows, key=lambda row: row["episode_index"]):
        at = (_place_old if old else _place_new)(info, row, start, _sentence(row, sentences, lists[0]))
        if at.length > MOST_STEPS:
            raise bad(f"episode {at.number} of {root}", f"it has {at.length} steps; up to {MOST_STEPS} are read")
        places.append(at)
        start += at.length
    if not places:
        raise bad(lists[0], "it lists no episodes")
    places = _with_rows(info, places)
    _check_videos(places)
    for name, said, counted in (
        ("total_episodes", info.episodes, len(places)),
        ("total_frames", info.frames, start),
    ):
        if said != counted:
            raise bad(root / "meta" / "info.json", f"{name} is {said}; its episodes have {counted}")
    warnings = list(info.warnings)
    if info.tasks != len(sentences):
        warnings.append(f"total_tasks is {info.tasks}; {tasks.name} lists {len(sentences)}")
    return Index(
        info=info,
        sentences=sentences,
        places=tuple(places),
        meta=(root / "meta" / "info.json", tasks, *lists),
        warnings=tuple(warnings),
    )


def _sentence(row: Mapping[str, Any], sentences: Mapping[int, str], where: Path) -> str:
    episode = f"episode {row['episode_index']} in {where}"
    tasks = row.get("tasks")
    if not isinstance(tasks, list) or len(tasks) != 1 or not isinstance(tasks[0], str):
        raise bad(episode, f"its tasks are {tasks!r} instead of one sentence")
    if tasks[0] not in sentences.values():
        raise bad(episode, f"its sentence {tasks[0]!r} is not in the list of tasks")
    return tasks[0]


def _tasks_lines(root: Path) -> tuple[dict[int, str], Path]:
    path = root / "meta" / "tasks.jsonl"
    return _sentences([(row.get("task_index"), row.get("task")) for row in read_json_lines(path)], path), path


def _tasks_table(root: Path) -> tuple[dict[int, str], Path]:
    """A pandas frame: the sentences are its index, in a column that pandas names __index_level_0__ (string or
    large_string, after pandas' version), or lerobot `task`."""
    path = root / "meta" / "tasks.parquet"
    table = Table(path)
    names = [name for name in ("__index_level_0__", "task") if name in table.schema.names]
    if len(names) != 1:
        raise bad(path, f"its columns are {', '.join(table.schema.names)} instead of task_index and the sentences")
    table.require(["task_index"], path)
    rows = _rows(table, ["task_index", names[0]])
    return _sentences([(row["task_index"], row[names[0]]) for row in rows], path), path


def _sentences(pairs: list[tuple[Any, Any]], path: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, sentence in pairs:
        if type(number) is not int or number in found or not isinstance(sentence, str) or not sentence.strip():
            raise bad(path, f"the task {number!r} {sentence!r} is not a new number and a sentence")
        found[number] = sentence
    return found


def _episodes_lines(root: Path) -> tuple[list[dict[str, Any]], list[Path]]:
    path = root / "meta" / "episodes.jsonl"
    return read_json_lines(path), [path]


def _episodes_tables(root: Path) -> tuple[list[dict[str, Any]], list[Path]]:
    """Their many columns of statistics are not read."""
    paths = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not paths:
        raise bad(root / "meta" / "episodes", "there is no parquet file in it")
    rows: list[dict[str, Any]] = []
    for path in paths:
        table = Table(path)
        table.require(["episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"], path)
        rows += _rows(table, [name for name in table.schema.names if not name.startswith("stats/")])
    return rows, paths


def _rows(table: Table, columns: list[str]) -> list[dict[str, Any]]:
    if len(table) > MOST_EPISODES:
        raise bad(table.path, f"it lists {len(table)} rows; up to {MOST_EPISODES} are read")
    rows: list[dict[str, Any]] = []
    taken = 0
    try:
        for batch in table.rows(columns):
            here = batch.to_pylist()
            taken += sum(_size(value) for row in here for value in row.values())
            if taken > MOST_LISTED:
                raise bad(table.path, f"its list unpacks to more than {MOST_LISTED} bytes")
            rows += here
        return rows
    except (pa.ArrowException, ValueError, OverflowError) as error:  # text that is not UTF-8, dates out of range
        raise bad(table.path, str(error)) from None


def _size(value: Any) -> int:
    """Bytes, more or less."""
    if isinstance(value, list | dict):
        return sum(map(_size, value.values() if isinstance(value, dict) else value))
    return len(value) if isinstance(value, str | bytes) else 8


def _place_old(info: Info, row: Mapping[str, Any], start: int, sentence: str) -> Place:
    number = row["episode_index"]
    names = {"episode_chunk": number // info.chunks_size, "episode_index": number}
    keys = info.keys.cameras.values() if info.images == "video" else ()
    return Place(
        number=number,
        sentence=sentence,
        length=whole(row, "length", f"episode {number} of {info.root}", low=1),
        start=start,
        data=place(info.root, info.data_path, **names),
        row=0,
        videos={key: (place(info.root, info.video_path, video_key=key, **names), 0) for key in keys},
    )


def _place_new(info: Info, row: Mapping[str, Any], start: int, sentence: str) -> Place:
    number = row["episode_index"]
    where = f"episode {number} of {info.root}"
    length = whole(row, "length", where, low=1)
    first, end = (whole(row, f"dataset_{name}_index", where) for name in ("from", "to"))
    if (first, end) != (start, start + length):
        raise bad(where, f"its rows are {first} to {end}; the lengths of the episodes make {start} to {start + length}")
    names = {name: whole(row, f"data/{name}", where) for name in ("chunk_index", "file_index")}
    videos = {}
    for key in info.keys.cameras.values() if info.images == "video" else ():
        at = {name: whole(row, f"videos/{key}/{name}", where) for name in ("chunk_index", "file_index")}
        since, until = (_seconds(row, f"videos/{key}/{name}_timestamp", where) for name in ("from", "to"))
        frame = round(since * info.fps)
        if abs(since * info.fps - frame) > OFF_BY:
            raise bad(where, f"its video of {key} starts at {since} s, between two frames at {info.fps:g} per second")
        if abs((until - since) * info.fps - length) > 0.5:
            spans = (until - since) * info.fps
            raise bad(where, f"its video of {key} spans {spans:.1f} frames; the episode has {length}")
        videos[key] = (place(info.root, info.video_path, video_key=key, **at), frame)
    return Place(
        number=number,
        sentence=sentence,
        length=length,
        start=start,
        data=place(info.root, info.data_path, **names),
        row=0,
        videos=videos,
    )


def _with_rows(info: Info, places: list[Place]) -> list[Place]:
    """Each episode's first row in its file: they lie in it one after the other, and it holds nothing else."""
    found: dict[int, Place] = {}
    files: dict[Path, list[Place]] = {}
    for at in places:
        files.setdefault(at.data, []).append(at)
    for path, of_file in files.items():
        table = Table(path)
        table.require(info.columns, f"episode {of_file[0].number} of {info.root}")
        row = 0
        for at in of_file:
            found[at.number] = replace(at, row=row)
            row += at.length
        if row != len(table):
            counted = ", ".join(str(at.number) for at in of_file[:3]) + (", ..." if len(of_file) > 3 else "")
            raise bad(path, f"it has {len(table)} rows; the list gives {row} to its episodes ({counted})")
        table.close()
    return [found[at.number] for at in places]


def _check_videos(places: list[Place]) -> None:
    """The files are there, and the episodes' ranges lie in each one after the other."""
    for key in places[0].videos:
        files: dict[Path, list[tuple[int, Place]]] = {}
        for at in places:
            files.setdefault(at.videos[key][0], []).append((at.videos[key][1], at))
        for path, of_file in files.items():
            check_file(path)
            frame = 0
            for first, at in sorted(of_file, key=itemgetter(0)):
                if first != frame:
                    raise bad(path, f"episode {at.number} starts at its frame {first}, those before it end at {frame}")
                frame += at.length


def _seconds(row: Mapping[str, Any], name: str, where: str) -> float:
    value = row.get(name)
    if not isinstance(value, int | float) or not 0 <= value < MOST_ROWS:
        raise bad(where, f"{name} is {value!r}")
    return float(value)
