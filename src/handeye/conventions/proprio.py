"""What a robot feels, as one vector: LIBERO's eight numbers and where each source keeps them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32

from handeye.conventions.rotation import axis_angle_robosuite

WIDTH = 8
POSITION = slice(0, 3)
"""End effector (the grip site), metres, world frame."""

ORIENTATION = slice(3, 6)
"""Orientation of the body `right_hand`, world frame, as Rotation.AXIS_ANGLE_ROBOSUITE."""

FINGERS = slice(6, 8)
"""Joint positions of the two fingers, metres: 0.04 and -0.04 when fully open."""


def from_observation(
    position: Float[np.ndarray, "*n 3"], quaternion_xyzw: Float[np.ndarray, "*n 4"], fingers: Float[np.ndarray, "*n 2"]
) -> Float32[np.ndarray, "*n 8"]:
    """From a simulator: robot0_eef_pos, robot0_eef_quat, robot0_gripper_qpos (openvla-oft run_libero_eval.py:253)."""
    parts = [position, axis_angle_robosuite(quaternion_xyzw), fingers]
    return np.asarray(np.concatenate(parts, axis=-1), np.float32)


def from_hdf5(
    ee_states: Float[np.ndarray, "*n 6"], gripper_states: Float[np.ndarray, "*n 2"]
) -> Float[np.ndarray, "*n 8"]:
    """From LIBERO's HDF5 files, whose ee_states already hold robosuite's axis-angle. The dtype is kept."""
    return np.concatenate([ee_states, gripper_states], axis=-1)
