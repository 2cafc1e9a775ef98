"""The arm's operational-space controller and the gripper, as the benchmark has them, one physics substep at a time.

An action is a change of hand pose: position in units of 5 cm, rotation vector in units of 0.5 rad, and the gripper's
sign (+1 closes). 20 actions a second; each is held for 25 substeps of 2 ms, and the torques are computed anew in every
one. `Stepper` is the readable version; `_step.c` says the same in C (native.py). Both work on the same `Arm` in memory
and give the same bits, which are those of robosuite 1.4.0's OSC_POSE: the order of every sum below is part of the
specification (the facts are in docs/simulator.md).

Every scene's robot has the names of LIBERO's: joints robot0_joint1..7 first, then the two fingers; motors in that
order; site gripper0_grip_site; body robot0_right_hand.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np
from jaxtyping import Float

from handeye.sim import lapack

SUBSTEPS = 25
"""Control at 20 Hz, physics at 500 Hz."""

ARM = slice(0, 7)
FINGERS = slice(7, 9)
POSITION_SCALE, ROTATION_SCALE = 0.05, 0.5  # m and rad for an action of 1
KP = 150.0
KD = 2 * np.sqrt(KP)  # critically damped
NULL_KP = 10.0
NULL_KD = np.sqrt(NULL_KP) * 2
GRIPPER_SPEED = 0.01  # of half the finger's range, per substep
FINGER_SIGNS = np.array([-1.0, 1.0])
FINGERS_AT_RESET = (0.020833, -0.020833)
SITE, HAND = "gripper0_grip_site", "robot0_right_hand"

POLISHED_FROM = (3, 3, 6)
"""From this MuJoCo on, only mj_step writes the solver's warm start. Before, the reference's two extra mj_forward per
substep each refine it, so equal bits need the two extra solves."""


def mujoco_version() -> tuple[int, ...]:
    return tuple(int(part) for part in mujoco.__version__.split(".")[:3])


class Arm:
    """What the controller remembers (goal, gripper) and knows of the robot (pose, velocity, Jacobians, mass matrix).

    `stale` is the reference's peculiarity: its controller reads the robot when it is made, with the fingers at 0 and
    at rest, and the first substep after a reset still uses that reading, whatever was loaded in between.
    """

    def __init__(self, model: mujoco.MjModel, init_qpos: tuple[float, ...]) -> None:
        self.site = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_SITE, SITE)
        _require_layout(model, self.site)
        self.rest = np.array(init_qpos)
        self.limits = model.actuator_ctrlrange[:9].T.copy(order="C")  # low row, high row
        self.mass_index = _mass_index(model)

        self.goal_pos, self.goal_mat = np.zeros(3), np.zeros((3, 3))
        self.gripper = np.zeros(2)
        self.stale = np.zeros(1, np.int32)

        self.pos, self.mat = np.zeros(3), np.zeros((3, 3))
        self.velocity, self.spin = np.zeros(3), np.zeros(3)
        self.q, self.qd = np.zeros(7), np.zeros(7)
        self.jac_pos, self.jac_rot = np.zeros((3, 7), order="F"), np.zeros((3, 7), order="F")
        self.jac = np.zeros((6, 7), order="F")
        self.mass = np.zeros((7, 7), order="F")
        self.wide_pos, self.wide_rot = np.zeros((3, model.nv)), np.zeros((3, model.nv))

    def start(self, model: mujoco.MjModel, data: mujoco.MjData, algebra: lapack.Algebra | lapack.PlainAlgebra) -> None:
        """What making the controller does: read the robot once, hold that pose, gripper half open."""
        self.read(model, data, algebra)
        self.goal_pos[:], self.goal_mat[:] = self.pos, self.mat
        self.gripper[:] = 0.0
        self.stale[0] = 1

    def read(self, model: mujoco.MjModel, data: mujoco.MjData, algebra: lapack.Algebra | lapack.PlainAlgebra) -> None:
        """The robot as the last position and velocity stage left it."""
        wide_pos, wide_rot = self.wide_pos, self.wide_rot
        mujoco.mj_jacSite(model, data, wide_pos, wide_rot, self.site)
        self.pos[:], self.mat[:] = data.site_xpos[self.site], data.site_xmat[self.site].reshape(3, 3)
        # Over all velocities, not just the arm's: zeros change the grouping of the sum, hence the last bit.
        self.velocity[:], self.spin[:] = algebra.dot(wide_pos, data.qvel), algebra.dot(wide_rot, data.qvel)
        self.q[:], self.qd[:] = data.qpos[ARM], data.qvel[ARM]
        self.jac_pos[:], self.jac_rot[:] = wide_pos[:, ARM], wide_rot[:, ARM]
        self.jac[:3], self.jac[3:] = self.jac_pos, self.jac_rot
        self.mass[:] = data.qM[self.mass_index]


def _require_layout(model: mujoco.MjModel, site: int) -> None:
    names = [f"robot0_joint{i}" for i in range(1, 8)]
    if site < 0 or [model.joint(i).name for i in range(7)] != names or list(model.actuator_trnid[:9, 0]) != [*range(9)]:
        raise ValueError("the scene's robot is not laid out as handeye.sim.controller describes")
    if model.opt.timestep != 0.002:
        raise ValueError(f"the controller runs at 20 Hz over 25 substeps of 2 ms, not of {model.opt.timestep * 1e3} ms")


def _mass_index(model: mujoco.MjModel) -> np.ndarray:
    """Where MuJoCo's sparse mass matrix keeps the arm's 7x7 block: row i holds dof i, its parent, its parent's ..."""
    index = np.zeros((7, 7), np.int32)
    for dof in range(7):
        ancestor, address = dof, int(model.dof_Madr[dof])
        while ancestor >= 0:
            index[dof, ancestor] = index[ancestor, dof] = address
            ancestor, address = int(model.dof_parentid[ancestor]), address + 1
    return index


