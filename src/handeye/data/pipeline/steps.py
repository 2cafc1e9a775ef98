"""The pipeline's steps: small frozen dataclasses, each does one thing and never edits its input.

Three kinds. *Encode* steps turn an observation's item into model input: training, evaluation and serving use the same
ones. *Decode* steps turn a model's output into actions for the robot; their `target` is the way back, by which training
makes the model's targets from demonstrated actions. *Augment* steps vary a training batch and are never used otherwise.

An item maps names to values: `image.<camera>` uint8 (*n, H, W, 3), `proprio` float32 (*n, S), `prompt` a string, then
int64 (L,). Leading axes are free, so one observation and a whole episode go through the same code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from handeye.conventions import gripper, image, prompt, proprio, rotation
from handeye.conventions.normalize import Normalizer
from handeye.errors import UserError

Item = Mapping[str, Any]
IMAGE = "image."
"""Prefix of a camera's key."""


@runtime_checkable
class Encode(Protocol):
    def __call__(self, item: Item) -> Item: ...


@runtime_checkable
class Decode(Protocol):
    def __call__(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        """From the model towards the robot."""
        ...

    def target(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        """From the demonstration towards the model."""
        ...


@runtime_checkable
class Augment(Protocol):
    def __call__(self, item: Item, rng: np.random.Generator) -> Item: ...


def _images(item: Item) -> dict[str, np.ndarray]:
    return {name: value for name, value in item.items() if name.startswith(IMAGE)}


# ---- encode ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SelectCameras:
    """Keep these cameras, in this order. One that is missing is an error, never a black image."""

    cameras: tuple[str, ...]

    def __call__(self, item: Item) -> Item:
        if missing := [name for name in self.cameras if IMAGE + name not in item]:
            raise UserError(
                f"The policy looks through the camera '{missing[0]}', which is not there.",
                why="there is: " + (", ".join(name.removeprefix(IMAGE) for name in _images(item)) or "no camera"),
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
        turned = {n: image.convert(v, source=self.source, target=self.target) for n, v in _images(item).items()}
        return {**item, **turned}


@dataclass(frozen=True)
class ResizeImages:
    """Every camera to height x width, uint8 as before."""

    height: int
    width: int
    method: image.Method

    def __call__(self, item: Item) -> Item:
        resized = {
            name: image.resize(value, height=self.height, width=self.width, method=self.method)
            for name, value in _images(item).items()
        }
        return {**item, **resized}


@dataclass(frozen=True)
class ConvertProprioRotation:
    """Write the orientation inside the proprioception in another three-number convention."""

    source: rotation.Rotation
    target: rotation.Rotation

    def __call__(self, item: Item) -> Item:
        changed = np.array(item["proprio"])
        part = changed[..., proprio.ORIENTATION]
        changed[..., proprio.ORIENTATION] = rotation.convert(part, source=self.source, target=self.target)
        return {**item, "proprio": changed}


@dataclass(frozen=True)
class NormalizeProprio:
    normalizer: Normalizer

    def __call__(self, item: Item) -> Item:
        return {**item, "proprio": self.normalizer.forward(item["proprio"])}


@dataclass(frozen=True)
class EncodePrompt:
    """The sentence, lower case with single blanks, as UTF-8 bytes plus one; zeros fill up to `length`."""

    length: int

    def __call__(self, item: Item) -> Item:
        return {**item, "prompt": prompt.byte_ids(prompt.plain_text(item["prompt"]), self.length)}


# ---- decode ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UnnormalizeActions:
    normalizer: Normalizer

    def __call__(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return self.normalizer.inverse(actions)

    def target(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return self.normalizer.forward(actions)


@dataclass(frozen=True)
class ScaleActions:
    """Multiply each dimension by `factors` towards the robot: another controller's units."""

    factors: tuple[float, ...]

    def __call__(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return actions * np.array(self.factors, np.float32)

    def target(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return actions / np.array(self.factors, np.float32)


@dataclass(frozen=True)
class ClipActions:
    """To what the controller accepts. Demonstrated actions already lie there."""

    low: float
    high: float

    def __call__(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return np.clip(actions, self.low, self.high)

    def target(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return actions


@dataclass(frozen=True)
class DecideGripper:
    """Fully open or fully closed, whichever is nearer."""

    index: int
    convention: gripper.Gripper

    def __call__(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return _with(actions, self.index, gripper.decide(actions[..., self.index], self.convention))

    def target(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        return actions


@dataclass(frozen=True)
class ConvertGripper:
    """From the model's gripper convention to the robot's."""

    index: int
    model: gripper.Gripper
    robot: gripper.Gripper

    def __call__(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        value = gripper.convert(actions[..., self.index], source=self.model, target=self.robot)
        return _with(actions, self.index, value)

    def target(self, actions: Float32[np.ndarray, "*n A"]) -> Float32[np.ndarray, "*n A"]:
        value = gripper.convert(actions[..., self.index], source=self.robot, target=self.model)
        return _with(actions, self.index, value)


def _with(actions: np.ndarray, index: int, value: np.ndarray) -> np.ndarray:
    changed = actions.copy()
    changed[..., index] = value
    return changed


# ---- augment: training batches only ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShiftImages:
    """Move each image of the batch by its own whole number of pixels, edges repeated: a crop of the padded image."""

    pixels: int
    """Largest shift up, down, left and right."""

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        return {**item, **{name: self._shift(value, rng) for name, value in _images(item).items()}}

    def _shift(
        self, image_BHW3: UInt8[np.ndarray, "B H W 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "B H W 3"]:
        B, H, W, _ = image_BHW3.shape
        most = self.pixels
        padded = np.pad(image_BHW3, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
        out = np.empty_like(image_BHW3)
        for index, (y, x) in enumerate(rng.integers(0, 2 * most, (B, 2), endpoint=True)):
            out[index] = padded[index, y : y + H, x : x + W]
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

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        return {**item, **{name: self._jitter(value, rng) for name, value in _images(item).items()}}

    def _jitter(
        self, image_BHW3: UInt8[np.ndarray, "B H W 3"], rng: np.random.Generator
    ) -> UInt8[np.ndarray, "B H W 3"]:
        B = len(image_BHW3)
        gain_B3 = rng.uniform(1 - self.contrast, 1 + self.contrast, (B, 1))
        gain_B3 = gain_B3 * rng.uniform(1 - self.colour, 1 + self.colour, (B, 3))
        offset_B1 = 127.5 + 255 * rng.uniform(-self.brightness, self.brightness, (B, 1))
        # All of it maps one of 256 values to another: one small table per image and channel, then look-ups.
        values = np.arange(256) - 127.5
        table_B3V = np.clip(np.rint(gain_B3[..., None] * values + offset_B1[..., None]), 0, 255).astype(np.uint8)
        out = np.empty_like(image_BHW3)
        for index in range(B):
            for channel in range(3):
                out[index, ..., channel] = table_B3V[index, channel][image_BHW3[index, ..., channel]]
        return out


ENCODE = (SelectCameras, TurnImages, ResizeImages, ConvertProprioRotation, NormalizeProprio, EncodePrompt)
DECODE = (UnnormalizeActions, ScaleActions, ClipActions, DecideGripper, ConvertGripper)
AUGMENT = (ShiftImages, JitterColours)
