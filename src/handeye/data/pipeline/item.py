"""What travels through a pipeline, and the three kinds of step.

An item maps names to values: `image.<camera>` uint8 (*n, H, W, 3), `proprio` (*n, S), `prompt` a string. Leading axes
are free, so one observation and a whole episode go through the same code. Encoded it holds arrays alone: `prompt`
int64 (L,), with `prompt_mask` bool (L,) where a language model reads it; images may be float32 with more channels;
`image_mask.<camera>` bool says which images are real, where a model needs to be told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from handeye.errors import UserError

Item = Mapping[str, Any]
IMAGE = "image."
"""Prefix of a camera's key."""

IMAGE_MASK = "image_mask."
Rngs = Sequence[np.random.Generator]
"""One per sample of a batch, seeded by the sample's place: what a sample becomes does not depend on its batch."""


@runtime_checkable
class Encode(Protocol):
    """From an observation towards the model. Never edits its input."""

    def __call__(self, item: Item) -> Item: ...


@runtime_checkable
class Decode(Protocol):
    """From the model's answer towards the robot, and back. `proprio` is the observation's own, before any step: a step
    that needs it (actions relative to the state) says so when it is None."""

    def __call__(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        """(*n, T, A) or (*n, A), with proprio (*n, S)."""
        ...

    def target(self, actions: np.ndarray, proprio: np.ndarray | None) -> np.ndarray:
        """From a demonstration towards the model."""
        ...


@runtime_checkable
class Augment(Protocol):
    """Varies a training batch, each sample by its own generator."""

    def __call__(self, item: Item, rngs: Rngs) -> Item: ...


def within(value: int | float, low: int | float, high: int | float, what: str) -> None:
    """A step's parameter, checked when the step is made: pipelines are read from files."""
    if not low <= value <= high:
        raise UserError(f"{what} of {value} is not possible.", fix=f"use {low} to {high}")


def images(item: Item) -> dict[str, np.ndarray]:
    """By key, prefix included."""
    return {name: value for name, value in item.items() if name.startswith(IMAGE)}


def with_images(item: Item, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, Any]:
    """Every camera's images changed alike."""
    return {**item, **{name: change(value) for name, value in images(item).items()}}


def vary_images(
    item: Item, rngs: Rngs, vary: Callable[[np.ndarray, np.random.Generator], np.ndarray]
) -> dict[str, Any]:
    """Every image of a batch changed by its sample's generator, which goes from camera to camera."""
    varied = {
        name: np.stack([vary(image, rng) for image, rng in zip(batch, rngs, strict=True)])
        for name, batch in images(item).items()
    }
    return {**item, **varied}
