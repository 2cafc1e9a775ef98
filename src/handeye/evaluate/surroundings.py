"""What simulates here: MuJoCo, NumPy, the controller's kernels and, if anything is drawn, the graphics library.

A plan records it, and each worker, wherever it runs, must find the same.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

from handeye.sim.config import SimConfig


def surroundings(suite: str, sim: SimConfig) -> dict[str, Any]:
    """`physics`, `drawing` and NumPy's version. The fake suite needs no library. UserError where one is missing or
    unsupported."""
    numpy = metadata.version("numpy")
    if suite == "fake":
        return {"physics": {}, "drawing": {}, "numpy": numpy}
    from handeye.sim import lapack, rendering, versions

    physics = {**versions.require(allow=sim.allow_mujoco), "algebra": lapack.library().note}
    if not sim.cameras:
        return {"physics": physics, "drawing": {}, "numpy": numpy}
    chosen = rendering.choice(sim.backend)
    drawing = {"backend": chosen.backend, "renderer": chosen.renderer}
    return {"physics": physics, "drawing": drawing, "numpy": numpy}
