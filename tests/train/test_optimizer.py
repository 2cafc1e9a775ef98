"""What decays, how the learning rate goes, and what the average remembers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from handeye.errors import UserError
from handeye.train.config import OptimizerConfig, Schedule
from handeye.train.optimizer import Ema, adamw, learning_rate


def test_weight_decay_is_for_what_is_multiplied() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "norm": nn.LayerNorm(4), "mix": nn.Linear(4, 4)})
    model["frozen"] = nn.Linear(4, 4).requires_grad_(False)
    decayed, others = adamw(model, OptimizerConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model["mix"].weight)]
    assert len(others["params"]) == 4


def test_parts_may_learn_faster_or_slower() -> None:
    model = nn.ModuleDict({"reader": nn.Linear(4, 4), "head": nn.Linear(4, 4)})
    groups = adamw(model, OptimizerConfig(), {"head.": 2.0, "head.bias": 0.5}).param_groups
    factors = {id(p): group["factor"] for group in groups for p in group["params"]}
    assert factors[id(model["reader"].weight)] == factors[id(model["reader"].bias)] == 1.0
    assert (factors[id(model["head"].weight)], factors[id(model["head"].bias)]) == (2.0, 0.5)
    with pytest.raises(UserError, match="--learning-rate-of haed"):
        adamw(model, OptimizerConfig(), {"haed.": 2.0})


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    config = OptimizerConfig(learning_rate=2.0, warmup=10)
    rates = [learning_rate(step, 1000, config) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0, rel=1e-3)
    assert rates.index(max(rates)) == 9
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[-1] < 1e-5


def test_the_average_follows_and_the_model_is_left_alone() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, 0.9)
    nn.init.ones_(model.weight)
    ema.update(1)
    assert ema.average["weight"].item() == pytest.approx(1 - 2 / 11)  # early on it forgets faster
    before = ema.average["weight"].item()
    ema.update(10_000)
    averaged = before * 0.9 + 0.1
    assert ema.average["weight"].item() == pytest.approx(averaged)
    assert model.weight.item() == 1
    with ema.applied():
        assert model.weight.item() == pytest.approx(averaged)
    assert model.weight.item() == 1
    assert model.weight.requires_grad and not ema.average["weight"].requires_grad
    assert torch.is_grad_enabled()


def test_without_an_average_the_weights_stand_for_themselves() -> None:
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(model, 0.0)
    ema.update(1)
    before = model.weight.item()
    with ema.applied():
        assert model.weight.item() == before


@pytest.mark.parametrize(
    ("schedule", "middle", "end"), [("linear", 1.02, 0.042), ("constant", 2.0, 2.0), ("step", 0.08, 0.08)]
)
def test_other_schedules(schedule: Schedule, middle: float, end: float) -> None:
    """Half-way and at the last of 1,000 steps; the step at 500 comes after the warm-up and is not undone by it."""
    config = OptimizerConfig(
        learning_rate=2.0, warmup=10, schedule=schedule, decay_at=500 * (schedule == "step"), end_fraction=0.02
    )
    if schedule == "step":
        config = replace(config, end_fraction=0.04)
        assert learning_rate(499, 1000, config) == 2.0
    assert learning_rate(1, 1000, config) == pytest.approx(0.2)
    assert learning_rate(501, 1000, config) == pytest.approx(middle)
    assert learning_rate(1000, 1000, config) == pytest.approx(end, rel=1e-3)
