"""MP4 as LeRobot stores cameras: single frames out of long files, episodes into them.

A frame is found by its time alone: number n of a file is the one shown at n / fps. LeRobot's own files have a key frame
every two frames, so any frame costs at most two to decode.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import UInt8

from handeye.data.lerobot import mp4
from handeye.data.lerobot.info import bad
from handeye.data.lerobot.tables import check_file
from handeye.data.pictures import MOST_SIDE
from handeye.errors import UserError

Codec = Literal["av1", "h264"]

ENCODERS: dict[Codec, tuple[str, dict[str, str]]] = {
    "av1": ("libsvtav1", {"g": "2", "crf": "30", "preset": "8", "svtav1-params": "lp=1"}),
    "h264": ("libx264", {"g": "2", "crf": "30", "bf": "0", "threads": "1", "x264-params": "no-mbtree=1"}),
}
"""Key frame distance and quality are LeRobot's (lerobot 0.4.4 datasets/video_utils.py: g=2, crf=30); its preset, 12,
is half as fast again and a tenth larger. One thread: the bytes must not depend on the machine's cores, and conversions
run one episode per core. No frame is stored before one that is shown earlier (bf=0): what is strung together must
stay in order. Without the tree of macroblocks: its AVX-512 code reads memory that was never written where a width is no
multiple of 64, and one file in twenty had other bytes."""

BEFORE = 16
"""Frames before one that are tried when a jump to it leads behind it."""

OFF_BY = 0.1
"""Of a frame's duration: a time that is farther from n / fps belongs to another rate."""


class Video:
    """An open MP4 file."""

    def __init__(self, path: Path, *, fps: float, size: tuple[int, int]) -> None:
        self.path, self._fps, self._size = path, Fraction(fps).limit_denominator(1001), size
        with damage(path):
            check_file(path)
            mp4.check(path)
            # The format is given, not probed: a playlist under this name could send FFmpeg anywhere. The limit counts
            # here, where FFmpeg may decode a frame to learn more, and below, where we do.
            limit = {"max_pixels": str(MOST_SIDE**2)}
            self._container = av.open(f"file:{path.absolute()}", format="mp4", options=limit)
            if not self._container.streams.video:
                raise bad(path, "there is no video in it")
            self._stream = self._container.streams.video[0]
            if self._stream.codec_context is None or not self._stream.time_base:
                raise bad(path, "its codec is not known")
            self._tick = self._stream.time_base
            self._stream.codec_context.thread_count = 1  # one thread: loaders fork, and run one per core
            self._stream.codec_context.options = limit
            self.codec = str(self._stream.codec.canonical_name)
            self.frames = int(self._stream.frames)
            found = (self._stream.height, self._stream.width)
        if found != size:
            raise bad(path, f"its frames are {found[0]} x {found[1]} pixels instead of {size[0]} x {size[1]}")
        self._colours = VideoReformatter()
        self._coming: Iterator[av.VideoFrame] = iter(())
        self._next = -1
        """Number of the frame that `_coming` gives next; -1: not known."""

        self._behind = 1
        """Most frames that lay between a key frame and the one that was jumped to: as many are rather decoded than
        jumped over."""

    def read(self, wanted: Sequence[int]) -> UInt8[np.ndarray, "n h w 3"]:
        """These frames of the file, whose numbers ascend."""
        if wanted and self.frames and wanted[-1] >= self.frames:
            raise bad(self.path, f"it has {self.frames} frames, and frame {wanted[-1]} is asked for")
        out = np.empty((len(wanted), *self._size, 3), np.uint8)
        with damage(self.path):
            for target, number in zip(out, wanted, strict=True):
                target[:] = self._pixels(self._find(number))
        return out

    def _find(self, number: int) -> av.VideoFrame:
        if not 0 <= self._next <= number <= self._next + self._behind:
            for earlier in (0, BEFORE, number):  # a key frame can be stored (dts) before the moment it is shown (pts)
                self._seek(max(0, number - earlier))
                frame = next(self._coming, None)
                if frame is not None and self._number(frame) <= number:
                    self._behind = max(self._behind, number - self._number(frame))
                    break
        else:
            frame = next(self._coming, None)
        while frame is not None and (found := self._number(frame)) <= number:
            self._next = found + 1
            if found == number:
                return frame
            frame = next(self._coming, None)
        self._next = -1
        raise bad(self.path, f"it has no frame {number} (at {float(number / self._fps):.3f} s)")

    def _seek(self, number: int) -> None:
        self._container.seek(round(number / self._fps / self._tick), stream=self._stream)
        self._coming = self._container.decode(self._stream)

    def _number(self, frame: av.VideoFrame) -> int:
        if frame.pts is None or frame.time_base is None:
            raise bad(self.path, "a frame has no time")
        moment = frame.pts * frame.time_base * self._fps
        if abs(moment - round(moment)) > OFF_BY:
            raise bad(
                self.path, f"a frame is shown at {float(moment / self._fps):.4f} s: not at {self._fps} per second"
            )
        return round(moment)

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        if (frame.height, frame.width) != self._size or frame.is_corrupt:
            raise bad(self.path, f"frame {self._number(frame)} is damaged")
        return self._colours.reformat(frame, format="rgb24", threads=1).to_ndarray()

    def close(self) -> None:
        self._coming = iter(())
        self._container.close()


def encode(frames: UInt8[np.ndarray, "n h w 3"], *, codec: Codec, fps: int) -> bytes:
    """An MP4 file. The same frames give the same bytes."""
    name, options = ENCODERS[codec]
    os.environ.setdefault("SVT_LOG", "1")  # errors alone: the encoder prints a page for every file otherwise
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream(name, fps, options=dict(options))
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.height, stream.width = frames.shape[1:3]
        colours = VideoReformatter()
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame = colours.reformat(frame, format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out.getvalue()


def concatenate(parts: Iterable[tuple[bytes, int]], path: Path, *, fps: int) -> None:
    """One file of all parts (made by `encode` with the same settings) and their numbers of frames, not decoded."""
    with av.open(f"file:{path.absolute()}", "w", format="mp4", options={"movflags": "faststart"}) as container:
        target = None
        done = 0
        for content, length in parts:
            with av.open(io.BytesIO(content), "r", format="mp4") as part:
                source = part.streams.video[0]
                if target is None:
                    target = container.add_stream_from_template(source, opaque=True)
                    target.time_base = source.time_base
                assert source.time_base is not None
                shift = round(Fraction(done, fps) / source.time_base)
                for packet in part.demux(source):
                    if packet.pts is None or packet.dts is None:  # the demuxer's end mark
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, target
                    container.mux(packet)
            done += length


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever FFmpeg makes of a damaged file ends as a UserError."""
    try:
        yield
    except UserError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, EOFError, IndexError, OverflowError, MemoryError) as error:
        raise bad(path, str(error) or type(error).__name__) from error
