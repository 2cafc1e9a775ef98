"""Models and batches so small that a test takes no time: pictures of 28 pixels, four patches each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from handeye.conventions import action_tokens
from handeye.models import openvla, openvla_oft
from handeye.models.vit import DINO, SIGLIP

SMALL = {"width": 16, "depth": 3, "heads": 2, "mlp": 24, "image_size": 28}
SIZES: dict[str, Any] = {
    "towers": (replace(DINO, **SMALL), replace(SIGLIP, **SMALL)),
    "language": openvla.LanguageConfig(width=16, mlp=24, layers=2, heads=2, key_value_heads=2),
    "dtype": "float32",
}


def small(module: Any, **config: Any) -> nn.Module:
    model = module.Model(module.Config(**{**SIZES, **config}))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():  # answers that differ by more than rounding
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(8)
    return model.eval()


def batch(module: Any, lengths: tuple[int, ...] = (5, 9, 7), **config: Any) -> dict[str, Tensor]:
    """Prompts of these lengths, and actions to learn (ids where the model speaks)."""
    random = torch.Generator().manual_seed(1)
    settings = module.Config(**{**SIZES, **config})
    B, longest, size = len(lengths), max(lengths) + 3, settings.towers[0].image_size
    prompt_BL = torch.randint(3, 31000, (B, longest), generator=random)
    mask_BL = torch.arange(longest) < torch.tensor(lengths)[:, None]
    actions_BTA = torch.rand((B, settings.chunk, settings.action_width), generator=random) * 2 - 1
    speaks = module is openvla or settings.head == "tokens"
    return {
        **{f"image.{n}": torch.randn((B, size, size, 6), generator=random) for n in settings.cameras},
        "prompt": prompt_BL.masked_fill(~mask_BL, openvla.PAD),
        "prompt_mask": mask_BL,
        "proprio": torch.randn((B, 8), generator=random),
        "actions": torch.from_numpy(action_tokens.encode(actions_BTA.numpy())) if speaks else actions_BTA,
        "valid": torch.ones((B, settings.chunk), dtype=torch.bool),
        "seed": torch.arange(B),
    }


def rows(of: dict[str, Tensor], which: slice) -> dict[str, Tensor]:
    return {name: value[which] for name, value in of.items()}


FAMILIES = {
    "openvla": (openvla, {}),
    "l1": (openvla_oft, {}),
    "diffusion": (openvla_oft, {"head": "diffusion", "denoising_steps": 5}),
    "tokens": (openvla_oft, {"head": "tokens", "proprio_width": None}),
    "film": (openvla_oft, {"film": True, "cameras": ("agentview",)}),
}
"""Every form of both families."""
