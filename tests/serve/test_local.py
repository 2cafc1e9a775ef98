"""A checkpoint answers: in the robot's units, whoever else is asking, and the same every time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handeye.conventions import libero
from handeye.errors import UserError
from handeye.models.tiny import Model
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


@pytest.mark.parametrize("rows", [1, 3, 4, 8])
def test_an_answer_depends_neither_on_neighbours_nor_on_history(rows: int, checkpoint: Path) -> None:
    asked = observations(5)
    together = load_policy(checkpoint, rows=rows).act(asked)
    policy = load_policy(checkpoint, rows=rows)
    turned = policy.act(asked[::-1])[::-1]
    for index in (4, 0, 2, 1, 3):
        np.testing.assert_array_equal(turned[index].actions, together[index].actions)
        np.testing.assert_array_equal(policy.act([asked[index]])[0].actions, together[index].actions)
    assert not np.array_equal(together[0].actions, together[1].actions)


def test_a_batch_answers_what_single_questions_do(checkpoint: Path) -> None:
    asked = observations(11)
    for one, other in zip(
        load_policy(checkpoint, rows=8).act(asked), load_policy(checkpoint, rows=1).act(asked), strict=True
    ):
        np.testing.assert_allclose(one.actions, other.actions, rtol=0, atol=1e-5)


def test_rows_that_are_not_independent_are_computed_one_by_one(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kernels that order their sums by the row's place, as it were."""
    plain, sample = load_policy(checkpoint).act(observations(3)), Model.sample_actions

    def by_place(self: Model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        actions = sample(self, batch)
        return actions + 1e-7 * torch.arange(len(actions))[:, None, None]

    monkeypatch.setattr(Model, "sample_actions", by_place)
    policy = load_policy(checkpoint, rows=4)
    assert policy.rows == 1
    assert "computed one by one" in capsys.readouterr().err
    for one, other in zip(policy.act(observations(3)), plain, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)


def test_what_differs_in_shape_is_computed_apart(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As sentences of families that do not fill them up: each answer is the one it would get alone."""
    policy, shapes = load_policy(checkpoint, rows=4), []
    encode, sample = type(policy.manifest.pipeline).encode, Model.sample_actions

    def short(self: object, observation: Observation) -> dict[str, np.ndarray]:
        item = encode(self, observation)
        return {**item, "prompt": item["prompt"][: len(observation.prompt)]}

    def listening(self: Model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes.append(tuple(batch["prompt"].shape))
        return sample(self, batch)

    monkeypatch.setattr(type(policy.manifest.pipeline), "encode", short)
    monkeypatch.setattr(Model, "sample_actions", listening)
    asked = observations(5)
    together = policy.act(asked)
    assert sorted(shapes) == [(4, len(asked[1].prompt)), (4, len(asked[0].prompt))]
    for observation, chunk in zip(asked, together, strict=True):
        np.testing.assert_array_equal(policy.act([observation])[0].actions, chunk.actions)


def test_the_model_hears_each_questions_seed(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Families that sample draw their noise from it."""
    heard: list[list[int]] = []
    sample = Model.sample_actions

    def listening(self: Model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        heard.append(batch["seed"].tolist())
        return sample(self, batch)

    policy = load_policy(checkpoint, rows=2)
    monkeypatch.setattr(Model, "sample_actions", listening)
    policy.act([replace(each, seed=2**32 - 1 - number) for number, each in enumerate(observations(3))])
    assert heard == [[2**32 - 1, 2**32 - 2], [2**32 - 3, 2**32 - 3]]


def test_identity_holds_what_reaches_the_last_bit(checkpoint: Path) -> None:
    one, four = load_policy(checkpoint, rows=1).identity, load_policy(checkpoint, rows=4).identity
    assert {name for name in one if one[name] != four[name]} == {"rows"}
    assert (one["family"], one["step"], len(one["manifest"])) == ("tiny", 1, 64)
    assert one["device"].startswith("cpu, ")


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


def test_too_large_for_the_gpu(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 86.00 MiB. GPU 0 has a total of ...")

    monkeypatch.setattr(Model, "to", full)
    with pytest.raises(UserError, match=r"does not fit on cpu(.|\n)*out of memory\n(.|\n)*--precision int8"):
        load_policy(checkpoint)
