"""What openpi's JAX training really does to images (models/model.py:168-187 with augmax 0.4.1), image by image.

Its call reads "crop 95 %, resize, rotate 5 degrees, ColorJitter(brightness 0.3, contrast 0.4, saturation 0.5)". What
happens: crop, resize and rotation are one bilinear sampling, black beyond the edge, on cameras without "wrist" in
their name; the jitter changes every second image only (augmax's p = 0.5), moves the hue by up to a tenth of the
circle (augmax's default), and computes the saturation and throws it away. Brightness and contrast act on V of HSV.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from handeye.conventions.image import to_unit
from handeye.data.pipeline import colours
from handeye.data.pipeline.item import IMAGE, Item, Rngs, images, vary_images, within
from handeye.errors import UserError


@dataclass(frozen=True)
class WarpImages:
    """A crop of `crop` of each side at a random place, enlarged and turned by up to `degrees`: float32 in [0, 1]."""

    cameras: tuple[str, ...]
    """Those that it is done to; the others only become floats."""

    crop: float
    degrees: float

    def __post_init__(self) -> None:
        within(self.crop, 0.01, 1, "A crop")
        within(self.degrees, 0, 180, "A turn")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        if missing := [name for name in self.cameras if IMAGE + name not in images(item)]:
            raise UserError(
                f"The camera '{missing[0]}' cannot be varied: it is not there.",
                fix="name cameras that SelectCameras keeps",
            )
        warped = {IMAGE + name for name in self.cameras}
        moved = vary_images({name: value for name, value in item.items() if name in warped}, rngs, self._vary)
        still = {name: to_unit(value) for name, value in images(item).items() if name not in warped}
        return {**item, **moved, **still}

    def _vary(self, image: np.ndarray, rng: np.random.Generator) -> Float32[np.ndarray, "H W 3"]:
        height, width, _ = image.shape
        small = int(height * self.crop), int(width * self.crop)
        shift = [
            rng.uniform(-(full - part) / 2, (full - part) / 2)
            for full, part in zip((height, width), small, strict=True)
        ]
        angle = np.deg2rad(rng.uniform(-self.degrees, self.degrees))
        return warp(to_unit(image), small=small, shift=(shift[0], shift[1]), angle=float(angle))


@dataclass(frozen=True)
class JitterValue:
    """Every image, with probability `share`: V of HSV brighter or darker, along a contrast curve, and the hue moved.
    Takes floats in [0, 1]."""

    brightness: float
    contrast: float
    hue: float
    """In turns."""

    share: float

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "hue", "share"):
            within(getattr(self, name), 0, 1 if name == "share" else 0.99, f"A {name}")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return vary_images(item, rngs, self._vary)

    def _vary(self, image: Float32[np.ndarray, "H W 3"], rng: np.random.Generator) -> Float32[np.ndarray, "H W 3"]:
        value, slant, turn = (rng.uniform(-most, most) for most in (self.brightness, self.contrast, self.hue))
        if rng.uniform() >= self.share:
            return image
        return colours.jitter(image, value=value, slant=slant, turn=turn)


def warp(
    image: Float32[np.ndarray, "H W 3"], *, small: tuple[int, int], shift: tuple[float, float], angle: float
) -> Float32[np.ndarray, "H W 3"]:
    """The part of `small` pixels whose centre is `shift` pixels (down, right) from the middle, as large as the image
    and turned by `angle` radians, in one bilinear sampling."""
    size = image.shape[:2]
    down, right = (np.arange(side, dtype=np.float32) - np.float32(side / 2 - 0.5) for side in size)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    turned = (cos * down[:, None] + sin * right, cos * right - sin * down[:, None])
    places = [
        axis * np.float32(part / side) + np.float32(move + side / 2 - 0.5)
        for axis, part, side, move in zip(turned, small, size, shift, strict=True)
    ]
    padded = np.pad(image, ((1, 2), (1, 2), (0, 0)))  # black beyond the edge, blended into it
    floors, parts = [], []
    for place, side in zip(places, size, strict=True):
        floor = np.floor(np.clip(place, -1, side))
        floors.append(floor.astype(np.intp) + 1)
        parts.append(np.clip(place, -1, side) - floor)
    flat, row = padded.reshape(-1, 3), padded.shape[1]
    start = (floors[0] * row + floors[1]).ravel()
    y, x = (part.reshape(-1, 1) for part in parts)
    above = flat[start] * (1 - x) + flat[start + 1] * x
    below = flat[start + row] * (1 - x) + flat[start + row + 1] * x
    return (above * (1 - y) + below * y).reshape(image.shape)
