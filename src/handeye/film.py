"""Frames -> an mp4 that every browser plays: H.264, yuv420p, index first."""

from __future__ import annotations

import tempfile
from typing import Any, cast

import numpy as np
from jaxtyping import UInt8

SMALLEST = 128
"""Pixels; smaller images are enlarged by whole factors, for people to see them."""


def encode(frames: list[UInt8[np.ndarray, "H W 3"]], *, frames_per_second: int) -> bytes:
    """In a temporary file, not in memory: to put the index first the muxer opens by name what it has written."""
    import av  # here: evaluating without videos does not need it

    factor = max(1, -(-SMALLEST // frames[0].shape[0]))
    height, width = (side * factor // 2 * 2 for side in frames[0].shape[:2])  # yuv420p halves both: even sizes only
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
        with av.open(file.name, "w", format="mp4", container_options={"movflags": "+faststart"}) as container:
            # One thread: a worker has one core, and the same frames then give the same file.
            stream = cast(
                Any, container.add_stream("libx264", rate=frames_per_second, options={"crf": "26", "threads": "1"})
            )
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for frame in frames:
                large = frame.repeat(factor, 0).repeat(factor, 1)[:height, :width]
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(large), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return file.read()
