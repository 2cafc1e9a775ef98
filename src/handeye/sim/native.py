"""The control step in C (`_step.c`), where a compiler was at hand when handeye was installed; else in NumPy.

The C code is a plain shared library beside this file, without Python's or MuJoCo's headers: it is told where the
arrays, MuJoCo's functions and the LAPACK routines lie. Both ways give the same bits, so which one ran is a matter of
time; results record it all the same. The `fast` arithmetic exists in C only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np
from jaxtyping import Float

from handeye.errors import UserError
from handeye.sim import lapack
from handeye.sim.controller import POLISHED_FROM, Arm, Stepper, mujoco_version

Arithmetic = Literal["bitwise", "fast"]
STAGES = {
    "check_pos": "mj_checkPos",
    "check_vel": "mj_checkVel",
    "fwd_position": "mj_fwdPosition",
    "fwd_velocity": "mj_fwdVelocity",
    "fwd_actuation": "mj_fwdActuation",
    "fwd_acceleration": "mj_fwdAcceleration",
    "fwd_constraint": "mj_fwdConstraint",
    "check_acc": "mj_checkAcc",
    "euler": "mj_Euler",
    "jac_site": "mj_jacSite",
}
ROUTINES = {"gemm": "cblas_dgemm", "gemv": "cblas_dgemv", "getrf": "dgetrf_", "getri": "dgetri_", "gesdd": "dgesdd_"}
DATA = {
    "qpos": "qpos",
    "qvel": "qvel",
    "ctrl": "ctrl",
    "warmstart": "qacc_warmstart",
    "mass_sparse": "qM",
    "bias": "qfrc_bias",
    "site_pos": "site_xpos",
    "site_mat": "site_xmat",
    "joint_axis": "xaxis",
    "joint_anchor": "xanchor",
    "solver_iterations": "solver_niter",
}
ARM = (
    *("goal_pos", "goal_mat", "gripper", "pos", "mat", "velocity", "spin", "q", "qd", "jac_pos", "jac_rot", "jac"),
    *("mass", "wide_pos", "wide_rot", "limits", "rest", "mass_index", "stale"),
)
"""Fields of the C struct -> MuJoCo's function, LAPACK routine, array of mjData; and arrays of Arm under their names."""


class Step(ctypes.Structure):
    """Field for field the struct of _step.c; every field but the last four is an address."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("model", "data", *STAGES, *ROUTINES, *DATA, "solver_gradient", *ARM)),
        ("nv", ctypes.c_int64),
        ("site", ctypes.c_int32),
        ("polish", ctypes.c_int32),
        ("fast", ctypes.c_int32),
    )


class NativeStepper:
    """As controller.Stepper, in C."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, arm: Arm, arithmetic: Arithmetic) -> None:
        compiled, stages = library(), mujoco_functions()
        assert compiled is not None and stages is not None
        self.model, self.data, self.arm = model, data, arm
        self._algebra = lapack.algebra()
        routines = lapack.library().addresses or {}
        arrays = {field: getattr(data, name) for field, name in DATA.items()} | {
            name: getattr(arm, name) for name in ARM
        }
        self._step = Step(
            model=model._address,
            data=data._address,
            **{field: stages[name] for field, name in STAGES.items()},
            **{field: routines.get(name) for field, name in ROUTINES.items()},
            **{field: array.ctypes.data for field, array in arrays.items()},
            nv=model.nv,
            site=arm.site,
            solver_gradient=data.solver.gradient.ctypes.data,
            polish=mujoco_version() < POLISHED_FROM,
            fast=arithmetic == "fast",
        )
        self._arrays = arrays  # what the addresses point to must live as long as they do
        self._run = compiled.handeye_run
        self._action = np.zeros(7)
        self._arguments = ctypes.byref(self._step), ctypes.c_void_p(self._action.ctypes.data)
        self.name = "fast in C" if arithmetic == "fast" else f"bitwise in C; {lapack.library().note}"

    def start(self) -> None:
        self.arm.start(self.model, self.data, self._algebra)

    def run(self, action: Float[np.ndarray, "7"], first: int, last: int) -> None:
        self._action[:] = action
        self._run(*self._arguments, first, last)


def computed_by(arithmetic: Arithmetic) -> Literal["C", "NumPy"]:
    """Which of the two computes the control step here."""
    built = library() is not None and mujoco_functions() is not None
    return "C" if built and (arithmetic == "fast" or lapack.library().addresses is not None) else "NumPy"


def stepper(model: mujoco.MjModel, data: mujoco.MjData, arm: Arm, arithmetic: Arithmetic) -> Stepper | NativeStepper:
    """The quickest way of computing the control step that is built here."""
    if computed_by(arithmetic) == "C":
        return NativeStepper(model, data, arm, arithmetic)
    if arithmetic == "fast":
        raise UserError(
            "The fast arithmetic needs the compiled control step, which is not there.",
            why="handeye was installed without a C compiler",
            fix="install gcc and run `pip install` again, or use --arithmetic bitwise",
        )
    return Stepper(model, data, arm)


@cache
def library() -> ctypes.CDLL | None:
    """The compiled `_step.c`; None where it was not built, or for another version of this file."""
    for path in sorted(Path(__file__).parent.glob("_step*")):
        if path.suffix in (".so", ".pyd", ".dylib"):
            try:
                found = ctypes.CDLL(str(path))
                found.handeye_step_size.restype = ctypes.c_int64
            except (OSError, AttributeError):  # built for another machine, or not ours
                continue
            if found.handeye_step_size() == ctypes.sizeof(Step):
                found.handeye_run.restype = None
                return found
    return None


@cache
def mujoco_functions() -> dict[str, int] | None:
    """MuJoCo's function -> its address in the library that `import mujoco` has loaded already."""
    for path in _mujoco_libraries():
        try:
            handle = ctypes.CDLL(str(path))
            return {name: ctypes.cast(getattr(handle, name), ctypes.c_void_p).value or 0 for name in STAGES.values()}
        except (OSError, AttributeError):
            continue
    return None


def _mujoco_libraries() -> Iterator[Path]:
    folder = Path(mujoco.__file__).parent
    for pattern in ("libmujoco.so*", "libmujoco*.dylib", "mujoco.dll"):
        yield from sorted(folder.glob(pattern))
