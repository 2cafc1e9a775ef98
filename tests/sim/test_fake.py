"""The fake simulator has the property it is for: an episode is a function of its identity and the actions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.fake import make, tasks
from handeye.types import Env, EpisodeId

STILL = np.array([0, 0, 0, 0, 0, 0, -1.0])


def episode(task: int, state: int) -> EpisodeId:
    return EpisodeId(suite="fake", task=task, initial_state=state)


def test_it_is_a_suite() -> None:
    assert suites.tasks("fake") == tasks("fake")
    assert isinstance(suites.make(suites.task("fake", 1), SimConfig()), Env)


def test_same_identity_same_scene_whatever_happened_before() -> None:
    env, fresh = (make(tasks("fake")[0], SimConfig(camera_size=16)) for _ in range(2))
    env.reset(episode(0, 3))
    for _ in range(7):
        env.step(np.ones(7))
    env.reset(episode(0, 4))
    fresh.reset(episode(0, 4))
    assert env.hashes() == fresh.hashes()
    one, other = env.observe(seed=1), fresh.observe(seed=1)
    np.testing.assert_array_equal(one.proprio, other.proprio)
    for name, image in one.images.items():
        np.testing.assert_array_equal(image, other.images[name])
    before = env.hashes()
    env.step(np.ones(7))
    assert env.hashes() == before, "of the start of the episode"


def test_it_can_be_solved_and_is_not_solved_by_waiting() -> None:
    for index in range(20):
        env = make(tasks("fake")[index % 4], SimConfig(cameras=()))
        env.reset(episode(index % 4, index))
        assert not any(env.step(STILL).success for _ in range(5))
        for _ in range(40):
            gap = env._target - env._point
            success = env.step(np.array([*np.clip(gap / 0.08, -1, 1), 0, 0, 0, 0, -1])).success
            if success:
                break
        assert success


def test_a_look_must_be_announced() -> None:
    env = make(tasks("fake")[0], SimConfig(camera_size=16))
    env.reset(episode(0, 0))
    env.step(STILL)
    with pytest.raises(RuntimeError, match="announced"):
        env.observe()
    env.step(STILL, look=True)
    assert env.observe().images["wrist"].shape == (16, 16, 3)


def test_a_fault_happens_where_it_was_asked_for_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDEYE_FAKE_FAULTS", str(tmp_path))
    (tmp_path / "0-2.raise").touch()
    env = make(tasks("fake")[0], SimConfig(cameras=()))
    for state, raises in ((1, False), (2, True), (2, False)):
        env.reset(episode(0, state))
        if raises:
            with pytest.raises(RuntimeError, match="asked for"):
                [env.step(STILL) for _ in range(5)]
        else:
            [env.step(STILL) for _ in range(5)]
