"""The baselines answer in LIBERO's convention, and noise depends on the observation's seed alone."""

from __future__ import annotations

import numpy as np
import pytest

from handeye.policy.scripted import SCRIPTED, Noise, Zero
from handeye.types import Observation, Policy


def observation(seed: int) -> Observation:
    return Observation(images={}, proprio=np.zeros(8, np.float32), prompt="do it", seed=seed)


@pytest.mark.parametrize("name", SCRIPTED)
def test_each_is_a_policy(name: str) -> None:
    policy = SCRIPTED[name]()
    assert isinstance(policy, Policy)
    chunks = policy.act([observation(1), observation(2)])
    assert [chunk.actions.shape for chunk in chunks] == [(8, 7)] * 2
    assert all(np.abs(chunk.actions).max() <= 1 for chunk in chunks)


def test_zero_stands_still_with_an_open_gripper() -> None:
    [chunk] = Zero().act([observation(0)])
    assert not chunk.actions[:, :6].any()
    assert (chunk.actions[:, 6] == -1).all()


def test_noise_depends_on_its_seed_and_on_no_neighbour() -> None:
    alone = Noise().act([observation(5)])[0].actions
    among = [chunk.actions for chunk in Noise().act([observation(4), observation(5), observation(6)])]
    np.testing.assert_array_equal(alone, among[1])
    assert not np.array_equal(among[0], among[2])
    many = np.concatenate([chunk.actions for chunk in Noise().act([observation(seed) for seed in range(200)])])
    assert np.abs(many.mean(0)).max() < 0.06
