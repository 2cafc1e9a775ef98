"""AdamW with weight decay where it belongs, a schedule that is a function of the step, and an average of weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from handeye.train.config import OptimizerConfig


def adamw(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Embeddings are looked up, not multiplied: decaying rows that a batch did not touch would only forget words."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in looked_up]
    others = [p for p in trained if p.ndim < 2 or id(p) in looked_up]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Of optimizer step 1 to `steps`. Warm-up multiplies the cosine, so neither cancels the other."""
    warm = min(1.0, step / max(1, config.warmup))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


class Ema:
    """An exponential average of a model's weights: steadier than the weights of any one step."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """At the start only about the last tenth of the steps is remembered (the `num_updates` rule of TensorFlow's
        ExponentialMovingAverage)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
