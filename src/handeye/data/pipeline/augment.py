"""Our own augmentations, on uint8 images: what `tiny` is trained with. Fast: they run in the training process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from handeye.data.pipeline.item import Item, Rngs, images, within


@dataclass(frozen=True)
class ShiftImages:
    """Move each image by its own whole number of pixels, edges repeated: a crop of the padded image."""

    pixels: int
    """Largest shift up, down, left and right."""

    def __post_init__(self) -> None:
        within(self.pixels, 0, 1024, "A shift")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return {**item, **{name: self._shift(batch, rngs) for name, batch in images(item).items()}}

    def _shift(self, image_BHW3: UInt8[np.ndarray, "B H W 3"], rngs: Rngs) -> UInt8[np.ndarray, "B H W 3"]:
        _, H, W, _ = image_BHW3.shape
        most = self.pixels
        padded = np.pad(image_BHW3, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
        out = np.empty_like(image_BHW3)
        for rng, source, target in zip(rngs, padded, out, strict=True):
            y, x = rng.integers(0, 2 * most, 2, endpoint=True)
            target[:] = source[y : y + H, x : x + W]
        return out


@dataclass(frozen=True)
class JitterColours:
    """Each image its own light: contrast about the middle grey, brightness, and a gain per colour channel."""

    brightness: float
    """Added, as a fraction of the full range: uniform in [-brightness, brightness]."""

    contrast: float
    """Factor, uniform in [1 - contrast, 1 + contrast]."""

    colour: float
    """Factor per channel, uniform in [1 - colour, 1 + colour]."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "colour"):
            within(getattr(self, name), 0, 1, f"A {name}")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return {**item, **{name: self._jitter(batch, rngs) for name, batch in images(item).items()}}

    def _jitter(self, image_BHW3: UInt8[np.ndarray, "B H W 3"], rngs: Rngs) -> UInt8[np.ndarray, "B H W 3"]:
        draw_B5 = np.array([rng.uniform(-1, 1, 5) for rng in rngs])
        gain_B3 = (1 + self.contrast * draw_B5[:, :1]) * (1 + self.colour * draw_B5[:, 1:4])
        offset_B1 = 127.5 + 255 * self.brightness * draw_B5[:, 4:]
        # All of it maps one of 256 values to another: one small table per image and channel, then look-ups.
        values = np.arange(256) - 127.5
        table_B3V = np.clip(np.rint(gain_B3[..., None] * values + offset_B1[..., None]), 0, 255).astype(np.uint8)
        out = np.empty_like(image_BHW3)
        for tables, source, target in zip(table_B3V, image_BHW3, out, strict=True):
            for channel, table in enumerate(tables):
                target[..., channel] = table[source[..., channel]]
        return out
