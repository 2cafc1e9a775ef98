"""What a chunk layout of HDF5 pictures costs: size against the time for one step at random and for all in order.

    python recipes/hdf5_layouts.py DEMOS     # a folder of HDF5 demonstrations; docs/data/hdf5.md has its figures

Processor time of one thread; copies of the set's pictures are written into a temporary folder, one layout at a time.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from handeye.conventions.libero import HDF5_IMAGES
from handeye.data.hdf5.source import Hdf5Source

LAYOUTS: list[tuple[tuple[int, int] | None, tuple[int, int] | None, dict[str, Any]]] = [
    (None, None, {}),
    ((128, 2), (128, 2), {"compression": "gzip"}),
    ((16, 16), (16, 16), {"compression": "gzip"}),
    ((8, 16), (1, 256), {"compression": "gzip"}),
    ((4, 16), (1, 256), {"compression": "gzip"}),
    ((4, 16), (1, 256), {"compression": "gzip", "compression_opts": 6}),
    ((2, 32), (1, 256), {"compression": "gzip"}),
    ((1, 256), (1, 256), {"compression": "gzip"}),
    ((1, 256), (1, 256), {"compression": "lzf"}),
]
"""Frames and rows in a chunk of agentview, of wrist, and how it is compressed (gzip: 4 unless said)."""


def main() -> None:
    source = Hdf5Source(Path(sys.argv[1]))
    demos = [source.load(ref).images for ref in source.episodes]
    steps = sum(len(demo["agentview"]) for demo in demos)
    raw = sum(frames.nbytes for demo in demos for frames in demo.values())
    with tempfile.TemporaryDirectory() as folder:
        for fixed, moving, how in LAYOUTS:
            path = Path(folder) / "layout.hdf5"
            started = time.process_time()
            size = _write(path, demos, {"agentview": fixed, "wrist": moving}, how)
            written = (time.process_time() - started) / steps
            at_random, in_order = _read(path, demos)
            print(  # noqa: T201
                f"{fixed!s:>9} {moving!s:>9} {how!s:48} {size / raw:6.1%}  one {at_random * 1e3:6.2f} ms"
                f"  all {in_order / steps * 1e3:5.2f} ms  written {written * 1e3:5.2f} ms a step"
            )


def _write(path: Path, demos: list[Any], chunks: dict[str, tuple[int, int] | None], how: dict[str, Any]) -> int:
    size = 0
    with h5py.File(path, "w") as file:
        for number, demo in enumerate(demos):
            for camera, frames in demo.items():
                length, height, width, _ = frames.shape
                layout = chunks[camera]
                chunk = (min(layout[0], length), min(layout[1], height), width, 3) if layout else None
                made = file.create_dataset(f"{number}/{camera}", data=frames, chunks=chunk, **how)
                size += made.id.get_storage_size()
    return size


def _read(path: Path, demos: list[Any]) -> tuple[float, float]:
    """Seconds for one step at random, for all in order."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "r", rdcc_nbytes=0) as file:
        count, started = 100, time.process_time()
        for _ in range(count):
            number = rng.integers(len(demos))
            row = rng.integers(len(demos[number]["agentview"]))
            for camera in HDF5_IMAGES:
                file[f"{number}/{camera}"][row]
        at_random = (time.process_time() - started) / count
        started = time.process_time()
        for number in range(len(demos)):
            for camera in HDF5_IMAGES:
                file[f"{number}/{camera}"][()]
        return at_random, time.process_time() - started


if __name__ == "__main__":
    main()
