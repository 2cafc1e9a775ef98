"""Small files that say they hold something large are refused before room is made for it."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import run, sets
from damage.kinds import Kind

from handeye.data.lerobot.source import LeRobotSource
from handeye.data.lerobot.tables import Table
from handeye.data.lerobot.video import Video, encode
from handeye.data.source import open_source

MANY = 110_000_000
"""Numbers of four bytes: 440 MB."""


def ending(read: Callable[[], object]) -> run.Outcome:
    """`wrong` where it took more memory than a damaged file may."""
    return run.read(Kind(make=lambda path: None, read=lambda path: read(), changes={}), Path())


def refused(read: Callable[[], object], why: str) -> None:
    outcome = ending(read)
    assert outcome.ended == "refused" and re.search(why, outcome.said), outcome


def long_list(path: Path) -> Path:
    """One row with a list of MANY zeros, in 539 bytes."""
    zeros = pa.DictionaryArray.from_arrays(pa.array(np.zeros(MANY, np.int8)), pa.array([0.0], pa.float32()))
    table = pa.table({"state": pa.ListArray.from_arrays(pa.array([0, MANY], pa.int32()), zeros)})
    pq.write_table(table, path, data_page_size=1 << 30, write_statistics=False, store_schema=False)
    assert path.stat().st_size < 1000
    return path


def varint(value: int, width: int = 0) -> bytes:
    """Of Thrift; the same number may be written in more bytes."""
    out = bytearray()
    while value >= 0x80 or len(out) + 1 < width:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_a_list_of_millions_in_one_row(tmp_path: Path) -> None:
    path = long_list(tmp_path / "a.parquet")
    refused(lambda: Table(path).read(0, 1, ["state"]), f"{MANY} values in 1 rows")


def test_a_list_whose_length_is_hidden(tmp_path: Path) -> None:
    """The list of row groups says eight; the page has millions."""
    path = long_list(tmp_path / "a.parquet")
    content = path.read_bytes()
    start = len(content) - 8 - struct.unpack("<I", content[-8:-4])[0]
    said = varint(2 * MANY)
    assert said in content[start:]
    path.write_bytes(content[:start] + content[start:].replace(said, varint(2 * 8, len(said))))
    refused(lambda: Table(path).read(0, 1, ["state"]), f"{MANY} values instead of 8")


def test_a_hundred_million_equal_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"index": pa.array(np.zeros(50_000_000, np.int8))}), path, row_group_size=50_000_000)
    refused(lambda: Table(path).read(0, 5, ["index"]), "50000000 rows")


@pytest.mark.parametrize("codec", ["zstd", "gzip", "brotli", "lz4"])
def test_a_page_that_grows(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.parquet"
    pictures = pa.array([{"bytes": bytes(300_000_000), "path": ""}])
    pq.write_table(pa.table({"image": pictures}), path, compression=codec, use_dictionary=False, write_statistics=False)
    refused(lambda: next(Table(path).pictures([0], ["image"])), "would grow")


def test_one_long_sentence_for_many_rows(tmp_path: Path) -> None:
    root = tmp_path / "set"
    sets.converted(root, "lerobot", lerobot_version="v3.0")
    rows = 5000
    sentence = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 1_000_000]))
    table = pa.table({"task_index": np.arange(rows), "task": sentence})
    pq.write_table(table, root / "meta/tasks.parquet", dictionary_pagesize_limit=1 << 26)
    refused(lambda: LeRobotSource(root), "unpacks to more than")


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    path.write_bytes(encode(np.zeros((9, 32, 32, 3), np.uint8), codec="h264", fps=10))
    return path


def test_a_video_that_lists_frames_it_cannot_hold(film: Path) -> None:
    content = film.read_bytes()
    at = content.find(b"stsz") + 8
    film.write_bytes(content[:at] + struct.pack(">II", 1, 40_000_000) + content[at + 8 :])
    refused(lambda: Video(film, fps=10.0, size=(32, 32)).read([0]), "lists 40000000 frames")


def test_a_video_larger_than_it_says(film: Path) -> None:
    """The container says 32 x 32, the stream is larger than any picture that is decoded."""
    with av.open(str(film), "w") as container:
        stream = container.add_stream("libx264", 10, options={"preset": "ultrafast"})
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 4352
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame(4352, 4352, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    content = film.read_bytes()
    film.write_bytes(content.replace(struct.pack(">HH", 4352, 4352), struct.pack(">HH", 32, 32)))
    refused(lambda: Video(film, fps=10.0, size=(32, 32)).read([0]), "max_pixels|4352 x 4352")


def test_pictures_that_were_never_written(task_file: Path) -> None:
    with h5py.File(task_file, "a") as file:
        for demo in file["data"].values():
            for camera in ("agentview_rgb", "eye_in_hand_rgb"):
                del demo[f"obs/{camera}"]
                shape = (len(demo["actions"]), 4096, 4096, 3)
                demo.create_dataset(f"obs/{camera}", shape, "u1", chunks=(1, 64, 64, 3), compression="gzip")
    assert task_file.stat().st_size < 1_000_000
    refused(lambda: open_source(task_file), "only 0 of it are in the file")


def test_a_chunk_that_grows(task_file: Path) -> None:
    """The library would unpack it to its end."""
    packed = zlib.compressobj(9)
    bomb = b"".join([packed.compress(bytes(10_000_000)) for _ in range(60)] + [packed.flush()])
    with h5py.File(task_file, "a") as file:
        for demo in file["data"].values():
            shape = (len(demo["actions"]), 400, 400, 3)
            for camera in ("agentview_rgb", "eye_in_hand_rgb"):
                del demo[f"obs/{camera}"]
                pictures = demo.create_dataset(f"obs/{camera}", shape, "u1", chunks=shape, compression="gzip")
                pictures.id.write_direct_chunk((0, 0, 0, 0), bomb)
    source = open_source(task_file)
    for read in (lambda: source.load(source.episodes[0]), lambda: source.frames(source.episodes[0], [2])):
        refused(read, "unpacks to more than")


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"compression": "gzip", "shuffle": True, "fletcher32": True}]
)
def test_large_chunks_that_hold_what_they_should(task_file: Path, options: dict) -> None:
    with h5py.File(task_file, "a") as file:
        for demo in file["data"].values():
            for camera in ("agentview_rgb", "eye_in_hand_rgb"):
                noise = np.random.default_rng(0).integers(0, 256, (len(demo["actions"]), 400, 400, 3), np.uint8)
                del demo[f"obs/{camera}"]
                demo.create_dataset(f"obs/{camera}", data=noise, chunks=noise.shape, **options)
    source = open_source(task_file)
    assert len(source.load(source.episodes[0]).images["wrist"]) == len(
        source.frames(source.episodes[0], range(5))["wrist"]
    )
