"""One task as an environment: identity, sampling moment, taking turns on a shared model, and misuse."""

from __future__ import annotations

import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import rendering, suites
from handeye.sim.config import SimConfig
from handeye.sim.task_env import TaskEnv
from handeye.types import Env, EpisodeId

BLIND = SimConfig(cameras=())
STILL = np.array([0.0] * 6 + [-1.0])
MOVE = np.array([0.6, -0.4, -0.5, 0.3, 0.0, -0.2, 1.0])


def make(task: int = 8, config: SimConfig = BLIND) -> TaskEnv:
    env = suites.make(suites.task("tabletop", task), config)
    assert isinstance(env, TaskEnv)
    assert isinstance(env, Env)
    return env


def episode(task: int = 8, initial_state: int = 0, attempt: int = 0) -> EpisodeId:
    return EpisodeId(suite="tabletop", task=task, initial_state=initial_state, attempt=attempt)


def drive(env: TaskEnv, steps: int = 6, *, look: bool = False) -> np.ndarray:
    return np.array([(env.step(MOVE, look=look), env.state())[1] for _ in range(steps)])


def test_the_same_episode_is_the_same_whatever_came_before() -> None:
    env, fresh = make(), make()
    env.reset(episode(initial_state=4))
    drive(env)
    env.reset(episode())
    fresh.reset(episode())
    assert env.hashes() == fresh.hashes()
    np.testing.assert_array_equal(drive(env), drive(fresh))


def test_identity_decides_where_fixtures_stand() -> None:
    env = make()
    seen = {}
    for number in range(3):
        for attempt in range(2):
            env.reset(episode(initial_state=number, attempt=attempt))
            seen[number, attempt] = env.hashes()["scene"], env.model.body("brown_cabinet_1_main").pos.tobytes()
    assert len({scene for scene, _ in seen.values()}) == len({place for _, place in seen.values()}) == 6


def test_looking_changes_nothing() -> None:
    one, other = make(), make()
    one.reset(episode())
    other.reset(episode())
    np.testing.assert_array_equal(drive(one, look=True), drive(other))


def test_an_observation_is_sampled_after_the_24th_substep() -> None:
    """Joints of that substep, the hand's pose of its position stage, which is where the 23rd left the joints."""
    env, other = make(), make()
    for one in (env, other):
        one.reset(episode())
        one.step(MOVE)
    env.step(MOVE, look=True)
    felt = env.proprio()
    other._stepper.run(MOVE, 1, 23)
    import mujoco

    mujoco.mj_kinematics(other.model, other.data)
    np.testing.assert_allclose(felt[:3], other.data.site("gripper0_grip_site").xpos, atol=1e-12)
    w, x, y, z = other.data.body("robot0_right_hand").xquat
    np.testing.assert_allclose(felt[3:7], [x, y, z, w], atol=1e-12)
    other._stepper.run(MOVE, 24, 24)
    np.testing.assert_array_equal(felt[9:], other.data.qpos[:7])
    np.testing.assert_array_equal(felt[7:9], other.data.qpos[7:9])
    other._stepper.run(MOVE, 25, 25)
    np.testing.assert_array_equal(env.state(), other.state())
    assert np.abs(felt[9:] - other.data.qpos[:7]).max() > 1e-5


def test_without_an_initial_state_it_is_the_25th() -> None:
    env = make(0)
    env.reset(EpisodeId(suite="tabletop", task=0, initial_state=None))
    env.step(MOVE, look=True)
    np.testing.assert_array_equal(env.proprio()[9:], env.data.qpos[:7])


def test_environments_of_one_scene_take_turns() -> None:
    alone = make()
    alone.reset(episode(initial_state=1))
    wanted = drive(alone, 3)
    one, other = make(), make()
    assert one.model is other.model is alone.model, "the textures are there once"
    one.reset(episode(initial_state=1))
    found = []
    for number in range(3):
        other.reset(episode(initial_state=number + 2))
        found.append(drive(one, 1)[0])
        other.step(MOVE)
    np.testing.assert_array_equal(found, wanted)