class Stepper:
    """Substeps in Python: every line is one of the reference's operations."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, arm: Arm) -> None:
        self.model, self.data, self.arm = model, data, arm
        self.algebra = lapack.algebra()
        self.polish = mujoco_version() < POLISHED_FROM
        self.name = f"bitwise in numpy; {lapack.library().note}"

    def start(self) -> None:
        self.arm.start(self.model, self.data, self.algebra)

    def run(self, action: Float[np.ndarray, "7"], first: int, last: int) -> None:
        """Substeps `first`..`last` (1 to 25) of one control step; the action becomes a goal in the first."""
        model, data, arm = self.model, self.data, self.arm
        for substep in range(first, last + 1):
            # mj_step1 and mj_step2 without sensors and energy, which nothing here reads and no state depends on.
            mujoco.mj_checkPos(model, data)
            mujoco.mj_checkVel(model, data)
            mujoco.mj_fwdPosition(model, data)
            mujoco.mj_fwdVelocity(model, data)
            if self.polish:
                self._solve()
                if not arm.stale[0]:
                    mujoco.mj_fwdConstraint(model, data)
            if not arm.stale[0]:
                arm.read(model, data, self.algebra)
            arm.stale[0] = 0
            if substep == 1:
                set_goal(arm, action, self.algebra)
            data.ctrl[ARM] = np.clip(torques(arm, data.qfrc_bias[ARM], self.algebra), *arm.limits[:, ARM])
            data.ctrl[FINGERS] = finger_targets(arm, action[6])
            self._solve()
            mujoco.mj_checkAcc(model, data)
            mujoco.mj_Euler(model, data)

    def _solve(self) -> None:
        mujoco.mj_fwdActuation(self.model, self.data)
        mujoco.mj_fwdAcceleration(self.model, self.data)
        mujoco.mj_fwdConstraint(self.model, self.data)


def set_goal(arm: Arm, action: Float[np.ndarray, "7"], algebra: lapack.Algebra | lapack.PlainAlgebra) -> None:
    clipped = np.clip(action[:6], -1.0, 1.0)
    arm.goal_pos[:] = arm.pos + clipped[:3] * POSITION_SCALE
    turn = clipped[3:] * ROTATION_SCALE
    if turn.any():  # a zero turn keeps the old goal, it does not renew it
        arm.goal_mat[:] = algebra.dot(turn_matrix(turn), arm.mat)


def turn_matrix(turn: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation vector -> matrix through a single-precision quaternion, as the reference rounds it."""
    angle = np.sqrt(turn[0] * turn[0] + turn[1] * turn[1] + turn[2] * turn[2])
    half = angle / 2.0
    xyz = turn / angle * math.sin(half)  # the C library's sine: NumPy's differs between processors
    q = np.array([math.cos(half), *xyz]).astype(np.float32)
    norm = np.float32((q * q).sum(dtype=np.float64))  # as the float dot product does: products short, sum long
    q = (q * np.sqrt(2.0 / np.float64(norm))).astype(np.float32)
    f = np.outer(q, q)
    d = f.diagonal().astype(np.float64)
    return np.array(
        [
            [1.0 - d[2] - d[3], f[1, 2] - f[3, 0], f[1, 3] + f[2, 0]],
            [f[1, 2] + f[3, 0], 1.0 - d[1] - d[3], f[2, 3] - f[1, 0]],
            [f[1, 3] - f[2, 0], f[2, 3] + f[1, 0], 1.0 - d[1] - d[2]],
        ]
    )


