"""The training loop, in the open. What varies is passed in; what it does can be stepped through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handeye.console import progress
from handeye.errors import UserError
from handeye.train.config import TrainConfig
from handeye.train.metrics import Metrics
from handeye.train.optimizer import Ema, learning_rate


def train(
    config: TrainConfig,
    *,
    start: int,
    model: nn.Module,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    next_batch: Callable[[], Mapping[str, np.ndarray]],
    metrics: Metrics,
    validate: Callable[[nn.Module], dict[str, Any]],
    save: Callable[[int], None],
) -> None:
    """From optimizer step `start` + 1 to the last. `save(step)` comes after everything of that step was logged."""
    model.train()
    window: list[dict[str, float]] = []
    with progress("training", config.steps, done=start) as advance:
        for step in range(start + 1, config.steps + 1):
            # Randomness inside the model is a function of the seed and the step: nothing to save, nothing to drift.
            torch.manual_seed(config.seed * 1_000_003 + step)
            batch = {name: torch.from_numpy(array).to(config.device) for name, array in next_batch().items()}
            loss, parts = model.loss(batch)  # type: ignore[operator]
            loss.backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
            _check(step, loss, norm, config)
            rate = learning_rate(step, config.steps, config.optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(model, step)

            window.append({"loss": loss.item(), **{n: v.item() for n, v in parts.items()}, "grad_norm": norm.item()})
            last = step == config.steps
            if step % config.log_every == 0 or last:
                means = {name: math.fsum(line[name] for line in window) / len(window) for name in window[0]}
                metrics.log("train", step, **means, learning_rate=rate)
                window.clear()
            if step % config.validate_every == 0 or last:
                metrics.log("validation", step, **validate(ema.model))
            if step % config.save_every == 0 or last:
                save(step)
            advance(note=f"loss {loss.item():.3f}")


def _check(step: int, loss: Tensor, norm: Tensor, config: TrainConfig) -> None:
    """Both: an L1 loss can be NaN while its gradient, a sign, is not. Weights are still those of the step before."""
    if math.isfinite(loss.item()) and math.isfinite(norm.item()):
        return
    saved = (step - 1) // config.save_every * config.save_every
    raise UserError(
        f"Training diverged at optimizer step {step} and was stopped before the step was taken.",
        why=f"loss {loss.item():.4g}, gradient norm {norm.item():.4g}, learning rate "
        f"{learning_rate(step, config.steps, config.optimizer):.3g}",
        fix=f"train into another --out with a --learning-rate below {config.optimizer.learning_rate:g}, or look for "
        "broken demonstrations" + (f"; the save of step {saved} is whole" if saved else ""),
    )
