"""Which way up an image is stored, and the few things done to pixels. Conversions go through upright RGB.

The surprise: what published LIBERO policies see is mirrored. OpenGL's first row is the bottom one, so upright is a
flip of the rows; the published code turns the raw image by 180 degrees instead, which also swaps left and right.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from handeye.conventions import pillow
from handeye.conventions.resample import Kernel, resample


class Orientation(Enum):
    """How the rows and columns of a stored image relate to the scene."""

    UPRIGHT = "top row first, left is left"
    """Everything inside handeye."""

    OPENGL = "bottom row first, left is left"
    """robosuite's raw renderings and LIBERO's HDF5 files (macros_image_convention = opengl)."""

    TURNED_180 = "top row first, left and right swapped"
    """The raw rendering turned by 180 degrees: RLDS and LeRobot copies of LIBERO, and the input of policies trained on
    them (openvla-oft experiments/robot/libero/libero_utils.py:33-44)."""


Turn = Callable[[np.ndarray], np.ndarray]
_UPRIGHT: dict[Orientation, Turn] = {
    Orientation.UPRIGHT: lambda image: image,
    Orientation.OPENGL: lambda image: image[..., ::-1, :, :],
    Orientation.TURNED_180: lambda image: image[..., ::-1, :],
}
"""Orientation -> to upright. Each is its own inverse."""


def convert(
    image: UInt8[np.ndarray, "*n h w 3"], *, source: Orientation, target: Orientation
) -> UInt8[np.ndarray, "*n h w 3"]:
    """A view of the same pixels, as another convention stores them."""
    if source is target:
        return image
    return _UPRIGHT[target](_UPRIGHT[source](image))


Method = Literal["area", "bilinear", "bicubic", "lanczos", "tensorflow_lanczos3", "jax_bilinear", "torch_bilinear"]
"""Four of Pillow's filters, then those of the libraries that published policies were trained with: TensorFlow's
antialiased Lanczos3 (OpenVLA), JAX's antialiased and PyTorch's plain bilinear (openpi)."""

_PILLOW: dict[str, pillow.Filter] = {"area": "BOX", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}
"""Pillow's names. When shrinking, all of them widen to the size of a target pixel (antialias)."""

_FLOAT: dict[str, tuple[Kernel, bool]] = {
    "tensorflow_lanczos3": ("lanczos3", True),
    "jax_bilinear": ("triangle", True),
    "torch_bilinear": ("triangle", False),
}
"""Kernel, antialias."""


def resize(
    image: UInt8[np.ndarray, "*n h w 3"], *, height: int, width: int, method: Method
) -> UInt8[np.ndarray, "*n y x 3"]:
    """Each frame on its own, without regard to its aspect ratio; uint8 in, uint8 out. Pillow rounds as it does; the
    float methods round halves to even, then clip."""
    if image.shape[-3:-1] == (height, width):
        return image
    if method in _FLOAT:
        kernel, antialias = _FLOAT[method]
        exact = resample(image, height=height, width=width, kernel=kernel, antialias=antialias)
        return np.asarray(np.clip(np.rint(exact), 0, 255), np.uint8)
    return pillow.resize(image, height, width, _PILLOW[method])


def fit(
    image: UInt8[np.ndarray, "*n h w 3"] | Float32[np.ndarray, "*n h w 3"], *, height: int, width: int, method: Method
) -> UInt8[np.ndarray, "*n y x 3"] | Float32[np.ndarray, "*n y x 3"]:
    """Resized with its aspect ratio kept, in the middle of black; an odd remainder goes to the bottom and the right
    (openpi's resize_with_pad). Single-precision images lie in [-1, 1], and only a float method can resize them."""
    h, w = image.shape[-3:-1]
    if (h, w) == (height, width):
        return image
    ratio = max(w / width, h / height)
    inner = max(int(h / ratio), 1), max(int(w / ratio), 1)
    if image.dtype == np.uint8:
        small: np.ndarray = resize(image, height=inner[0], width=inner[1], method=method)
        out = np.zeros((*image.shape[:-3], height, width, 3), np.uint8)
    elif method in _FLOAT:
        kernel, antialias = _FLOAT[method]
        small = np.clip(resample(image, height=inner[0], width=inner[1], kernel=kernel, antialias=antialias), -1, 1)
        out = np.full((*image.shape[:-3], height, width, 3), -1, np.float32)
    else:
        raise ValueError(f"{method} is one of Pillow's filters, which take uint8")
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    out[..., top : top + inner[0], left : left + inner[1], :] = small
    return out


def to_unit(image: UInt8[np.ndarray, "*n h w c"] | Float32[np.ndarray, "*n h w c"]) -> Float32[np.ndarray, "*n h w c"]:
    """[0, 255] -> [0, 1] as TensorFlow does it: times the single-precision 1/255. Floats are there already."""
    return image * np.float32(1 / 255) if image.dtype == np.uint8 else image


def to_levels(image: Float32[np.ndarray, "*n h w c"]) -> UInt8[np.ndarray, "*n h w c"]:
    """[0, 1] -> uint8 as TensorFlow's convert_image_dtype with saturation: times 255.5, cut off."""
    return np.clip(image * np.float32(255.5), 0, 255).astype(np.uint8)


Channels = tuple[float, float, float]
"""One number for each of red, green and blue."""


def normalise(
    image: UInt8[np.ndarray, "*n h w 3"] | Float32[np.ndarray, "*n h w 3"],
    *,
    means: tuple[Channels, ...],
    stds: tuple[Channels, ...],
) -> Float32[np.ndarray, "*n h w k"]:
    """To [0, 1], then (x - mean) / std per channel: three channels for each tower, in the towers' order. A mean and
    std of 0.5 give [-1, 1]. In single precision and in that order, as torchvision's to_tensor and Normalize."""
    mean, std = (np.array(rows, np.float32).reshape(-1) for rows in (means, stds))
    if image.dtype == np.uint8:  # one of 256 values: a look-up
        table = (np.arange(256, dtype=np.float32)[:, None] / np.float32(255) - mean) / std
        out = np.empty((*image.shape[:-1], len(mean)), np.float32)
        for channel in range(len(mean)):
            out[..., channel] = table[:, channel][image[..., channel % 3]]
        return out
    return (np.tile(image, len(means)) - mean) / std
