"""The built-in suite: every task builds, stands still, is not solved yet, can be seen, and repeats to the bit."""

from __future__ import annotations

import time
from pathlib import Path

import mujoco
import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import suites, tabletop
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.sim.task_env import TaskEnv
from handeye.types import EpisodeId

TASKS = suites.tasks("tabletop")
STILL = np.array([0.0] * 6 + [-1.0])
START = (-0.2087, 0.0, 1.1733)  # where LIBERO's hand starts above the same table (m)
BLIND = SimConfig(cameras=())


def episode(task: Task, initial_state: int | None = 0, seed: int = 0) -> EpisodeId:
    return EpisodeId(suite="tabletop", task=task.index, initial_state=initial_state, seed=seed)


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: task.name)
def env(request: pytest.FixtureRequest) -> TaskEnv:
    made = suites.make(request.param, BLIND)
    assert isinstance(made, TaskEnv)
    return made


def test_the_suite() -> None:
    assert len(TASKS) == 12
    assert len({task.language for task in TASKS}) == len({task.name for task in TASKS}) == 12
    assert all(suites.initial_state_count(task) == 50 for task in TASKS)
    assert all(task.name == task.language.replace(" ", "_") for task in TASKS)


def test_a_scene_is_quick(env: TaskEnv) -> None:
    """Against a fixed piece of work on the same machine: compiling a scene is less than 400 physics steps of it."""
    from handeye.sim import tabletop_model, tabletop_tasks

    tabletop_model._compiled.cache_clear()
    tabletop_model.wood()
    start = time.process_time()
    scene = tabletop_model.compose(tabletop_tasks.problem(tabletop_tasks.TASKS[env.task.index]))
    composed = time.process_time() - start
    data = mujoco.MjData(scene.model)
    start = time.process_time()
    mujoco.mj_step(scene.model, data, 1000)
    assert composed < 3 * (time.process_time() - start)


def test_stored_states_are_at_rest_and_unsolved(env: TaskEnv) -> None:
    rows = np.stack([tabletop.initial_state(env.task, index) for index in range(10)])
    assert len(np.unique(rows, axis=0)) == 10
    for index in range(10):
        env.reset(episode(env.task, index))
        assert not env.success()
        np.testing.assert_allclose(env.data.site("gripper0_grip_site").xpos, START, atol=1e-3)
        env.step(STILL)
        placed = env.state()
        assert not any(env.step(STILL).success for _ in range(9))
        assert np.abs(env.data.qvel[9:]).max() < 1e-4, "things still move after ten steps"
        moved = np.abs(env.state() - placed)[10 : 1 + env.model.nq]
        assert moved.max() < 2e-3, "things moved while nobody touched them"
    env.reset(episode(env.task, 3))
    for _ in range(100):
        env.step(STILL)
    assert np.abs(env.data.qvel[9:]).max() < 1e-7, "something creeps"


def test_sampled_states_are_not_the_stored_ones(env: TaskEnv) -> None:
    stored = {tabletop.initial_state(env.task, index).tobytes() for index in range(50)}
    assert len(stored) == 50
    for seed in range(20):
        env.reset(episode(env.task, None, seed))
        assert env.state().tobytes() not in stored
        assert not env.success()
        np.testing.assert_allclose(env.data.site("gripper0_grip_site").xpos, START, atol=1e-3)


def test_the_same_episode_is_the_same(env: TaskEnv) -> None:
    def roll(identity: EpisodeId) -> tuple[dict[str, str], bytes]:
        env.reset(identity)
        hashes, rng = env.hashes(), np.random.RandomState(1)
        for _ in range(15):
            env.step(rng.uniform(-1, 1, 7))
        return hashes, env.state().tobytes()

    first = roll(episode(env.task, 4))
    roll(episode(env.task, None, 9))
    assert roll(episode(env.task, 4)) == first
    assert roll(episode(env.task, 5)) != first


