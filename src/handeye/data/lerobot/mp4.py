"""The list of frames at the head or end of an MP4 file (ISO 14496-12), looked at before FFmpeg makes room for it.

FFmpeg takes 24 bytes for every frame that is listed, before it looks for one. A list says each frame's size, or once
that all have the same: then twenty bytes stand for any number of frames.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

MOST_BYTES = 64_000_000
"""Of one list: those of five million frames, or of 140 hours."""

_PICTURES = {b"mdat", b"free", b"skip", b"wide"}
"""Boxes whose content FFmpeg does not take for lists."""

_LISTS = re.compile(rb"stsz.{8}(?P<frames>.{4})|trun.{4}(?P<run>.{4})|(?P<packed>cmov)", re.DOTALL)
"""A track's frames (after version, flags and the one size), a fragment's, and a list that is compressed."""


def check(path: Path) -> None:
    """ValueError where it lists more frames than it has bytes."""
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, name = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:  # a long one
                length = int.from_bytes(head[8:], "big")
            length = min(length, size - at) if length else size - at
            if length < 8:
                raise ValueError(f"its box at byte {at} has {length} bytes")
            if name not in _PICTURES:
                if length > MOST_BYTES:
                    raise ValueError(f"its box {name!r} at byte {at} has {length} bytes; up to {MOST_BYTES} are read")
                file.seek(at)
                _check_lists(file.read(length), size)
            at += length


def _check_lists(content: bytes, size: int) -> None:
    for found in _LISTS.finditer(content):
        if found["packed"]:
            raise ValueError("its list of frames is compressed, which LeRobot's never are")
        count = int.from_bytes(found["frames"] or found["run"], "big")
        if count > size:
            raise ValueError(f"it lists {count} frames in {size} bytes")