def torques(
    arm: Arm, bias: Float[np.ndarray, "7"], algebra: lapack.Algebra | lapack.PlainAlgebra
) -> Float[np.ndarray, "7"]:
    """Force and torque at the hand towards the goal, decoupled by the inertia seen there, plus gravity compensation,
    plus a pull towards the rest pose in the null space."""
    dot, pinv = algebra.dot, algebra.pseudo_inverse
    jac, jac_pos, jac_rot, mass = arm.jac, arm.jac_pos, arm.jac_rot, arm.mass
    force = KP * (arm.goal_pos - arm.pos) - KD * arm.velocity
    torque = KP * orientation_error(arm.mat, arm.goal_mat) - KD * arm.spin
    inverse = algebra.inverse(mass)
    inertia = pinv(dot(dot(jac, inverse), jac.T))
    inertia_pos = pinv(dot(dot(jac_pos, inverse), jac_pos.T))
    inertia_rot = pinv(dot(dot(jac_rot, inverse), jac_rot.T))
    null = np.eye(7) - dot(dot(dot(inverse, jac.T), inertia), jac)
    wrench = np.concatenate([dot(inertia_pos, force), dot(inertia_rot, torque)])
    homing = dot(mass, NULL_KP * (arm.rest - arm.q) - NULL_KD * arm.qd)
    return dot(jac.T, wrench) + bias + dot(null.T, homing)


def orientation_error(now: Float[np.ndarray, "3 3"], goal: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Half the sum of the columns' cross products: the rotation vector for small angles."""
    x = now[1] * goal[2] - now[2] * goal[1]
    y = now[2] * goal[0] - now[0] * goal[2]
    z = now[0] * goal[1] - now[1] * goal[0]
    return 0.5 * np.array([x[0] + x[1] + x[2], y[0] + y[1] + y[2], z[0] + z[1] + z[2]])


def finger_targets(arm: Arm, grip: float) -> Float[np.ndarray, "2"]:
    """The gripper command integrates: full open to full closed takes 200 substeps, and 0 holds."""
    arm.gripper[:] = np.clip(arm.gripper + FINGER_SIGNS * GRIPPER_SPEED * np.sign(grip), -1.0, 1.0)
    low, high = arm.limits[:, FINGERS]
    return 0.5 * (high + low) + 0.5 * (high - low) * arm.gripper
