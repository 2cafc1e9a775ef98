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


Method = Literal["area", "bilinear", "bicubic", "lanczos"]
_FILTERS = {"area": "BOX", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}
"""Pillow's names. When shrinking, all of them widen to the size of a target pixel (antialias)."""


def resize(
    image: UInt8[np.ndarray, "*n h w 3"], *, height: int, width: int, method: Method
) -> UInt8[np.ndarray, "*n y x 3"]:
    """Each frame on its own, without regard to its aspect ratio; uint8 in, uint8 out, rounded by Pillow."""
    if image.shape[-3:-1] == (height, width):
        return image
    from PIL import Image  # here: declaring a spec needs no Pillow

    pillow_filter = Image.Resampling[_FILTERS[method]]
    frames = np.ascontiguousarray(image).reshape(-1, *image.shape[-3:])
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        target[:] = np.asarray(Image.fromarray(frame).resize((width, height), pillow_filter))
    return out.reshape(*image.shape[:-3], height, width, 3)


def normalise(
    image: UInt8[np.ndarray, "*n h w 3"], *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Float32[np.ndarray, "*n h w 3"]:
    """To [0, 1], then per channel (x - mean) / std; mean = std = 0.5 gives [-1, 1]."""
    scale = 1 / (255 * np.array(std, np.float32))
    return image * scale - np.array(mean, np.float32) / np.array(std, np.float32)
