"""The training loop, in the open. What varies is passed in; what it does can be stepped through."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handeye.console import progress
from handeye.errors import UserError
from handeye.train.config import TrainConfig
from handeye.train.metrics import Metrics
from handeye.train.optimizer import Ema, learning_rate
from handeye.train.parallel import Shared, whole

Batch = dict[str, Tensor]
MICRO_SEED = 7919
"""A prime between the seeds of the parts of one batch, so that no two draw the same random numbers."""


def train(
    config: TrainConfig,
    *,
    start: int,
    shared: Shared,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    next_batch: Callable[[], Mapping[str, np.ndarray]],
    weight: Callable[[Mapping[str, Tensor]], Tensor],
    metrics: Metrics,
    validate: Callable[[Shared], dict[str, Any]],
    save: Callable[[int, dict[str, Any]], None],
    named: Callable[[np.ndarray], str] = str,
    device: str = "cpu",
) -> None:
    """From optimizer step `start` + 1 to the last. `save(step, validation)` comes after everything of that step was
    logged. `weight`: over how many terms a batch's loss is a mean; `named`: samples by number, for messages."""
    model, world = shared.model, shared.world
    model.train()
    window: list[dict[str, float]] = []
    validation: dict[str, Any] = {}
    with progress("training", config.steps, done=start) if world.first else nullcontext(_silent) as advance:
        for step in range(start + 1, config.steps + 1):
            arrays = next_batch()
            batch = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
            means = _backward(config, step, batch, shared, weight)
            norm = clip(model, config.optimizer.clip)
            _check(step, means["loss"], norm, config, lambda arrays=arrays: named(arrays["sample"]))  # type: ignore[misc]
            rate = learning_rate(step, config.steps, config.optimizer)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(step)

            window.append({**means, "grad_norm": norm})
            last = step == config.steps
            if step % config.log_every == 0 or last:
                averaged = {name: math.fsum(line[name] for line in window) / len(window) for name in window[0]}
                metrics.log("train", step, **averaged, learning_rate=rate)
                window.clear()
            if step % config.validate_every == 0 or last:
                model.eval()
                with ema.applied():
                    validation = validate(shared)
                model.train()
                metrics.log("validation", step, **validation)
            if step % config.save_every == 0 or last:
                save(step, validation if step % config.validate_every == 0 or last else {})
            advance(note=f"loss {means['loss']:.3f}")


def computing(config: TrainConfig, device: str) -> AbstractContextManager[object]:
    """In bfloat16 where that is asked for: torch decides which operations bear it."""
    if config.precision == "bf16":
        return torch.autocast(device.partition(":")[0], torch.bfloat16)
    return nullcontext()


def _backward(
    config: TrainConfig,
    step: int,
    batch: Batch,
    shared: Shared,
    weight: Callable[[Mapping[str, Tensor]], Tensor],
) -> dict[str, float]:
    """Gradients of the mean over the whole batch, of all processes and parts; returns its loss and metrics."""
    world = shared.world
    size = len(next(iter(batch.values()))) // config.accumulate
    parts = [{n: t[i * size : (i + 1) * size] for n, t in batch.items()} for i in range(config.accumulate)]
    weights = torch.stack([weight(part) for part in parts])
    everything = world.total(weights.sum().to(_device(batch))).cpu()
    sums: dict[str, Tensor] = {}
    for index, part in enumerate(parts):
        # Randomness inside the model is a function of the seed, the step and the part: nothing to save or to drift.
        place = world.rank * config.accumulate + index
        torch.manual_seed(config.seed * 1_000_003 + step + MICRO_SEED * place)
        share = (weights[index] / everything).to(_device(batch))
        with shared.last(index == len(parts) - 1):
            with computing(config, str(share.device)):
                loss, found = shared.loss(part)
            # DDP and FSDP average over processes; ours is a sum.
            (loss * (share * world.ranks)).backward()
        for name, value in {"loss": loss.detach(), **found}.items():
            sums[name] = sums.get(name, 0) + value.float() * share
    total = world.total(torch.stack(list(sums.values())))
    return dict(zip(sums, total.tolist(), strict=True))


def _device(batch: Batch) -> torch.device:
    return next(iter(batch.values())).device


def clip(model: nn.Module, most: float | None) -> float:
    """The norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = nn.utils.clip_grad_norm_(parameters, math.inf if most is None else most)
    return float(whole(norm))


def _check(step: int, loss: float, norm: float, config: TrainConfig, who: Callable[[], str]) -> None:
    """Both: an L1 loss can be NaN while its gradient, a sign, is not. Weights are still those of the step before."""
    if math.isfinite(loss) and math.isfinite(norm):
        return
    saved = (step - 1) // config.save_every * config.save_every
    raise UserError(
        f"Training diverged at optimizer step {step} and was stopped before the step was taken.",
        why=f"loss {loss:.4g}, gradient norm {norm:.4g}, learning rate "
        f"{learning_rate(step, config.steps, config.optimizer):.3g}; the batch was {who()}",
        fix=f"train into another --out with a --learning-rate below {config.optimizer.learning_rate:g}, or look for "
        "broken demonstrations" + (f"; the save of step {saved} is whole" if saved else ""),
    )


def _silent(**_: object) -> None:
    """What other processes than the first show of their progress."""
