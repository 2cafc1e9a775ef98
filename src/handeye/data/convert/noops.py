"""Which steps do nothing, by the rule of the published sets (openvla regenerate_libero_dataset.py:46-68)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

STILL = 1e-4
"""Norm of the six arm dimensions below which the arm is meant to stand still."""


def moving(actions: Float[np.ndarray, "N 7"]) -> Bool[np.ndarray, "N"]:
    """True where a step is kept. A step is a no-op if the arm stands still and the gripper is commanded as in the last
    step *kept*; while none was kept, standing still alone makes it one. Comparing with the previous step instead, as a
    glance at the published code suggests, keeps other steps where the gripper toggles before the arm first moves."""
    still = np.linalg.norm(actions[:, :6], axis=1) < STILL
    kept = np.zeros(len(actions), bool)
    gripper: float | None = None
    for step, command in enumerate(actions[:, 6]):
        kept[step] = not still[step] or (gripper is not None and command != gripper)
        if kept[step]:
            gripper = command
    return kept