def test_goals_can_be_reached_in_principle(env: TaskEnv) -> None:
    """Put the things where the goal wants them: it holds."""
    env.reset(episode(env.task))
    [goal] = env.scene.problem.goal
    word, name = goal[0], goal[1]
    data, part = env.data, env.scene.parts.get(name)
    if word in ("on", "in"):
        assert part is not None
        [joint] = part.joints
        target, lift = goal[2], 0.0
        if target in env.scene.places:
            centre = data.site(target).xpos
            lift = 0.0 if word == "in" else -part.bottom - 1e-4  # so that they touch
        else:
            below = env.scene.parts[target]
            centre, lift = data.body(below.body).xpos, below.top - part.bottom - 1e-4
        data.joint(joint).qpos[:3] = centre + np.array([0, 0, lift])
        data.joint(joint).qvel[:] = 0
    else:
        owner = part or env.scene.parts[env.scene.places[name].owner or ""]
        assert owner.articulation is not None
        ranges = {"open": "open_range", "close": "close_range", "turnon": "turnon_range"}
        low, high = getattr(owner.articulation, ranges[word])
        [joint] = owner.joints
        data.joint(joint).qpos[:] = (low + high) / 2
    mujoco.mj_forward(env.model, data)
    assert env.success()


def test_it_fits_the_hand() -> None:
    """What is to be picked is narrower than the open hand (8 cm), and lies within the arm's reach (0.855 m)."""
    checked = 0
    for task in TASKS:
        scene = tabletop.scene(task)
        shoulder = np.array([-0.66, 0.0, 0.912 + 0.333])
        for word, name, *_ in scene.problem.goal:
            if word not in ("on", "in"):
                continue
            geoms = [g for g in range(scene.model.ngeom) if scene.model.geom(g).name.startswith(f"{name}_g")]
            widths = [2 * min(s for s in scene.model.geom_size[g] if s > 0) for g in geoms]
            assert max(widths) < 0.07
            for index in range(50):
                state = tabletop.initial_state(task, index)
                at = state[1 + scene.model.joint(f"{name}_joint0").qposadr[0] :][:3]
                assert np.linalg.norm(at + np.array([0, 0, 0.2]) - shoulder) < 0.855 + 0.1
                checked += 1
    assert checked == 9 * 50


def test_unknown_initial_state() -> None:
    with pytest.raises(UserError, match="no initial state 50"):
        tabletop.initial_state(TASKS[0], 50)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_everything_named_is_seen(task: Task) -> None:
    """What a task speaks of covers at least 20 of the agentview's 128 x 128 pixels, at every one of ten starts."""
    env = suites.make(task, SimConfig())
    assert isinstance(env, TaskEnv)
    renderer = mujoco.Renderer(env.model, 128, 128)
    renderer.enable_segmentation_rendering()
    option = mujoco.MjvOption()
    option.geomgroup[0] = 0
    for index in range(10):
        env.reset(episode(task, index))
        renderer.update_scene(env.data, "agentview", option)
        pixels = renderer.render()[..., 0]
        for name in env.scene.problem.of_interest:
            root = env.model.body(env.scene.parts[name].body).id
            geoms = [g for g in range(env.model.ngeom) if env.model.body_rootid[env.model.geom_bodyid[g]] == root]
            assert np.isin(pixels, geoms).sum() >= 20, f"{name} is hidden at initial state {index}"
    renderer.close()
    env.close()


def test_left_is_the_viewers_left() -> None:
    """The left cube's pixels lie left of the right cube's, in the image that a policy gets."""
    task = next(task for task in TASKS if "left cube" in task.language)
    env = suites.make(task, SimConfig())
    env.reset(episode(task))
    env.step(STILL, look=True)
    image = env.observe().images["agentview"].astype(int)
    purple = (image[..., 0] > image[..., 1] + 30) & (image[..., 2] > image[..., 1] + 30)
    columns = np.nonzero(purple)[1]
    assert len(columns) > 40 and columns.min() < 55 and columns.max() > 73
    assert isinstance(env, TaskEnv)
    left, right = (env.data.body(f"purple_cube_{i}_main").xpos for i in (1, 2))
    assert left[1] < 0 < right[1]
    env.close()


def test_an_explosion_is_told_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo resets a simulation with absurd speeds by itself; the episode's record must say so."""
    monkeypatch.chdir(tmp_path)
    env = suites.make(TASKS[0], BLIND)
    env.reset(episode(TASKS[0]))
    assert not env.step(STILL).unstable
    for _ in range(2):
        env.data.qvel[-1] = 1e30
        assert env.step(STILL).unstable
        assert not env.step(STILL).unstable
    assert not list(tmp_path.iterdir())
