"""The control step in C, where it was built; else in NumPy, with the same bits."""

from __future__ import annotations

from typing import Literal

import mujoco

from handeye.errors import UserError
from handeye.sim.controller import Arm, Stepper


def stepper(model: mujoco.MjModel, data: mujoco.MjData, arm: Arm, arithmetic: Literal["bitwise", "fast"]) -> Stepper:
    if arithmetic == "fast":
        raise UserError(
            "The fast arithmetic needs the compiled control step.",
            why="handeye was installed without a C compiler",
            fix="install gcc and reinstall handeye, or use --arithmetic bitwise",
        )
    return Stepper(model, data, arm)
