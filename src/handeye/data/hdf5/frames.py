"""Single frames out of a file that stays open: what a loader asks for, from everywhere, thousands of times."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Int64, UInt8

from handeye.conventions import image
from handeye.conventions.libero import HDF5_IMAGES
from handeye.data.hdf5 import chunks
from handeye.data.hdf5.read import check_file, check_shapes, damage, dataset_at, group_at, lacking


class FrameFile:
    """An open file. What a demonstration's datasets are is checked once, when it is first looked at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_file(path)
        with damage(path):
            # No cache of chunks, which each dataset would have: the next frame that is asked for lies in another one.
            self._file = h5py.File(path, "r", rdcc_nbytes=0)
        self._demos: dict[str, dict[str, h5py.Dataset]] = {}

    def read(self, demo: str, rows: Int64[np.ndarray, "n"]) -> dict[str, UInt8[np.ndarray, "n h w 3"]]:
        """Camera -> upright pictures of these rows, which ascend."""
        with damage(self.path):
            if demo not in self._demos:
                self._demos[demo] = self._checked(demo)
            stored = {camera: _rows(dataset, rows) for camera, dataset in self._demos[demo].items()}
        return {
            camera: image.convert(frames, source=image.Orientation.OPENGL, target=image.Orientation.UPRIGHT)
            for camera, frames in stored.items()
        }

    def _checked(self, name: str) -> dict[str, h5py.Dataset]:
        where, data = f"{self.path}: {name}", group_at(self._file, "data", self.path)
        demo = group_at(data, name, self.path)
        check_shapes(demo, where, lacking(dict(data.attrs), self.path))
        cameras = {ours: dataset_at(demo, f"obs/{theirs}", where) for ours, theirs in HDF5_IMAGES.items()}
        return {camera: chunks.check(dataset) for camera, dataset in cameras.items()}

    def close(self) -> None:
        self._demos.clear()
        self._file.close()


def _rows(dataset: h5py.Dataset, rows: Int64[np.ndarray, "n"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Each chunk is unpacked once. (h5py's own selection by a list costs many times as much as the pictures.)"""
    if len(rows) and rows[-1] - rows[0] + 1 == len(rows):
        return np.asarray(dataset[rows[0] : rows[-1] + 1])
    out = np.empty((len(rows), *dataset.shape[1:]), np.uint8)
    chunks = rows // (dataset.chunks[0] if dataset.chunks else 1)
    for chunk in np.unique(chunks):
        here = rows[chunks == chunk]
        out[chunks == chunk] = dataset[here[0] : here[-1] + 1][here - here[0]]
    return out
