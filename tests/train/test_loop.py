"""The guard against divergence stops before the weights are touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handeye.errors import UserError
from handeye.records import read_lines
from handeye.train.config import OptimizerConfig
from handeye.train.families.begin import valid_steps
from handeye.train.families.config import TinyConfig
from handeye.train.loop import train
from handeye.train.metrics import FILE, Metrics
from handeye.train.optimizer import Ema, adamw
from handeye.train.parallel import Shared, World


class Broken(nn.Module):
    """Its loss or its gradient stops being a number at the third call."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.what, self.calls = what, 0

    def loss(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.calls += 1
        loss = self.weight.sum()
        if self.calls == 3 and self.what == "loss":
            loss = loss + float("nan")  # its gradient is still 1
        if self.calls == 3 and self.what == "gradient":
            loss = loss + (self.weight - self.weight.detach()).sqrt().sum()  # 0, but with an infinite slope
        return loss, {"part": loss.detach()}


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_no_number_stops_the_run(tmp_path: Path, what: str) -> None:
    config = TinyConfig(
        data=tmp_path, out=tmp_path, steps=5, save_every=2, log_every=1, optimizer=OptimizerConfig(learning_rate=0.125)
    )
    model, saved = Broken(what), []
    with pytest.raises(UserError, match="diverged at optimizer step 3") as error:
        train(
            config,
            start=0,
            shared=Shared(model, World(), "ddp", []),
            ema=Ema(model, 0.9),
            optimizer=adamw(model, config.optimizer),
            next_batch=lambda: {"sample": np.array([4, 7]), "valid": np.ones((2, 1), bool)},
            weight=valid_steps,
            metrics=Metrics(tmp_path),
            validate=lambda shared: {},
            save=lambda step, validation: saved.append((step, model.weight.item())),
        )
    assert "the save of step 2 is whole" in str(error.value)
    assert "below 0.125" in str(error.value)
    assert "the batch was [4 7]" in str(error.value)
    assert saved == [(2, model.weight.item())]
    assert [line["step"] for line in read_lines(tmp_path / FILE)] == [1, 2]
