"""A checkpoint answers: in the robot's units, whoever else is asking, and the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handeye.conventions import libero
from handeye.errors import UserError
from handeye.serve.local import load_policy
from handeye.types import Observation, Policy


def observations(count: int) -> list[Observation]:
    random = np.random.default_rng(1)
    return [
        Observation(
            images={name: random.integers(0, 256, (64, 64, 3), np.uint8) for name in libero.CAMERAS},
            proprio=random.normal(size=8).astype(np.float32),
            prompt=f"put the {'red' if index % 2 else 'green'} cube on the plate",
        )
        for index in range(count)
    ]


def test_it_is_a_policy_that_says_what_its_numbers_mean(checkpoint: Path) -> None:
    policy = load_policy(checkpoint)
    assert isinstance(policy, Policy)
    assert policy.specs == libero.specs(camera_size=64)
    assert policy.chunk == 8
    (chunk,) = policy.act(observations(1))
    assert chunk.actions.shape == (8, 7)
    assert chunk.actions.dtype == np.float32
    assert np.abs(chunk.actions).max() <= 1
    assert set(np.unique(chunk.actions[:, 6])) <= {-1.0, 1.0}


def test_an_answer_depends_neither_on_neighbours_nor_on_history(checkpoint: Path) -> None:
    asked = observations(5)
    together = load_policy(checkpoint).act(asked)
    policy = load_policy(checkpoint)
    for index in (4, 0, 2, 1, 3):
        np.testing.assert_array_equal(policy.act([asked[index]])[0].actions, together[index].actions)
    assert not np.array_equal(together[0].actions, together[1].actions)


def test_it_looks_reads_and_feels(checkpoint: Path) -> None:
    """Each input changes the answer: none is dropped on the way."""
    policy = load_policy(checkpoint)
    (asked,) = observations(1)
    (usual,) = policy.act([asked])
    for name in libero.CAMERAS:
        (other,) = policy.act([replace(asked, images={**asked.images, name: 255 - asked.images[name]})])
        assert not np.array_equal(usual.actions, other.actions), name
    for changed in (replace(asked, prompt="open the drawer"), replace(asked, proprio=asked.proprio + 1)):
        assert not np.array_equal(usual.actions, policy.act([changed])[0].actions)


def test_thread_count_is_put_back(checkpoint: Path) -> None:
    policy, before = load_policy(checkpoint), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        policy.act(observations(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_finished_run_means_its_final_checkpoint(checkpoint: Path) -> None:
    assert load_policy(checkpoint.parent).manifest == load_policy(str(checkpoint)).manifest
    with pytest.raises(UserError, match="no such folder"):
        load_policy(checkpoint.parent / "elsewhere")
    with pytest.raises(UserError, match="no manifest"):
        load_policy(checkpoint.parent.parent)


def test_a_missing_camera_is_an_error(checkpoint: Path) -> None:
    (asked,) = observations(1)
    with pytest.raises(UserError, match="wrist"):
        load_policy(checkpoint).act([replace(asked, images={"agentview": asked.images["agentview"]})])
