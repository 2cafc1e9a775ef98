"""The expert reaches goals: on the built-in suite, and in LIBERO's scenes where they are at hand."""

import numpy as np
import pytest

from handeye.expert import solve
from handeye.expert.solve import Expert
from handeye.protocols.presets import protocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.types import EpisodeId

RULES = protocol("handeye-2026")


def reached(suite, task, state=0, **options):
    """Steps to the goal and the actions on the way; None if it was not reached."""
    env = suites.make(suites.task(suite, task), SimConfig(cameras=(), arithmetic="fast"))
    env.reset(EpisodeId(suite=suite, task=task, initial_state=state))
    for _ in range(RULES.settle_steps):
        env.step(np.array(RULES.settle_action))
    expert, actions = Expert(env, **options), []
    for _ in range(RULES.horizon(suite)):
        actions.append(expert.act())
        if env.step(actions[-1]).success:
            return np.array(actions)
    return None


@pytest.mark.parametrize("task", [0, 8, 9, 11], ids=["pick and place", "open", "close", "press"])
def test_tabletop(task):
    actions = reached("tabletop", task)
    assert actions is not None
    assert np.abs(actions).max() <= 1.0
    assert set(np.unique(actions[:, 6])) <= {-1.0, 1.0}


def test_the_same_episode_is_acted_the_same_way():
    np.testing.assert_array_equal(reached("tabletop", 9), reached("tabletop", 9))


def test_noise_changes_the_way_and_not_the_end():
    plain, noisy = reached("tabletop", 0), reached("tabletop", 0, noise=0.1, seed=3)
    assert noisy is not None
    assert not np.array_equal(plain[:5], noisy[:5])
    np.testing.assert_array_equal(noisy[:5], reached("tabletop", 0, noise=0.1, seed=3)[:5])


def test_a_slower_expert_takes_longer():
    assert len(reached("tabletop", 9, speed=0.5)) > 1.3 * len(reached("tabletop", 9))


def test_what_cannot_be_taken_is_given_up_and_said(monkeypatch):
    monkeypatch.setattr(solve, "best", lambda *_: None)
    monkeypatch.setattr(solve, "candidates", lambda *_, **__: [])
    env = suites.make(suites.task("tabletop", 0), SimConfig(cameras=(), arithmetic="fast"))
    env.reset(EpisodeId(suite="tabletop", task=0, initial_state=0))
    expert = Expert(env)
    for _ in range(60):
        env.step(expert.act())
    assert expert.note.startswith("gave up: ") and expert.note.endswith("taken nowhere without hitting something")
    assert next(iter(env.truths()))[1] in expert.note
    held = expert.act()
    np.testing.assert_allclose(held[:3], 0, atol=1e-9)  # it stays where it is


def test_a_dropped_thing_is_picked_up_again():
    env = suites.make(suites.task("tabletop", 0), SimConfig(cameras=(), arithmetic="fast"))
    env.reset(EpisodeId(suite="tabletop", task=0, initial_state=0))
    expert, holds, left = Expert(env), False, 0
    for _ in range(RULES.horizon("tabletop")):
        action = expert.act()
        thing = next(iter(env.truths()))[1]
        if not holds and expert._world.holds(thing) and env.data.body(env.scene.parts[thing].body).xpos[2] > 0.1:
            holds, left = True, 9
        if left:  # somebody opens the hand in mid air
            action[6], left = -1.0, left - 1
        if env.step(action).success:
            break
    else:
        pytest.fail(expert.note)
    assert holds and expert.losses == 1 and expert.note.endswith("dropped on the way")


@pytest.mark.libero
@pytest.mark.parametrize(("suite", "task"), [("libero_object", 6), ("libero_goal", 0)])
def test_libero(suite, task):
    assert reached(suite, task) is not None
