"""SigLIP as PaliGemma has it: one token per patch, a plain transformer, a projection to the language model's width.

It differs from timm's: the tanh form of GELU, and no pooling head. The patch embedding and the table of positions stay
in single precision whatever the rest computes in, as in openpi.

Shape letters: B images, H height, W width, N patches, D width, O width of the language model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class SiglipConfig:
    """So400m/14 at 224 unless said otherwise."""

    image_size: int = 224
    patch: int = 14
    width: int = 1152
    depth: int = 27
    mlp: int = 4304
    heads: int = 16

    @property
    def tokens(self) -> int:
        return (self.image_size // self.patch) ** 2


SO400M = SiglipConfig()


class SiglipLayer(nn.Module):
    """Attention of everything to everything, then two dense layers, each before a residual."""

    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        D = config.width
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(D, eps=EPSILON)
        self.query, self.key, self.value, self.out = (nn.Linear(D, D) for _ in range(4))
        self.norm2 = nn.LayerNorm(D, eps=EPSILON)
        self.up = nn.Linear(D, config.mlp)
        self.down = nn.Linear(config.mlp, D)

    def forward(self, x_BND: Tensor) -> Tensor:
        seen_BND = self.norm1(x_BND)
        q, k, v = (part(seen_BND).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self._projections())
        attended_BND = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x_BND = x_BND + self.out(attended_BND)
        return x_BND + self.down(F.gelu(self.up(self.norm2(x_BND)), approximate="tanh"))

    def _projections(self) -> tuple[nn.Linear, ...]:
        return self.query, self.key, self.value


class Siglip(nn.Module):
    """Pictures in, tokens for the language model out."""

    def __init__(self, config: SiglipConfig, width: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, config.width, config.patch, stride=config.patch)
        self.position = nn.Parameter(torch.zeros(config.tokens, config.width))
        self.layers = nn.ModuleList(SiglipLayer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width, eps=EPSILON)
        self.head = nn.Linear(config.width, width)

    def embed(self, image_BHW3: Tensor) -> Tensor:
        """Patches with their positions (B, N, D), in single precision."""
        with torch.autocast(image_BHW3.device.type, enabled=False):
            patches_BDhw = self.patch(image_BHW3.float().permute(0, 3, 1, 2))
            return patches_BDhw.flatten(2).transpose(1, 2) + self.position

    def encode(self, image_BHW3: Tensor) -> Tensor:
        """(B, N, D) after the last norm."""
        x_BND = self.embed(image_BHW3).to(self.head.weight.dtype)
        for layer in self.layers:
            x_BND = layer(x_BND)
        return self.norm(x_BND)

    def forward(self, image_BHW3: Tensor) -> Tensor:
        """float (B, H, W, 3) in [-1, 1] -> (B, N, O)."""
        return self.head(self.encode(image_BHW3))
