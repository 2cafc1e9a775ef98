"""Orientations: two quaternion orders and two axis-angle variants that differ by which of q and -q they believe.

Conversions go through a unit quaternion (x, y, z, w) whose sign is kept: robosuite's axis-angle depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import numpy as np
from jaxtyping import Float


class Rotation(Enum):
    """How an orientation is written."""

    QUATERNION_XYZW = "quaternion x, y, z, w"
    """robosuite's observations (robot0_eef_quat); scipy; ROS."""

    QUATERNION_WXYZ = "quaternion w, x, y, z"
    """MuJoCo's arrays."""

    AXIS_ANGLE_ROBOSUITE = "axis times angle in [0, 2 pi], the quaternion's sign kept"
    """LIBERO's ee_ori and the proprioception of policies trained on it. Flipping q where w < 0 cost OFT 14 points on
    Goal and 39 on Long (allenai/vla-evaluation-harness docs/reproductions/oft.md)."""

    AXIS_ANGLE = "axis times angle in [0, pi]"
    """The canonical one: the same for q and -q (scipy's as_rotvec)."""


def axis_angle_robosuite(quaternion_xyzw: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 3"]:
    """As robosuite's quat2axisangle: w is clamped to [-1, 1], the sign of q is not touched, w = +-1 gives zeros."""
    w = np.clip(quaternion_xyzw[..., 3:], -1.0, 1.0)
    length = np.sqrt(1.0 - w * w)
    turned = length != 0.0
    scaled = quaternion_xyzw[..., :3] * 2.0 * np.arccos(w) / np.where(turned, length, 1.0)
    return np.asarray(np.where(turned, scaled, 0.0), quaternion_xyzw.dtype)


def axis_angle(quaternion_xyzw: Float[np.ndarray, "*n 4"]) -> Float[np.ndarray, "*n 3"]:
    """The shorter way round: angle in [0, pi]. Accurate near zero, where arccos is not."""
    q = np.where(quaternion_xyzw[..., 3:] < 0, -quaternion_xyzw, quaternion_xyzw)
    length = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    small = length < 1e-12
    factor = np.where(small, 2.0, 2.0 * np.arctan2(length, q[..., 3:]) / np.where(small, 1.0, length))
    return np.asarray(q[..., :3] * factor, quaternion_xyzw.dtype)


def quaternion_xyzw(axis_angle: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 4"]:
    """Of either variant: an angle above pi gives w < 0, so robosuite's comes back with the sign that it had."""
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    small = angle < 1e-12
    factor = np.where(small, 0.5, np.sin(angle / 2) / np.where(small, 1.0, angle))
    return np.asarray(np.concatenate([axis_angle * factor, np.cos(angle / 2)], axis=-1), axis_angle.dtype)


Convert = Callable[[np.ndarray], np.ndarray]
_QUATERNION: dict[Rotation, tuple[Convert, Convert]] = {
    Rotation.QUATERNION_XYZW: (lambda q: q, lambda q: q),
    Rotation.QUATERNION_WXYZ: (lambda q: q[..., [1, 2, 3, 0]], lambda q: q[..., [3, 0, 1, 2]]),
    Rotation.AXIS_ANGLE_ROBOSUITE: (quaternion_xyzw, axis_angle_robosuite),
    Rotation.AXIS_ANGLE: (quaternion_xyzw, axis_angle),
}
"""Convention -> (to quaternion x, y, z, w; from it)."""


def convert(values: Float[np.ndarray, "*n w"], *, source: Rotation, target: Rotation) -> Float[np.ndarray, "*n v"]:
    """The same orientation in another convention."""
    if source is target:
        return values
    to_quaternion, _ = _QUATERNION[source]
    _, from_quaternion = _QUATERNION[target]
    return from_quaternion(to_quaternion(values))
