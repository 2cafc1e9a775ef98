"""What is trained of a PaliGemma, by what, and how fast: each a function of the configuration and the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from handeye.train.vqa_config import Trainable, VqaConfig

ATTENTION = ("query", "key", "value", "out")
"""Of a layer of the language model: `llm/layers/attn/` in the reference, three arrays. SigLIP's attention is none of
it."""


def choose(model: nn.Module, trainable: Trainable) -> list[str]:
    """Marks what is trained, freezes the rest, and returns the names of what is trained."""
    chosen = []
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        attention = parts[:2] == ["language", "layers"] and parts[3] in ATTENTION
        trained = {"attention_only": attention, "full_llm": parts[0] == "language", "all": True}[trainable]
        parameter.requires_grad_(trained)
        chosen += [name] * trained
    return chosen


def make_optimizer(model: nn.Module, config: VqaConfig) -> torch.optim.Optimizer:
    """Moments only for what is trained. Betas and epsilon are the reference's (X+ src/training.py 7c57494)."""
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=config.learning_rate)
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in looked_up]
    others = [p for p in trained if p.ndim < 2 or id(p) in looked_up]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )


def learning_rate(step: int, steps: int, config: VqaConfig) -> float:
    """Of optimizer step 1 to `steps`. Warm-up from zero, times a shape whose progress is counted after the warm-up and
    reaches its end one step past the last (big_vision utils.py, create_learning_rate_schedule)."""
    warmup = int(steps * config.warmup)
    progress = min(1.0, max(0.0, (step - warmup) / (steps + 1 - warmup)))
    shape = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "constant": 1.0,
    }[config.schedule]
    return config.learning_rate * min(1.0, step / warmup if warmup else 1.0) * shape


def steps_of(config: VqaConfig, questions: int) -> int:
    """Optimizer steps in which every question is seen --epochs times: all parts of a step count."""
    return config.steps or -(-config.epochs * questions // (config.batch * config.accumulate))
