"""The Panda's forward kinematics: where joints put the hand, to tell which convention a recorded pose is in.

Craig's parameters as Franka publishes them (Franka Control Interface, "Denavit-Hartenberg parameters"). robosuite's
hand stands 45 degrees about z from the flange; its grip site lies 0.097 m in front of it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

A = (0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088)
D = (0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0)
ALPHA = (0.0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2)
GRIP = 0.107 + 0.097
"""Metres from the last joint's frame along its z: flange (Franka), grip site (robosuite panda_gripper.xml)."""

HAND_TURN = -np.pi / 4


def hand(joints: Float[np.ndarray, "N 7"]) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3 3"]]:
    """(grip site in the base's frame in metres, rotation matrix of robosuite's `right_hand`)."""
    position = np.zeros((len(joints), 3))
    rotation = np.tile(np.eye(3), (len(joints), 1, 1))
    for a, d, alpha, angle in zip(A, D, ALPHA, joints.T, strict=True):
        position = position + rotation @ np.array([a, -np.sin(alpha) * d, np.cos(alpha) * d])
        rotation = rotation @ _about_x_then_z(alpha, angle)
    position = position + rotation @ np.array([0, 0, GRIP])
    return position, rotation @ _about_x_then_z(0.0, np.full(len(joints), HAND_TURN))


def _about_x_then_z(alpha: float, angle: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N 3 3"]:
    ca, sa, c, s, zero = np.cos(alpha), np.sin(alpha), np.cos(angle), np.sin(angle), np.zeros(len(angle))
    rows = [[c, -s, zero], [s * ca, c * ca, zero - sa], [s * sa, c * sa, zero + ca]]
    return np.moveaxis(np.array(rows), -1, 0)
