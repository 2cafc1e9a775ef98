"""The arm's controller: what each piece means. That the whole has the reference's bits is shown in tests/parity."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from handeye.sim import controller, lapack, suites
from handeye.sim.config import SimConfig
from handeye.sim.controller import Arm
from handeye.sim.task_env import TaskEnv
from handeye.types import EpisodeId


@pytest.fixture(scope="module")
def env() -> TaskEnv:
    made = suites.make(suites.task("tabletop", 0), SimConfig(cameras=()))
    assert isinstance(made, TaskEnv)
    made.reset(EpisodeId(suite="tabletop", task=0, initial_state=0))
    for _ in range(3):
        made.step(np.array([0.5, -0.4, -0.3, 0.2, -0.1, 0.3, 1.0]))
    return made


@pytest.fixture
def arm(env: TaskEnv) -> Arm:
    """As it stands after a few steps, moving."""
    arm = Arm(env.model, env.scene.init_qpos)
    arm.start(env.model, env.data, lapack.algebra())
    return arm


def test_mass_matrix_is_the_arms_block_of_the_full_one(env: TaskEnv, arm: Arm) -> None:
    full = np.zeros((env.model.nv, env.model.nv))
    mujoco.mj_fullM(env.model, full, env.data.qM)
    np.testing.assert_array_equal(arm.mass, full[:7, :7])


@pytest.mark.parametrize("seed", range(5))
def test_turns(seed: int) -> None:
    turn = np.random.default_rng(seed).uniform(-0.5, 0.5, 3)
    matrix = controller.turn_matrix(turn)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(turn).as_matrix(), atol=3e-7)  # single precision
    small = Rotation.from_rotvec(turn / 100).as_matrix()
    np.testing.assert_allclose(controller.orientation_error(np.eye(3), small), turn / 100, rtol=1e-4)


def test_a_goal_is_where_the_hand_is_plus_the_action(arm: Arm) -> None:
    arm.goal_mat[:] = np.eye(3)
    controller.set_goal(arm, np.array([1.0, -0.5, 7.0, 0, 0, 0, 0]), lapack.algebra())
    np.testing.assert_allclose(arm.goal_pos - arm.pos, [0.05, -0.025, 0.05], atol=1e-15)
    np.testing.assert_array_equal(arm.goal_mat, np.eye(3))  # no turn keeps the old goal, it does not renew it
    controller.set_goal(arm, np.array([0, 0, 0, 0, 0, 1.0, 0]), lapack.algebra())
    turned = Rotation.from_matrix(arm.goal_mat @ arm.mat.T).as_rotvec()
    np.testing.assert_allclose(turned, [0, 0, 0.5], atol=1e-6)


def test_at_its_goal_and_at_rest_the_arm_only_carries_itself(arm: Arm) -> None:
    arm.goal_pos[:], arm.goal_mat[:] = arm.pos, arm.mat
    arm.velocity[:] = arm.spin[:] = arm.qd[:] = 0
    arm.rest = arm.q.copy()
    bias = np.arange(7.0)
    np.testing.assert_allclose(controller.torques(arm, bias, lapack.algebra()), bias, atol=1e-9)


def test_the_pull_of_the_rest_pose_does_not_move_the_hand(arm: Arm) -> None:
    arm.goal_pos[:], arm.goal_mat[:] = arm.pos, arm.mat
    arm.velocity[:] = arm.spin[:] = arm.qd[:] = 0
    arm.rest = arm.q + np.linspace(-1, 1, 7)
    tau = controller.torques(arm, np.zeros(7), lapack.algebra())
    assert np.abs(tau).max() > 0.1
    np.testing.assert_allclose(arm.jac @ np.linalg.solve(arm.mass, tau), 0, atol=1e-9)


def test_the_gripper_takes_two_hundred_substeps_and_holds_on_zero(arm: Arm) -> None:
    low, high = arm.limits[:, controller.FINGERS]
    np.testing.assert_allclose(controller.finger_targets(arm, 0.0), (low + high) / 2)
    for _ in range(100):
        opened = controller.finger_targets(arm, -0.3)
    np.testing.assert_allclose(opened, [0.04, -0.04])
    for number in range(1, 201):
        closed = controller.finger_targets(arm, 0.7)
        assert (number == 200) == bool(np.allclose(closed, [0.0, 0.0], atol=1e-12))
    np.testing.assert_array_equal(controller.finger_targets(arm, 0.0), closed)


def test_another_robot_is_refused(env: TaskEnv) -> None:
    strange = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><freejoint/><geom size='1'/></body></worldbody></mujoco>"
    )
    with pytest.raises(ValueError, match="not laid out"):
        Arm(strange, env.scene.init_qpos)
    usual = env.model.opt.timestep
    env.model.opt.timestep = 0.001
    try:
        with pytest.raises(ValueError, match="2 ms"):
            Arm(env.model, env.scene.init_qpos)
    finally:
        env.model.opt.timestep = usual
