"""openpi's optimizer on gradients that are given: clipping, AdamW, schedule and average."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from handeye.train.config import OptimizerConfig
from handeye.train.loop import clip
from handeye.train.optimizer import Ema, adamw, learning_rate
from handeye.train.presets import pi0_libero, pi05_libero

pytestmark = pytest.mark.goldens


@pytest.fixture
def said(goldens: Path) -> dict[str, Any]:
    return dict(json.loads((goldens / "pi05" / "transforms.json").read_text()))


@pytest.mark.parametrize(
    ("name", "config"),
    [("default_cosine", pi0_libero().optimizer), ("pi05_libero", pi05_libero().optimizer)],
)
def test_learning_rates(said: dict[str, Any], name: str, config: OptimizerConfig, record_property: Callable) -> None:
    """Of the presets. openpi counts steps from 0, we from 1, and it computes in single precision."""
    table, theirs = said["lr"][name]["lr"], said["lr"][name]["config"]
    assert (config.warmup, config.learning_rate) == (theirs["warmup_steps"], theirs["peak_lr"])
    for count, rate in table.items():
        ours = learning_rate(int(count) + 1, min(theirs["decay_steps"], 30_000), config)
        assert ours == pytest.approx(rate, rel=1e-6, abs=1e-7 * theirs["peak_lr"])
    record_property("openpi learning rates", len(table))


def test_six_steps(said: dict[str, Any], goldens: Path, record_property: Callable) -> None:
    golden, told = np.load(goldens / "pi05" / "transforms.npz"), said["adamw"]
    schedule = told["schedule"]
    config = replace(
        pi0_libero().optimizer,
        learning_rate=schedule["peak_lr"],
        warmup=schedule["warmup_steps"],
        end_fraction=schedule["decay_lr"] / schedule["peak_lr"],
        weight_decay=told["weight_decay"],
        betas=(told["b1"], told["b2"]),
        clip=told["clip"],
        ema=told["ema_decay"],
    )

    def of(what: str) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(golden[f"adamw/{what}/{name}"]) for name in ("w", "b")}

    model = nn.ParameterDict({name: nn.Parameter(tensor.clone()) for name, tensor in of("params0").items()})
    optimizer, ema, compared = adamw(model, config), Ema(model, config.ema, grows=config.ema_grows), 0
    for step in range(1, 7):
        for name, gradient in of(f"grad{step - 1}").items():
            model[name].grad = gradient.clone()
        assert clip(model, config.clip) == pytest.approx(float(golden[f"adamw/grad_norm{step - 1}"]), rel=1e-6)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, schedule["decay_steps"], config)
        optimizer.step()
        ema.update(step)
        for name in ("w", "b"):
            torch.testing.assert_close(model[name].detach(), of(f"params{step}")[name], atol=1e-6, rtol=0)
            torch.testing.assert_close(ema.average[name], of(f"ema{step}")[name], atol=1e-6, rtol=0)
            compared += 2 * model[name].numel()
    record_property("openpi optimizer values", compared)
