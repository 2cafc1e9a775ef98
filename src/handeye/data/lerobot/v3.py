"""LeRobot version 3.0 on the disk: many episodes per parquet file and per video, lists and statistics in parquet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from handeye.data.lerobot.assembly import CHUNK, Assembly, plain, synced, write_json
from handeye.data.lerobot.info import FPS, place
from handeye.data.lerobot.part import Part
from handeye.data.lerobot.statistics import Stats, together
from handeye.data.lerobot.tables import AT_ONCE
from handeye.data.lerobot.video import concatenate

DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"

MB = 1024 * 1024
LISTED = 10
"""Episodes per row group of the list; the library's number."""


class Tables:
    """Parquet files that follow each other, each closed before it grows beyond a limit."""

    def __init__(self, out: Path, template: str, limit: int) -> None:
        self._out, self._template, self._limit = out, template, limit
        self._number, self._rows = 0, 0
        self._path: Path | None = None
        """Of the file that is open."""

    def place(self, rows: int) -> dict[str, int]:
        """Folder and file that the next rows go to; the room that they take is estimated from those before them."""
        if self._path is not None:
            size = self._sink.tell()
            if size + size / self._rows * rows >= self._limit:
                self.close()
                self._number += 1
        return _numbered(self._number)

    def write(self, table: pa.Table, *, row_group: int | None = None) -> None:
        if self._path is None:
            self._path = place(self._out, self._template, **_numbered(self._number))
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._sink, self._rows = pa.OSFile(str(self._path), "wb"), 0
            self._writer = pq.ParquetWriter(self._sink, table.schema)
        self._writer.write_table(table, row_group_size=row_group)
        self._rows += len(table)

    def close(self) -> None:
        if self._path is not None:
            self._writer.close()
            self._sink.close()
            synced(self._path)
            self._path = None


def assemble(whole: Assembly, *, data_mb: int, video_mb: int) -> dict[str, Any]:
    """Everything but meta/info.json, which is returned."""
    films = {key: _films(whole, key, video_mb * MB) for key in whole.keys.cameras.values() if whole.images != "png"}
    data, lists = Tables(whole.out, DATA, data_mb * MB), Tables(whole.out, EPISODES, data_mb * MB)
    start = 0
    total: dict[str, Stats] | None = None
    listed: list[dict[str, Any]] = []
    for number, part in enumerate(whole.parts):
        table, stats = whole.episode(number, start)
        at = data.place(part.length)
        data.write(table, row_group=AT_ONCE if whole.images == "png" else None)
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [part.sentence],
            "length": part.length,
            **{f"data/{name}": value for name, value in at.items()},
            "dataset_from_index": start,
            "dataset_to_index": start + part.length,
        }
        for key, of_key in films.items():
            row |= {f"videos/{key}/{name}": value for name, value in of_key[number].items()}
        row |= {f"stats/{key}/{name}": value for key, of in plain(stats).items() for name, value in of.items()}
        listed.append(row)
        if len(listed) == LISTED or part is whole.parts[-1]:
            at = lists.place(len(listed))
            for row in listed:
                row |= {f"meta/episodes/{name}": value for name, value in at.items()}
            lists.write(pa.Table.from_pylist(listed))
            listed = []
        total = stats if total is None else together([total, stats])
        start += part.length
    data.close()
    lists.close()
    assert total is not None
    write_json(whole.out / "meta" / "stats.json", plain(total))
    _write_tasks(whole)
    return {
        "codebase_version": whole.version,
        "robot_type": "panda",
        "total_episodes": len(whole.parts),
        "total_frames": whole.frames,
        "total_tasks": len(whole.tasks),
        "chunks_size": CHUNK,
        "data_files_size_in_mb": data_mb,
        "video_files_size_in_mb": video_mb,
        "fps": FPS,
        "splits": {"train": f"0:{len(whole.parts)}"},
        "data_path": DATA,
        "video_path": VIDEO if films else None,
        "features": whole.features(),
    }


def _films(whole: Assembly, key: str, limit: int) -> list[dict[str, Any]]:
    """A camera's episodes strung together into files; where each one came to lie."""
    files: list[list[Part]] = []
    room = 0
    for part in whole.parts:
        if not files or part.sizes[key] >= room:
            files.append([])
            room = limit
        files[-1].append(part)
        room -= part.sizes[key]
    found = []
    for number, of_file in enumerate(files):
        path = place(whole.out, VIDEO, video_key=key, **_numbered(number))
        path.parent.mkdir(parents=True, exist_ok=True)
        concatenate(((part.member(key), part.length) for part in of_file), path, fps=FPS)
        synced(path)
        since = 0.0
        for part in of_file:
            until = since + part.length / FPS  # added up as the library does
            found.append({**_numbered(number), "from_timestamp": since, "to_timestamp": until})
            since = until
    return found


def _numbered(number: int) -> dict[str, int]:
    chunk, file = divmod(number, CHUNK)
    return {"chunk_index": chunk, "file_index": file}


def _write_tasks(whole: Assembly) -> None:
    """A pandas frame (of pandas 2) whose index are the sentences."""
    path = whole.out / "meta" / "tasks.parquet"
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    number = {"pandas_type": "int64", "numpy_type": "int64"}
    index = "__index_level_0__"
    pandas = {
        "index_columns": [index],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number, "metadata": None},
            {"name": None, "field_name": index, **text, "metadata": None},
        ],
        "attributes": {},
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.3.3",
    }
    table = pa.table({"task_index": list(whole.tasks.values()), index: list(whole.tasks)})
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(pandas)}), path)
    synced(path)