def test_restore_puts_a_state_back() -> None:
    env = make()
    env.reset(episode())
    drive(env, 3)
    saved, scene = env.state(), env.hashes()
    drive(env, 3)
    env.restore(saved)
    np.testing.assert_array_equal(env.state(), saved)
    assert env.hashes() == scene, "still the same episode"
    with pytest.raises(ValueError, match="numbers"):
        env.restore(saved[:-1])


def test_the_goal_is_told_part_by_part() -> None:
    env = make()
    env.reset(episode())
    (words,) = env.truths()
    assert not env.truths()[words]
    joint = env.data.joint("brown_cabinet_1_drawer_level")
    joint.qpos[0] = env.model.joint("brown_cabinet_1_drawer_level").range[0]
    assert env.truths()[words]
    assert env.success()


@pytest.mark.parametrize("action", [np.zeros(6), np.zeros((1, 7)), np.array([np.nan] * 7), np.array([np.inf] * 7)])
def test_an_action_that_is_none_is_refused(action: np.ndarray) -> None:
    env = make()
    env.reset(episode())
    before = env.state()
    with pytest.raises(Exception, match=r"7 finite numbers|Type-check"):
        env.step(action)
    np.testing.assert_array_equal(env.state(), before)


def test_misuse() -> None:
    env = make()
    with pytest.raises(RuntimeError, match="before the first reset"):
        env.step(STILL)
    with pytest.raises(RuntimeError, match="announced"):
        env.observe()
    with pytest.raises(ValueError, match="no episode of tabletop/8"):
        env.reset(episode(task=3))
    env.reset(episode())
    env.observe()
    env.step(STILL)
    with pytest.raises(RuntimeError, match="announced"):
        env.observe()


def test_cameras_show_the_sampling_moment_upright() -> None:
    try:
        rendering.choose("auto")
    except UserError as error:
        pytest.skip(str(error))
    env = make(0, SimConfig(camera_size=64))
    env.reset(episode(0))
    first = env.observe(seed=3)
    assert set(first.images) == {"agentview", "wrist"}
    assert {image.shape for image in first.images.values()} == {(64, 64, 3)}
    assert (first.prompt, first.seed) == (env.task.language, 3)
    table, wall = first.images["agentview"][-1].mean(axis=0), first.images["agentview"][0].mean(axis=0)
    assert table @ [1, 0, -1] > wall @ [1, 0, -1] + 10, "the wooden table is below"
    np.testing.assert_array_equal(env.observe().images["wrist"], first.images["wrist"])
    env.step(MOVE, look=True)
    second = env.observe()
    assert (second.images["wrist"] != first.images["wrist"]).any()
    seeing, blind = env.state(), make(0)
    blind.reset(episode(0))
    blind.step(MOVE)
    np.testing.assert_array_equal(blind.state(), seeing)
    env.close()


@pytest.mark.libero
def test_a_burner_glows_while_the_stove_is_on() -> None:
    """LIBERO-Goal 7: its site is hidden at -1, shown at 2, and changes after the state is judged."""
    task = next(task for task in suites.tasks("libero_goal") if "stove" in task.name and "turn_on" in task.name)
    env = suites.make(task, BLIND)
    assert isinstance(env, TaskEnv)
    env.reset(EpisodeId(suite="libero_goal", task=task.index, initial_state=0))
    alpha = env.model.site("flat_stove_1_burner").rgba
    markers = [env.model.site(name).rgba[3] for name in ("gripper0_grip_site", "gripper0_ft_frame")]
    assert alpha[3] == -1
    assert max(markers) < 0, "markers of the robot are hidden"
    state = env.state()
    state[1 + env.model.joint("flat_stove_1_button").qposadr[0]] = 0.6
    env.restore(state)
    assert env.success()
    env._enter()
    assert alpha[3] == 2
    state[1 + env.model.joint("flat_stove_1_button").qposadr[0]] = 0.4
    env.restore(state)
    env._enter()
    assert alpha[3] == -1
