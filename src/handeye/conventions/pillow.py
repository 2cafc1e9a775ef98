"""Pillow's filters on 8-bit pictures, with Pillow's bits: in C (`_resize.c`) where a compiler was at hand when handeye
was installed, else by Pillow itself. Which one ran is a matter of time alone; the C is three to four times as fast.

Sources: Pillow src/libImaging/Resample.c (ImagingResampleInner and the passes for 8 bits).
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

Filter = Literal["BOX", "BILINEAR", "BICUBIC", "LANCZOS"]
VERSION = 1
"""Of the C function's arguments."""

BITS = 22
"""Of a weight behind the point: 32 less 8 for the pixel and 2 to spare (Pillow src/libImaging/Resample.c)."""


def resize(
    image: UInt8[np.ndarray, "*n h w 3"], height: int, width: int, method: Filter
) -> UInt8[np.ndarray, "*n y x 3"]:
    """Every picture as Pillow's resize makes it, however it lies in memory."""
    frames = image.reshape(-1, *image.shape[-3:])  # a view, wherever the leading axes allow it
    out = np.empty((len(frames), height, width, 3), np.uint8)
    if library() is not None and _rows_first(frames, out) and frames.strides[-1] == 1 and abs(frames.strides[-2]) == 3:
        _by_c(frames, out, method)
    else:
        _by_pillow(frames, out, method)
    return out.reshape(*image.shape[:-3], height, width, 3)


def _rows_first(frames: UInt8[np.ndarray, "n h w 3"], out: UInt8[np.ndarray, "n y x 3"]) -> bool:
    """What lies between the two passes is rounded, so their order counts. Up to Pillow 12 it was always rows, then
    columns; from 13 on it is not where the height shrinks by more than twice as many pixels as the width."""
    lower, narrower = frames.shape[1] - out.shape[1], frames.shape[2] - out.shape[2]
    return bool(lower <= 0 or lower <= 2 * narrower)


def _by_pillow(frames: UInt8[np.ndarray, "n h w 3"], out: UInt8[np.ndarray, "n y x 3"], method: Filter) -> None:
    from PIL import Image  # here: declaring a spec needs no Pillow

    for frame, target in zip(frames, out, strict=True):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        target[:] = np.asarray(picture.resize((out.shape[2], out.shape[1]), Image.Resampling[method]))


def _by_c(frames: UInt8[np.ndarray, "n h w 3"], out: UInt8[np.ndarray, "n y x 3"], method: Filter) -> None:
    (count, h, w, _), (_, height, width, _) = frames.shape, out.shape
    rows = np.empty((h, width, 3), np.uint8)
    numbers, sums = np.empty(3 * w + 1, np.int32), np.empty(3 * width + 1, np.int32)
    compiled = library()
    assert compiled is not None
    compiled.handeye_resize(
        frames.ctypes.data, count, h, w, *frames.strides[:3], out.ctypes.data, height, width,
        rows.ctypes.data, numbers.ctypes.data, sums.ctypes.data,
        *_addresses(_weights(w, width, method) if w != width else None),
        *_addresses(_weights(h, height, method) if h != height else None),
    )  # fmt: skip


Weights = tuple[np.ndarray, np.ndarray, np.ndarray]


def _addresses(weights: Weights | None) -> tuple[int | None, int | None, int | None, int]:
    if weights is None:
        return None, None, None, 0
    return weights[0].ctypes.data, weights[1].ctypes.data, weights[2].ctypes.data, weights[2].shape[1]


@lru_cache(maxsize=64)
def _weights(size: int, target: int, method: Filter) -> Weights:
    """Per target pixel: its first source pixel, how many there are, and their weights (precompute_coeffs and
    normalize_coeffs_8bpc)."""
    radius, kernel = KERNELS[method]
    scale = size / target
    wide = max(scale, 1.0)
    reach = radius * wide
    first, count = np.zeros(target, np.int32), np.zeros(target, np.int32)
    weights = np.zeros((target, math.ceil(reach) * 2 + 1), np.int32)
    for pixel in range(target):
        centre = (pixel + 0.5) * scale
        low = max(int(centre - reach + 0.5), 0)
        high = min(int(centre + reach + 0.5), size)
        exact = [kernel((source - centre + 0.5) * (1.0 / wide)) for source in range(low, high)]
        total = 0.0
        for weight in exact:
            total += weight
        first[pixel], count[pixel] = low, high - low
        for place, weight in enumerate(exact):
            share = weight / total if total != 0.0 else weight
            weights[pixel, place] = int(math.copysign(0.5, share) + share * (1 << BITS))
    return first, count, weights


def _box(x: float) -> float:
    return 1.0 if -0.5 < x <= 0.5 else 0.0


def _triangle(x: float) -> float:
    return max(1.0 - abs(x), 0.0)


def _cubic(x: float) -> float:
    a, x = -0.5, abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2.0 else 0.0


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3.0 <= x < 3.0 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0.0 else math.sin(x * math.pi) / (x * math.pi)


KERNELS: dict[Filter, tuple[float, Callable[[float], float]]] = {
    "BOX": (0.5, _box),
    "BILINEAR": (1.0, _triangle),
    "BICUBIC": (2.0, _cubic),
    "LANCZOS": (3.0, _lanczos),
}
"""How far each reaches, and its height."""


@cache
def library() -> ctypes.CDLL | None:
    """The compiled `_resize.c`; None where it was not built, or for another version of this file."""
    for path in sorted(Path(__file__).parent.glob("_resize*")):
        if path.suffix in (".so", ".pyd", ".dylib"):
            try:
                found = ctypes.CDLL(str(path))
                found.handeye_resize_version.restype = ctypes.c_int64
            except (OSError, AttributeError):  # built for another machine, or not ours
                continue
            if found.handeye_resize_version() == VERSION:
                address, number = ctypes.c_void_p, ctypes.c_int64
                direction = (address, address, address, number)
                found.handeye_resize.argtypes = (
                    address, *(number,) * 6, address, number, number, address, address, address, *direction, *direction,
                )  # fmt: skip
                found.handeye_resize.restype = None
                return found
    return None
