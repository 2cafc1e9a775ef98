"""What decays, how the learning rate goes, and what the average remembers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from handeye.train.config import OptimizerConfig
from handeye.train.optimizer import Ema, adamw, learning_rate


def test_weight_decay_is_for_what_is_multiplied() -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "norm": nn.LayerNorm(4), "mix": nn.Linear(4, 4)})
    model["frozen"] = nn.Linear(4, 4).requires_grad_(False)
    decayed, others = adamw(model, OptimizerConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model["mix"].weight)]
    assert len(others["params"]) == 4


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
    ema.update(model, 1)
    assert ema.model.weight.item() == pytest.approx(1 - 2 / 11)  # early on it forgets faster
    before = ema.model.weight.item()
    ema.update(model, 10_000)
    assert ema.model.weight.item() == pytest.approx(before * 0.9 + 0.1)
    assert model.weight.item() == 1
    assert not ema.model.weight.requires_grad
    assert torch.is_grad_enabled()
