"""Resampling as TensorFlow, JAX and PyTorch define it: separable float weights, equal to TensorFlow's CPU kernels to
the bit. (Pillow's filters, which compute with integers, are `handeye.conventions.image.resize`'s other methods.)"""

from __future__ import annotations

import ctypes
import math
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Num

Kernel = Literal["lanczos3", "triangle"]
_RADIUS: dict[Kernel, int] = {"lanczos3": 3, "triangle": 1}
F = np.float32


def resample(
    image: Num[np.ndarray, "*n h w c"], *, height: int, width: int, kernel: Kernel, antialias: bool
) -> Float32[np.ndarray, "*n y x c"]:
    """Neither rounded nor clipped: Lanczos overshoots at edges. `antialias`: the kernel widens to a target pixel's size
    when shrinking. Rows first, then columns, each a sum in single precision from the first pixel to the last
    (tensorflow/core/kernels/image/scale_and_translate_op.cc; jax.image.resize is the same up to the order of sums)."""
    frames = np.ascontiguousarray(image).reshape(-1, *image.shape[-3:])
    h, w, _ = frames.shape[1:]
    rows, columns = _spans(h, height, kernel, antialias), _spans(w, width, kernel, antialias)
    out = np.empty((len(frames), height, width, frames.shape[-1]), F)
    for frame, target in zip(frames, out, strict=True):
        tall = _blend(frame.astype(F), rows)
        target[:] = _blend(np.ascontiguousarray(tall.swapaxes(0, 1)), columns).swapaxes(0, 1)
    return out.reshape(*image.shape[:-3], *out.shape[1:])


def _blend(lines: Float32[np.ndarray, "h w c"], spans: tuple[np.ndarray, np.ndarray]) -> Float32[np.ndarray, "y w c"]:
    pixels, weights = spans
    out = np.zeros((pixels.shape[1], *lines.shape[1:]), F)
    part = np.empty_like(out)
    for index, weight in zip(pixels, weights, strict=True):
        np.take(lines, index, axis=0, out=part, mode="clip")  # the only mode that does without a copy
        part *= weight[:, None, None]
        out += part
    return out


def crop_and_resize(
    image: Float[np.ndarray, "h w c"], *, top: float, left: float, tall: float, wide: float, height: int, width: int
) -> Float32[np.ndarray, "y x c"]:
    """The box, in fractions of the image, as `height` x `width` pixels: bilinear, corner pixels on corner pixels, black
    outside (tensorflow/core/kernels/image/crop_and_resize_op.cc)."""
    upper, lower, down, row_inside = _between(top, tall, image.shape[0], height)
    before, after, along, column_inside = _between(left, wide, image.shape[1], width)
    image = image.astype(F, copy=False)
    along, down = along[:, None], down[:, None, None]
    rows = []
    for row in (image[upper], image[lower]):
        start = np.take(row, before, axis=1)  # seven times as fast as row[:, before]
        rows.append(start + (np.take(row, after, axis=1) - start) * along)
    out: np.ndarray = rows[0] + (rows[1] - rows[0]) * down
    if not (row_inside.all() and column_inside.all()):
        out[~row_inside], out[:, ~column_inside] = 0, 0
    return out


@lru_cache(maxsize=64)
def _spans(size: int, target: int, kernel: Kernel, antialias: bool) -> tuple[np.ndarray, np.ndarray]:
    """(pixels, weights), each (K, target): the k-th source pixel of every target pixel, and its share."""
    inverse = F(1) / (F(target) / F(size))
    wide = max(inverse, F(1)) if antialias else F(1)
    reach = F(_RADIUS[kernel]) * wide
    starts, weights = [], []
    for pixel in range(target):
        centre = F(F(pixel) + F(0.5)) * inverse
        first = min(max(math.ceil(F(F(centre - reach) - F(0.5))), 0), size - 1)
        last = min(max(math.floor(F(F(centre + reach) - F(0.5))), 0), size - 1)
        away = np.arange(first, last + 1, dtype=F) + F(0.5) - centre
        weight = np.array([_KERNELS[kernel](x) for x in np.abs(away * (F(1) / wide))], F)
        total = F(0)
        for part in weight:
            total += part
        starts.append(first)
        weights.append(weight * (F(1) / total))
    most = max(map(len, weights))
    table = np.zeros((most, target), F)
    for pixel, weight in enumerate(weights):
        table[: len(weight), pixel] = weight
    pixels = np.minimum(np.array(starts) + np.arange(most)[:, None], size - 1)
    return pixels, table


def _lanczos3(x: np.float32) -> np.float32:
    if x > 3:
        return F(0)
    if x <= F(1e-3):
        return F(1)
    angle = F(math.pi) * x
    return F(3) * _sin(angle) * _sin(angle / F(3)) / (F(math.pi) * F(math.pi) * x * x)


def _triangle(x: np.float32) -> np.float32:
    return max(F(1) - x, F(0))


_KERNELS = {"lanczos3": _lanczos3, "triangle": _triangle}


def _sin(x: np.float32) -> np.float32:
    """The C library's single-precision sine, as TensorFlow calls it. A correctly rounded one differs in the last bit
    now and then, which moves two of 602,112 reference pixels by one level."""
    return F(_C_SIN(float(x))) if _C_SIN else F(math.sin(x))


def _c_sin() -> ctypes._NamedFuncPointer | None:
    try:
        function = ctypes.CDLL(None).sinf
    except (OSError, AttributeError, TypeError):  # no C library among what this process has loaded
        return None
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    return function


_C_SIN = _c_sin()


def _between(
    start: float, extent: float, size: int, target: int
) -> tuple[np.ndarray, np.ndarray, Float32[np.ndarray, "target"], np.ndarray]:
    """Per target pixel: the source pixel before, the one after, how far between, and whether it lies in the image."""
    first, end = F(start), F(F(start) + F(extent))
    step = F(F(end - first) * F(size - 1)) / F(target - 1)
    place = first * F(size - 1) + np.arange(target, dtype=F) * step
    inside = (place >= 0) & (place <= size - 1)
    place = np.clip(place, 0, size - 1)
    before = np.floor(place)
    return before.astype(np.intp), np.ceil(place).astype(np.intp), place - before, inside
