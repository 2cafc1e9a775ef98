"""pi0, pi0.5 and PaliGemma of a few thousand random weights, and batches for them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from handeye.models import paligemma, pi05
from handeye.models.gemma import GemmaConfig
from handeye.models.siglip import SiglipConfig

VISION = SiglipConfig(image_size=28, patch=14, width=8, depth=2, mlp=12, heads=2)
LANGUAGE = GemmaConfig(width=16, depth=2, mlp=24, heads=4, kv_heads=2, head_dim=6)
EXPERT = GemmaConfig(width=12, depth=2, mlp=20, heads=4, kv_heads=2, head_dim=6)
VOCABULARY = 32


def config(kind: Literal["pi0", "pi05"] = "pi05", **changes: object) -> pi05.Config:
    sizes = {"vision": VISION, "language": LANGUAGE, "expert": EXPERT, "vocabulary": VOCABULARY, "chunk": 3}
    return pi05.Config(kind=kind, **{**sizes, **changes})


def policy(kind: Literal["pi0", "pi05"] = "pi05", **changes: object) -> pi05.Model:
    """Every weight random, norms and biases included, so that whatever is left out shows."""
    return _filled(pi05.Model(config(kind, **changes)))


def reader(**changes: object) -> paligemma.Model:
    sizes = {"vision": VISION, "language": LANGUAGE, "vocabulary": VOCABULARY}
    return _filled(paligemma.Model(paligemma.Config(**{**sizes, **changes})))


def observations(rows: int = 2) -> dict[str, Tensor]:
    """The last camera is absent everywhere; the second one in the second row."""
    random = torch.Generator().manual_seed(5)
    masks = {"agentview": [True, True], "wrist": [True, False], "right_wrist": [False, False]}
    batch = {
        "prompt": torch.randint(3, VOCABULARY, (rows, 5), generator=random),
        "prompt_mask": torch.arange(5) < torch.tensor([[5], [3]])[:rows],
        "proprio": torch.randn(rows, 32, generator=random),
        "actions": torch.randn(rows, 3, 32, generator=random),
        "seed": torch.arange(7, 7 + rows),
    }
    for name, mask in masks.items():
        batch[f"image.{name}"] = torch.rand(rows, 28, 28, 3, generator=random) * 2 - 1
        batch[f"image_mask.{name}"] = torch.tensor(mask[:rows])
    return batch


def _filled(model):
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 1.0 if name.endswith("embedding.weight") else 0.3
            parameter.copy_(torch.randn(parameter.shape, generator=random) * spread)
    return model.eval()
