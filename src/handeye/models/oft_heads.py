"""What OpenVLA-OFT adds to OpenVLA: the head that turns states into numbers, two small projectors, and the schedule of
its diffusion. Kim, Finn, Liang 2025, "Fine-Tuning Vision-Language-Action Models: Optimizing Speed and Success".

Shape letters: B batch, N slots (chunk steps times action width), T chunk steps, A action, D width, I input.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """The names `ffn.0` and `ffn.1` are the published ones."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.ffn(x_BTD)


class ActionHead(nn.Module):
    """The states of one step's slots, side by side, to that step's action (or, diffusing, its noise); nothing bounds
    the result (openvla-oft prismatic/models/action_heads.py:38-107)."""

    def __init__(self, width: int, action_width: int, blocks: int = 2) -> None:
        super().__init__()
        self.action_width = action_width
        self.layer_norm1 = nn.LayerNorm(width * action_width)
        self.fc1 = nn.Linear(width * action_width, width)
        self.mlp_resnet_blocks = nn.ModuleList(Residual(width) for _ in range(blocks))
        self.layer_norm2 = nn.LayerNorm(width)
        self.fc2 = nn.Linear(width, action_width)

    def forward(self, states_BND: Tensor) -> Tensor:
        """(B, T, A)"""
        x_BTI = states_BND.unflatten(1, (-1, self.action_width)).flatten(2)
        x_BTD = F.relu(self.fc1(self.layer_norm1(x_BTI)))
        for block in self.mlp_resnet_blocks:
            x_BTD = block(x_BTD)
        return self.fc2(self.layer_norm2(x_BTD))


class VectorProjector(nn.Module):
    """Numbers to a word: the whole proprioception, or one number of a noisy action (projectors.py)."""

    def __init__(self, numbers: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(numbers, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x_BNI: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BNI)))


def step_embedding(step_B: Tensor, width: int) -> Tensor:
    """(B, width), float32: sines, then cosines, of the diffusion step (action_heads.py:12-35)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=step_B.device) * (-math.log(10000) / (half - 1)))
    angles = step_B.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Ddim:
    """Song et al. 2021 with eta 0, as diffusers' DDIMScheduler computes it with `squaredcos_cap_v2` and otherwise its
    defaults: noise is predicted, the clean sample is clipped to [-1, 1], steps are spaced `leading`, and the last one
    ends at no noise at all."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        share = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
        betas = torch.tensor([min(1 - share[i + 1] / share[i], 0.999) for i in range(steps)], device="cpu")
        self.kept = torch.cumprod(1 - betas, 0)
        """Share of the clean action's variance after each step: float32 (steps,)."""

    def noisy(self, clean_BTA: Tensor, noise_BTA: Tensor, step_B: Tensor) -> Tensor:
        kept_B11 = self.kept.to(clean_BTA.device)[step_B][:, None, None].to(clean_BTA.dtype)
        return kept_B11.sqrt() * clean_BTA + (1 - kept_B11).sqrt() * noise_BTA

    def schedule(self, count: int) -> list[int]:
        """Which of the training's steps are walked, from the noisiest on."""
        stride = self.steps // count
        return [stride * i for i in reversed(range(count))]

    def less_noisy(self, sample_BTA: Tensor, noise_BTA: Tensor, step: int, count: int) -> Tensor:
        """One step back, given the predicted noise."""
        kept = self.kept[step]
        after = step - self.steps // count
        kept_after = self.kept[after] if after >= 0 else torch.tensor(1.0)
        clean_BTA = ((sample_BTA - (1 - kept).sqrt() * noise_BTA) / kept.sqrt()).clamp(-1, 1)
        return kept_after.sqrt() * clean_BTA + (1 - kept_after).sqrt() * noise_BTA
