"""OpenVLA's and OpenVLA-OFT's augmentations with TensorFlow's arithmetic (dlimp augmentations.py; parameters in
openvla prismatic/vla/datasets/datasets.py:122-136).

Images become float32 in [0, 1] with the first of them, are clipped after each, and are uint8 again after RoundImages.
Each camera is varied on its own. The reference draws each factor in single precision; here they are drawn in double,
from the sample's own generator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from handeye.conventions.image import to_levels, to_unit
from handeye.conventions.resample import crop_and_resize
from handeye.data.pipeline import colours
from handeye.data.pipeline.item import Item, Rngs, vary_images, with_images, within


@dataclass(frozen=True)
class CropRandomly:
    """`area` of the image at a random place, enlarged to the image's size."""

    area: float
    diagonal: bool
    """The reference draws both offsets from one seed, so they are equal: its crops lie on the diagonal only. False:
    anywhere."""

    def __post_init__(self) -> None:
        within(self.area, 0.01, 1, "A crop")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return vary_images(item, rngs, self._vary)

    def _vary(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        side = float(np.sqrt(np.float32(self.area)))
        top = rng.uniform(0, 1 - side)
        left = top if self.diagonal else rng.uniform(0, 1 - side)
        height, width, _ = image.shape
        return _clip(
            crop_and_resize(to_unit(image), top=top, left=left, tall=side, wide=side, height=height, width=width)
        )


@dataclass(frozen=True)
class VaryBrightness:
    """Up to `most` added or taken away, of a range of 1."""

    most: float

    def __post_init__(self) -> None:
        within(self.most, 0, 1, "A change of brightness")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return _vary(item, rngs, colours.brightness, (-self.most, self.most))


@dataclass(frozen=True)
class VaryContrast:
    """Each channel about its own mean, by one factor."""

    factors: tuple[float, float]
    """Lowest and highest."""

    def __post_init__(self) -> None:
        within(self.factors[1], 0, 100, "A factor of contrast")
        within(self.factors[0], 0, self.factors[1], "A factor of contrast")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return _vary(item, rngs, colours.contrast, self.factors)


@dataclass(frozen=True)
class VarySaturation:
    factors: tuple[float, float]
    """Lowest and highest."""

    def __post_init__(self) -> None:
        within(self.factors[1], 0, 100, "A factor of saturation")
        within(self.factors[0], 0, self.factors[1], "A factor of saturation")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return _vary(item, rngs, colours.saturation, self.factors)


@dataclass(frozen=True)
class VaryHue:
    """By up to `most` turns of the colour circle."""

    most: float

    def __post_init__(self) -> None:
        within(self.most, 0, 1, "A change of hue")

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return _vary(item, rngs, colours.hue, (-self.most, self.most))


@dataclass(frozen=True)
class RoundImages:
    """Back to uint8, as TensorFlow rounds: down, after 255.5."""

    def __call__(self, item: Item, rngs: Rngs) -> Item:
        return with_images(item, to_levels)


def _vary(
    item: Item, rngs: Rngs, change: Callable[[np.ndarray, float], np.ndarray], limits: tuple[float, float]
) -> Item:
    return vary_images(item, rngs, lambda image, rng: _clip(change(to_unit(image), rng.uniform(*limits))))


def _clip(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 1)
