"""The arm is a Panda as far as its joints are concerned, and the robot of LIBERO as far as the controller is."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from handeye.sim import tabletop, tabletop_arm
from handeye.sim.suites import Task


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    [first, *_] = tabletop.tasks()
    assert isinstance(first, Task)
    return tabletop.scene(first).model


def flange(model: mujoco.MjModel, q: list[float]) -> np.ndarray:
    data = mujoco.MjData(model)
    data.qpos[:7] = q
    mujoco.mj_kinematics(model, data)
    hand = data.body("robot0_right_hand").xpos - data.body("robot0_base").xpos
    return np.asarray(hand)


def test_stretched_out_it_is_as_tall_as_a_panda(model: mujoco.MjModel) -> None:
    """Straight up: 0.333 + 0.316 + 0.384 m of links, minus the flange that hangs down 88 mm in front."""
    np.testing.assert_allclose(flange(model, [0.0] * 7), [0.088, 0, 1.033 - 0.107], atol=1e-12)


def test_ready_pose(model: mujoco.MjModel) -> None:
    """Franka's own start pose; position from the closed-form chain in the vertical plane."""
    q = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
    # Shoulder, along the upper arm leaning back by 45 degrees, elbow offset, forearm, wrist offset, flange down.
    lean = q[1]
    up, out = np.array([np.sin(lean), np.cos(lean)]), np.array([np.cos(lean), -np.sin(lean)])
    elbow = np.array([0, 0.333]) + 0.316 * up + 0.0825 * out
    fore = lean - q[3]
    up, out = np.array([np.sin(fore), np.cos(fore)]), np.array([np.cos(fore), -np.sin(fore)])
    wrist = elbow - 0.0825 * out + 0.384 * up
    x, z = wrist + np.array([0.088, -0.107])
    np.testing.assert_allclose(flange(model, q.tolist()), [x, 0, z], atol=1e-12)


def test_motors_and_servos_are_liberos(model: mujoco.MjModel) -> None:
    np.testing.assert_array_equal(model.actuator_ctrlrange[:7, 1], [80] * 5 + [12] * 2)
    np.testing.assert_array_equal(model.actuator_ctrlrange[7:9], [[0, 0.04], [-0.04, 0]])
    np.testing.assert_array_equal(model.actuator_gainprm[7:9, 0], [1000, 1000])
    np.testing.assert_allclose(model.dof_armature[:9], [*(5 / i for i in range(1, 8)), 1, 1])
    np.testing.assert_array_equal(model.dof_damping[:9], [0.1] * 5 + [0.01] * 2 + [100] * 2)
    np.testing.assert_array_equal(model.dof_frictionloss[:9], [0.1] * 7 + [1] * 2)
    np.testing.assert_array_equal(model.jnt_range[:7], tabletop_arm.LIMITS)
    assert model.opt.timestep == 0.002 and model.opt.impratio == 20


def test_the_hand_is_empty_when_shut_and_8_cm_wide_when_open(model: mujoco.MjModel) -> None:
    for q, width in ((0.0, -0.001), (0.04, 0.079)):
        data = mujoco.MjData(model)
        data.qpos[7:9] = q, -q
        mujoco.mj_kinematics(model, data)
        pads = [data.geom(f"gripper0_finger{i}_pad_collision") for i in (1, 2)]
        thick = 2 * model.geom("gripper0_finger1_pad_collision").size[1]
        gap = np.linalg.norm(pads[0].xpos - pads[1].xpos)
        assert gap - thick == pytest.approx(width, abs=1e-9)


def test_nothing_visible_can_be_touched(model: mujoco.MjModel) -> None:
    seen = model.geom_group == 1
    names = {model.geom(g).name for g in np.flatnonzero(seen & ((model.geom_contype | model.geom_conaffinity) != 0))}
    assert names == {"floor"}
