"""What pi0 and pi0.5 promise whatever their weights: the flow, the cache, the noise, and who is seen."""

from __future__ import annotations

import pytest
import torch
from small_pi05 import config, observations, policy
from torch import Tensor

from handeye.models import pi05

KINDS = ["pi0", "pi05"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_cached_prefix_changes_nothing(kind: str) -> None:
    model, batch = policy(kind), observations()
    x = model.noise(batch["seed"])
    for step, cached in enumerate(model.denoise(batch, x, 4)):
        torch.testing.assert_close(cached, x, atol=1e-5, rtol=1e-5)
        with torch.no_grad():
            x = x - model.velocity(batch, x, torch.full((2,), 1 - step / 4)) / 4


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_its_observations_own(kind: str) -> None:
    """Neither neighbours nor the order of questions reach it; the seed does."""
    model, batch = policy(kind), observations()
    both = model.sample_actions(batch)
    second = model.sample_actions({name: value[1:] for name, value in batch.items()})
    torch.testing.assert_close(both[1:], second, atol=1e-5, rtol=1e-5)
    assert torch.equal(both, model.sample_actions(batch))
    other = model.sample_actions({**batch, "seed": batch["seed"] + 1})
    assert not torch.allclose(both, other, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_absent_is_not_seen(kind: str) -> None:
    model, batch = policy(kind), observations()
    other = dict(batch)
    other["image.right_wrist"] = torch.zeros_like(batch["image.right_wrist"])
    other["image.wrist"] = torch.where(batch["image_mask.wrist"][:, None, None, None], batch["image.wrist"], 0.3)
    other["prompt"] = torch.where(batch["prompt_mask"], batch["prompt"], 9)
    assert torch.equal(model.sample_actions(batch), model.sample_actions(other))
    seen = {**batch, "image.wrist": batch["image.wrist"] * 0.5}
    assert not torch.allclose(model.sample_actions(batch)[0], model.sample_actions(seen)[0], atol=1e-4)


@torch.no_grad()
def test_leaving_out_a_camera_that_nobody_has_is_masking_it() -> None:
    """A row that has it keeps the camera's tokens in their place, for all rows."""
    model, batch = policy(), observations()
    short = model.velocity(batch, batch["actions"], torch.full((2,), 0.5))
    third = {name: torch.cat([value, value[:1]]) for name, value in batch.items()}
    third["image_mask.right_wrist"] = torch.tensor([False, False, True])
    assert model.prefix(third).tokens.shape[1] == model.prefix(batch).tokens.shape[1] + 4
    long = model.velocity(third, third["actions"], torch.full((3,), 0.5))
    torch.testing.assert_close(long[:2], short, atol=1e-5, rtol=1e-5)


def test_who_sees_the_state() -> None:
    """pi0.5 has it in its prompt or not at all."""
    batch = observations()
    moved = {**batch, "proprio": batch["proprio"] + 1}
    assert torch.equal(policy("pi05").sample_actions(batch), policy("pi05").sample_actions(moved))
    assert not torch.allclose(policy("pi0").sample_actions(batch), policy("pi0").sample_actions(moved), atol=1e-3)


def test_the_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the true velocity the loss is nothing, and any number of steps ends at the actions."""
    model, batch = policy(), observations()
    noise, actions = model.noise(batch["seed"]), batch["actions"]
    monkeypatch.setattr(model, "_answer", lambda _: noise - actions)
    loss, _ = model.loss(batch, noise_BTA=noise, time_B=torch.tensor([0.3, 0.9]))
    assert loss.item() == 0
    for steps in (1, 3, 10):
        found = model.sample_actions(batch, noise_BTA=noise, steps=steps)
        torch.testing.assert_close(found, actions, atol=1e-5, rtol=0)


def test_times_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beta(1.5, 1) * 0.999 + 0.001: its mean, and how much of it lies above one half (1 - 0.5^1.5)."""
    model, times = policy(), list[Tensor]()

    def velocity(batch: object, noisy: Tensor, time: Tensor) -> Tensor:
        times.append(time)
        return torch.zeros_like(noisy)

    monkeypatch.setattr(model, "velocity", velocity)
    rows = 20_000
    model.loss({"actions": torch.zeros(rows, 1, 1), "seed": torch.arange(rows)}, noise_BTA=torch.zeros(rows, 1, 1))
    (time,) = times
    assert time.min() >= 0.001 and time.max() <= 1
    assert time.mean().item() == pytest.approx(0.6, abs=0.01)
    assert (time > 0.5).float().mean().item() == pytest.approx(0.646, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_that_acts_learns(kind: str) -> None:
    """All but the VLM's last layer after its keys and values, which nothing reads."""
    model, batch = policy(kind), observations()
    batch["image_mask.right_wrist"] = torch.tensor([True, False])
    model.loss(batch, noise_BTA=model.noise(batch["seed"]), time_B=torch.tensor([0.3, 0.9]))[0].backward()
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    unread = ("query", "out", "mlp_norm", "gate", "up", "down")
    expected = {
        n for n, _ in model.named_parameters() if n.startswith(tuple(f"language.layers.1.{p}." for p in unread))
    }
    key_bias = {name for name in idle if name.startswith("vision.") and name.endswith("key.bias")}
    assert idle - key_bias == expected | {"language.norm.scale"}


def test_initialised_by_the_generator_alone() -> None:
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = pi05.Model(config())
        model.initialise(torch.Generator().manual_seed(0))
        models.append(model)
    for name, parameter in models[0].named_parameters():
        assert torch.equal(parameter, models[1].state_dict()[name]), name
    batch = observations()
    assert torch.isfinite(models[0].sample_actions(batch)).all()


def test_the_first_sizes_are_the_published_ones() -> None:
    """3,353,433,872 and 3,238,048,528 numbers."""
    for kind, count in (("pi05", 3_353_433_872), ("pi0", 3_238_048_528)):
        with torch.device("meta"):
            model = pi05.Model(pi05.Config(kind=kind))
        assert sum(p.numel() for p in model.parameters()) == count
