"""Small LeRobot sets made from nothing, without our writer: files as the layouts describe them, with known contents."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from handeye.data.lerobot.keys import STYLES, Keys
from handeye.data.lerobot.video import concatenate, encode

SIZE = 32
FPS = 10
SENTENCES = ("turn on the stove", "put the bowl on the plate")


@dataclass
class Made:
    """What lies on the disk. Images as stored: turned by 180 degrees."""

    root: Path
    keys: Keys
    sentences: list[str] = field(default_factory=list)
    states: list[np.ndarray] = field(default_factory=list)
    actions: list[np.ndarray] = field(default_factory=list)
    images: list[dict[str, np.ndarray]] = field(default_factory=list)

    def change_info(self, **fields: Any) -> None:
        path = self.root / "meta" / "info.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    def change_table(self, path: str, edit: Callable[[pa.Table], pa.Table]) -> None:
        pq.write_table(edit(pq.read_table(self.root / path)), self.root / path)


def make_set(
    root: Path,
    version: str = "v2.1",
    style: str = "openpi",
    images: str = "png",
    lengths: tuple[int, ...] = (5, 8, 3),
    extras: dict[str, Callable[[int], list[Any]]] | None = None,
) -> Made:
    """Episode e has the sentence e mod 2; the first 8 x 8 pixels of a picture say its row in the set. Version 3 puts
    the first two episodes into one file and the others into another. `extras`: columns by length."""
    rng = np.random.default_rng(len(root.name))
    made = Made(root, STYLES[style])
    tables, start = [], 0
    for number, length in enumerate(lengths):
        small = rng.integers(0, 256, (2, length, SIZE // 8, SIZE // 8, 3), dtype=np.uint8)
        frames = small.repeat(8, 2).repeat(8, 3)
        frames[:, :, :8, :8] = ((start + np.arange(length)) * 31 % 256)[:, None, None, None]
        state, action = rng.normal(size=(length, 8)).astype("f4"), rng.uniform(-1, 1, (length, 7)).astype("f4")
        made.sentences.append(SENTENCES[number % 2])
        made.states.append(state)
        made.actions.append(action)
        made.images.append({"agentview": frames[0], "wrist": frames[1]})
        rows = np.arange(length)
        columns: dict[str, Any] = {}
        for name, key in made.keys.cameras.items() if images == "png" else ():
            pictures = [{"bytes": _png(frame), "path": f"{k}.png"} for k, frame in enumerate(made.images[-1][name])]
            columns[key] = pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        columns[made.keys.state] = pa.array(state.tolist(), pa.list_(pa.float32(), 8))
        columns[made.keys.actions] = pa.array(action.tolist(), pa.list_(pa.float32(), 7))
        columns |= {
            "timestamp": pa.array(rows / FPS, pa.float32()), "frame_index": rows,
            "episode_index": np.full(length, number), "index": start + rows, "task_index": np.full(length, number % 2),
        }  # fmt: skip
        tables.append(pa.table(columns | {name: pa.array(f(length)) for name, f in (extras or {}).items()}))
        start += length
    write = _write_old if version != "v3.0" else _write_new
    write(made, tables, images)
    _write_info(made, tables, version, images, extras or {})
    return made


def _write_old(made: Made, tables: list[pa.Table], images: str) -> None:
    (made.root / "data" / "chunk-000").mkdir(parents=True)
    (made.root / "meta").mkdir()
    for number, table in enumerate(tables):
        pq.write_table(table, made.root / f"data/chunk-000/episode_{number:06d}.parquet", row_group_size=4)
        for name, key in made.keys.cameras.items() if images != "png" else ():
            path = made.root / f"videos/chunk-000/{key}/episode_{number:06d}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(made.images[number][name], codec=images, fps=FPS))
    _lines(made.root / "meta/tasks.jsonl", [{"task_index": k, "task": s} for k, s in enumerate(SENTENCES)])
    episodes = enumerate(zip(made.sentences, tables, strict=True))
    _lines(
        made.root / "meta/episodes.jsonl",
        [{"episode_index": k, "tasks": [s], "length": len(table)} for k, (s, table) in episodes],
    )


def _write_new(made: Made, tables: list[pa.Table], images: str) -> None:
    (made.root / "meta/episodes/chunk-000").mkdir(parents=True)
    (made.root / "data/chunk-000").mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    start = 0
    for file, numbers in enumerate([range(2), range(2, len(tables))][: 1 + (len(tables) > 2)]):
        name = f"chunk-000/file-{file:03d}"
        pq.write_table(
            pa.concat_tables([tables[k] for k in numbers]), made.root / f"data/{name}.parquet", row_group_size=4
        )
        for camera, key in made.keys.cameras.items() if images != "png" else ():
            (made.root / f"videos/{key}/chunk-000").mkdir(parents=True, exist_ok=True)
            parts = [(encode(made.images[k][camera], codec=images, fps=FPS), len(tables[k])) for k in numbers]
            concatenate(parts, made.root / f"videos/{key}/{name}.mp4", fps=FPS)
        since = 0.0
        for k in numbers:
            length = len(tables[k])
            row = {
                "episode_index": k, "tasks": [made.sentences[k]], "length": length, "data/chunk_index": 0,
                "data/file_index": file, "dataset_from_index": start, "dataset_to_index": start + length,
                "stats/action/min": [0.0] * 7,
            }  # fmt: skip
            for key in made.keys.cameras.values() if images != "png" else ():
                row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": file}
                row |= {f"videos/{key}/from_timestamp": since, f"videos/{key}/to_timestamp": since + length / FPS}
            rows.append(row)
            start += length
            since += length / FPS
    pq.write_table(pa.Table.from_pylist(rows), made.root / "meta/episodes/chunk-000/file-000.parquet")
    tasks = {"task_index": range(len(SENTENCES)), "__index_level_0__": pa.array(SENTENCES, pa.large_string())}
    pq.write_table(pa.table(tasks), made.root / "meta/tasks.parquet")


def _write_info(made: Made, tables: list[pa.Table], version: str, images: str, extras: dict[str, Any]) -> None:
    kind = "image" if images == "png" else "video"
    names = ["height", "width", "channel"]
    features = {key: {"dtype": kind, "shape": [SIZE, SIZE, 3], "names": names} for key in made.keys.cameras.values()}
    features[made.keys.state] = {"dtype": "float32", "shape": [8], "names": ["state"]}
    features[made.keys.actions] = {"dtype": "float32", "shape": [7], "names": ["actions"]}
    for name in ("timestamp", "frame_index", "episode_index", "index", "task_index"):
        features[name] = {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
    for name, values in extras.items():
        wide = isinstance(values(1)[0], list)
        features[name] = {"dtype": "float32" if wide else "bool", "shape": [7 if wide else 1], "names": None}
    new = version == "v3.0"
    old = "chunk-{episode_chunk:03d}"
    info = {
        "codebase_version": version, "total_episodes": len(tables), "total_frames": sum(map(len, tables)),
        "total_tasks": len(SENTENCES), "chunks_size": 1000, "fps": FPS, "splits": {"train": f"0:{len(tables)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if new else f"data/{old}/episode_{{episode_index:06d}}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if new else f"videos/{old}/{{video_key}}/episode_{{episode_index:06d}}.mp4",
        "features": features,
    }  # fmt: skip
    (made.root / "meta" / "info.json").write_text(json.dumps(info))


def _lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _png(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def lerobot_set(tmp_path: Path) -> Callable[..., Made]:
    """`lerobot_set(name, version=..., style=..., images=...)` makes one below the test's folder."""

    def make(name: str = "set", **options: Any) -> Made:
        return make_set(tmp_path / name, **options)

    return make
