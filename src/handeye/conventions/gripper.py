"""Which number opens the gripper. Conversions go through one meaning, openness: 0 = closed, 1 = open."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np
from jaxtyping import Float


class Gripper(Enum):
    """What a gripper command means. Values between the two ends are read linearly."""

    PM1_CLOSE = "-1 = open, +1 = close"
    """robosuite's Panda gripper, hence LIBERO's actions and raw demonstrations."""

    PM1_OPEN = "-1 = close, +1 = open"
    ZERO_ONE_OPEN = "0 = close, 1 = open"
    """OpenVLA's training data: 1 - clip(raw, 0, 1) (openvla prismatic/vla/datasets/rlds/oxe/transforms.py)."""

    ZERO_ONE_CLOSE = "0 = open, 1 = close"


Convert = Callable[[np.ndarray], np.ndarray]
_OPENNESS: dict[Gripper, tuple[Convert, Convert]] = {
    Gripper.PM1_CLOSE: (lambda g: (1 - g) / 2, lambda o: 1 - 2 * o),
    Gripper.PM1_OPEN: (lambda g: (1 + g) / 2, lambda o: 2 * o - 1),
    Gripper.ZERO_ONE_OPEN: (lambda g: g, lambda o: o),
    Gripper.ZERO_ONE_CLOSE: (lambda g: 1 - g, lambda o: 1 - o),
}
"""Convention -> (to openness, from openness)."""


def convert(gripper: Float[np.ndarray, "*n"], *, source: Gripper, target: Gripper) -> Float[np.ndarray, "*n"]:
    """The same command in another convention. Values are not clipped: what was out of range stays so."""
    if source is target:
        return gripper
    to_openness, _ = _OPENNESS[source]
    _, from_openness = _OPENNESS[target]
    return np.asarray(from_openness(to_openness(gripper)), gripper.dtype)


def decide(gripper: Float[np.ndarray, "*n"], convention: Gripper) -> Float[np.ndarray, "*n"]:
    """Fully open or fully closed, whichever is nearer; exactly half-way opens."""
    to_openness, from_openness = _OPENNESS[convention]
    return np.asarray(from_openness(1.0 * (to_openness(gripper) >= 0.5)), gripper.dtype)
