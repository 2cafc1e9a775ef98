"""Encode steps for images: which cameras, which way up, which pixels, which numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handeye.conventions import image
from handeye.conventions.image import Channels
from handeye.conventions.resample import crop_and_resize
from handeye.data import pictures
from handeye.data.pipeline.item import IMAGE, IMAGE_MASK, Item, images, with_images, within
from handeye.errors import UserError


@dataclass(frozen=True)
class SelectCameras:
    """Keep these cameras, in this order. One that is missing is an error, never a black image."""

    cameras: tuple[str, ...]

    def __call__(self, item: Item) -> Item:
        if missing := [name for name in self.cameras if IMAGE + name not in item]:
            raise UserError(
                f"The policy looks through the camera '{missing[0]}', which is not there.",
                why="there is: " + (", ".join(name.removeprefix(IMAGE) for name in images(item)) or "no camera"),
                fix="render or record that camera, or use a policy trained without it",
            )
        others = {name: value for name, value in item.items() if not name.startswith(IMAGE)}
        return {IMAGE + name: item[IMAGE + name] for name in self.cameras} | others


@dataclass(frozen=True)
class TurnImages:
    """Store the pixels in another orientation: for policies that were trained on turned ones."""

    source: image.Orientation
    target: image.Orientation

    def __call__(self, item: Item) -> Item:
        return with_images(item, lambda pixels: image.convert(pixels, source=self.source, target=self.target))


@dataclass(frozen=True)
class CompressImages:
    """To JPEG and back, as TensorFlow encodes (quality 95, chroma halved) and decodes (fast DCT): what images in RLDS
    files have lost. A loss depends on the orientation in which they were stored, so turn them to it first."""

    def __call__(self, item: Item) -> Item:
        return with_images(item, self._compress)

    def _compress(self, pixels: np.ndarray) -> np.ndarray:
        out = np.empty_like(pixels, order="C")
        for place in np.ndindex(pixels.shape[:-3]):
            out[place] = pictures.decode(pictures.encode_jpeg(pixels[place]), "a compressed image")
        return out


@dataclass(frozen=True)
class ResizeImages:
    """Every camera to height x width without regard to its aspect ratio, uint8 as before."""

    height: int
    width: int
    method: image.Method

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)

    def __call__(self, item: Item) -> Item:
        return with_images(
            item, lambda pixels: image.resize(pixels, height=self.height, width=self.width, method=self.method)
        )


@dataclass(frozen=True)
class FitImages:
    """Every camera into height x width, its aspect ratio kept, the rest black (openpi's resize_with_pad). After
    NormalizeImages only the float methods, which is what openpi's models do with images of another size."""

    height: int
    width: int
    method: image.Method

    def __post_init__(self) -> None:
        _check_size(self.height, self.width)

    def __call__(self, item: Item) -> Item:
        return with_images(
            item, lambda pixels: image.fit(pixels, height=self.height, width=self.width, method=self.method)
        )


@dataclass(frozen=True)
class CropImages:
    """The middle of each image, `area` of it, enlarged to the image's size: TensorFlow's crop_and_resize, uint8 again.
    Where training crops at random, this is the crop while acting (openvla-oft openvla_utils.py:546-626)."""

    area: float

    def __post_init__(self) -> None:
        within(self.area, 0.01, 1, "A crop")

    def __call__(self, item: Item) -> Item:
        return with_images(item, self._crop)

    def _crop(self, pixels: np.ndarray) -> np.ndarray:
        side = np.sqrt(np.float32(self.area))
        start = (np.float32(1) - side) / np.float32(2)
        box = {"top": float(start), "left": float(start), "tall": float(side), "wide": float(side)}
        height, width = pixels.shape[-3:-1]
        out = np.empty_like(pixels, order="C")
        for place in np.ndindex(pixels.shape[:-3]):
            cropped = crop_and_resize(image.to_unit(pixels[place]), **box, height=height, width=width)
            out[place] = image.to_levels(cropped)
        return out


@dataclass(frozen=True)
class NormalizeImages:
    """To float32, (x / 255 - mean) / std, with three channels for each tower in the towers' order. Float images lie in
    [0, 1] already (an augmentation leaves them there)."""

    means: tuple[Channels, ...]
    stds: tuple[Channels, ...]

    def __post_init__(self) -> None:
        if len(self.means) != len(self.stds) or not self.means or any(s <= 0 for row in self.stds for s in row):
            raise UserError(
                f"Images cannot be normalised by means {self.means} and deviations {self.stds}.",
                why="each tower has three of both, and a deviation is above 0",
                fix="give as many rows of one as of the other",
            )

    def __call__(self, item: Item) -> Item:
        return with_images(item, lambda pixels: image.normalise(pixels, means=self.means, stds=self.stds))


@dataclass(frozen=True)
class MarkCameras:
    """Say which images are real, for a model with a fixed set of cameras: those there are get a mask of True, `absent`
    ones are black and masked out, last. A model must not look at what is masked. Before NormalizeImages: black is 0."""

    absent: tuple[str, ...]

    def __call__(self, item: Item) -> Item:
        found = images(item)
        if not found:
            raise UserError("There is no camera to mark as there.", fix="declare at least one with SelectCameras")
        if both := [name for name in self.absent if IMAGE + name in found]:
            raise UserError(
                f"The camera '{both[0]}' is there, and declared absent.",
                fix="take it out of one of SelectCameras, MarkCameras",
            )
        like = next(iter(found.values()))
        black = np.zeros(like.shape, like.dtype)
        absent = {IMAGE + name: black for name in self.absent}
        masks = {
            IMAGE_MASK + name.removeprefix(IMAGE): np.full(like.shape[:-3], name in found) for name in [*found, *absent]
        }
        return {**item, **absent, **masks}


def _check_size(height: int, width: int) -> None:
    for name, side in (("A height", height), ("A width", width)):
        within(side, 1, pictures.MOST_SIDE, name)
