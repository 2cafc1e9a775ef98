"""AdamW with weight decay where it belongs, a schedule that is a function of the step, and an average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from handeye.errors import UserError
from handeye.train.config import OptimizerConfig
from handeye.train.parallel import local


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adamw(model: nn.Module, config: OptimizerConfig, factors: Mapping[str, float] | None = None) -> torch.optim.AdamW:
    """Embeddings are looked up, not multiplied: decaying rows that a batch did not touch would only forget words.
    `factors`: of the learning rate, by the beginning of a parameter's name; each group carries its own as `factor`."""
    factors = factors or {}
    parameters = trained(model)
    for start in factors:
        if not any(name.startswith(start) for name in parameters):
            raise UserError(
                f"--learning-rate-of {start} names nothing that is trained.",
                fix=f"use beginnings of names such as {', '.join(sorted({n.split('.')[0] for n in parameters}))}",
            )
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, p in parameters.items():
        longest = max((start for start in factors if name.startswith(start)), key=len, default=None)
        factor = 1.0 if longest is None else factors[longest]
        groups.setdefault((factor, p.ndim >= 2 and id(p) not in looked_up), []).append(p)
    found = [
        {"params": some, "weight_decay": config.weight_decay if decays else 0.0, "factor": factor}
        for (factor, decays), some in groups.items()
    ]
    return torch.optim.AdamW(found, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Of optimizer step 1 to `steps`. Warm-up multiplies the schedule, so neither cancels the other."""
    if config.schedule == "openpi":
        return _openpi(step - 1, steps, config)
    warm = min(1.0, step / max(1, config.warmup))
    done = (step - 1) / steps
    match config.schedule:
        case "cosine":
            left = 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            left = 1 - done
        case "constant":
            left = 1.0
        case "step":
            left = 1.0 if step < config.decay_at else 0.0
    return config.learning_rate * warm * (config.end_fraction + (1 - config.end_fraction) * left)


def _openpi(count: int, steps: int, config: OptimizerConfig) -> float:
    """optax.warmup_cosine_decay_schedule as openpi calls it (training/optimizer.py, CosineDecaySchedule): a line from
    peak / (warmup + 1), a cosine over what is left. `count`: steps taken before."""
    peak, first = config.learning_rate, config.learning_rate / (config.warmup + 1)
    if count < config.warmup:
        return first + (peak - first) * count / config.warmup
    done = min(1.0, (count - config.warmup) / max(1, steps - config.warmup))
    left = 0.5 * (1 + math.cos(math.pi * done))
    return peak * (config.end_fraction + (1 - config.end_fraction) * left)


class Ema:
    """An exponential average of the weights that are trained: steadier than those of any one step."""

    def __init__(self, model: nn.Module, decay: float, *, grows: bool = True) -> None:
        """`grows`: at the start only about the last tenth of the steps is remembered (the `num_updates` rule of
        TensorFlow's ExponentialMovingAverage)."""
        self.decay, self.grows = decay, grows
        self.parameters = trained(model)
        self.average: dict[str, Tensor] = {}
        """By name; what of it is in this process. Empty where there is none: the weights stand for themselves."""

        if decay:
            self.average = {name: local(parameter.detach()).clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        if self.average:
            decay = min(self.decay, (1 + step) / (10 + step)) if self.grows else self.decay
            now = [local(self.parameters[name].detach()) for name in self.average]
            torch._foreach_lerp_(list(self.average.values()), now, 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        kept = {name: local(self.parameters[name].detach()).clone() for name in self.average}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            local(self.parameters[name].detach()).copy_(value)
