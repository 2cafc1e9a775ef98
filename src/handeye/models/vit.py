"""The two vision transformers of OpenVLA, DINOv2 and SigLIP, side by side: one picture in, one feature per patch out.

Module names are those of the published checkpoints (timm's), so a key map has nothing to do here. What the reference
takes from a tower is the output of its second-to-last block, before the final norm: the last block, that norm and
SigLIP's pooling head are carried so that a checkpoint comes and goes whole, and never computed.

Shape letters: B batch, H height, W width, N tokens (prefix and patches), P patches, D width of a tower, F of all
towers, L width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6
"""Of every LayerNorm (timm vision_transformer.py)."""


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """One vision transformer."""

    width: int
    depth: int
    heads: int
    mlp: int
    """Width of the hidden layer of each block."""

    prefix: int
    """Tokens before the patches, without a position: 0, or a class token and registers."""

    layer_scale: bool
    pooling: bool
    """It has an attention-pooling head (never computed)."""

    image_size: int = 224
    patch_size: int = 14

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


DINO = TowerConfig(width=1024, depth=24, heads=16, mlp=4096, prefix=5, layer_scale=True, pooling=False)
"""timm's vit_large_patch14_reg4_dinov2.lvd142m."""

SIGLIP = TowerConfig(width=1152, depth=27, heads=16, mlp=4304, prefix=0, layer_scale=False, pooling=True)
"""timm's vit_so400m_patch14_siglip_224; 4304 is int(1152 x 3.7362)."""


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        query, key, value = self.qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BND)))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x_BND: Tensor) -> Tensor:
        return x_BND * self.scale_factor


class Block(nn.Module):
    """With `film` the sentence scales and shifts what attention has seen (FiLM; openvla-oft
    prismatic/models/film_vit_wrapper.py:56-77)."""

    def __init__(self, config: TowerConfig, film: int | None) -> None:
        super().__init__()
        D = config.width
        self.norm1 = nn.LayerNorm(D, EPSILON)
        self.attn = Attention(D, config.heads)
        self.ls1 = LayerScale(D) if config.layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(D, EPSILON)
        self.mlp = Mlp(D, config.mlp)
        self.ls2 = LayerScale(D) if config.layer_scale else nn.Identity()
        if film is not None:
            self.scale = nn.Linear(film, D)
            self.shift = nn.Linear(film, D)

    def forward(self, x_BND: Tensor, language_BL: Tensor | None) -> Tensor:
        x_BND = x_BND + self.ls1(self.attn(self.norm1(x_BND)))
        if language_BL is not None:
            x_BND = x_BND * (1 + self.scale(language_BL)[:, None]) + self.shift(language_BL)[:, None]
        return x_BND + self.ls2(self.mlp(self.norm2(x_BND)))


class PatchEmbedding(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.proj(pixels_B3HW).flatten(2).transpose(1, 2)


class Pooling(nn.Module):
    """SigLIP's head, only carried."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        D = config.width
        self.latent = nn.Parameter(torch.zeros(1, 1, D))
        self.q = nn.Linear(D, D)
        self.kv = nn.Linear(D, 2 * D)
        self.proj = nn.Linear(D, D)
        self.norm = nn.LayerNorm(D, EPSILON)
        self.mlp = Mlp(D, config.mlp)


class Tower(nn.Module):
    """`film`: width of a sentence's vector, if it steers the tower."""

    def __init__(self, config: TowerConfig, *, film: int | None = None) -> None:
        super().__init__()
        D = config.width
        self.prefix = config.prefix
        if config.prefix:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        if config.prefix > 1:
            self.reg_token = nn.Parameter(torch.zeros(1, config.prefix - 1, D))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.patches, D))
        self.patch_embed = PatchEmbedding(config)
        self.blocks = nn.ModuleList(Block(config, film) for _ in range(config.depth))
        self.norm = nn.LayerNorm(D, EPSILON)
        if config.pooling:
            self.attn_pool = Pooling(config)

    def forward(self, pixels_B3HW: Tensor, language_BL: Tensor | None = None) -> Tensor:
        """(B, P, D): what the second-to-last block says of each patch."""
        x_BND = self.patch_embed(pixels_B3HW) + self.pos_embed
        names = ("cls_token", "reg_token")[: min(self.prefix, 2)]
        before = [getattr(self, name).expand(len(x_BND), -1, -1) for name in names]
        x_BND = torch.cat([*before, x_BND], dim=1)
        for block in self.blocks[:-1]:
            x_BND = block(x_BND, language_BL)
        return x_BND[:, self.prefix :]

    def idle(self) -> list[nn.Parameter]:
        """Parameters that no output depends on: an optimizer, or DDP, must not wait for their gradients."""
        parts = [self.blocks[-1], self.norm, *([self.attn_pool] if hasattr(self, "attn_pool") else [])]
        return [parameter for part in parts for parameter in part.parameters()]


class Towers(nn.Module):
    """Both towers on the same picture; their features side by side, DINOv2's first."""

    def __init__(self, configs: Sequence[TowerConfig], *, film: int | None = None) -> None:
        super().__init__()
        first, second = configs
        self.featurizer = Tower(first, film=film)
        self.fused_featurizer = Tower(second, film=film)

    def forward(self, image_BHW6: Tensor, language_BL: Tensor | None = None) -> Tensor:
        """Channels 0-2 are normalised for the first tower, 3-5 for the second: (B, P, F)."""
        pixels_B6HW = image_BHW6.permute(0, 3, 1, 2)
        seen = [
            tower(pixels_B3HW, language_BL)
            for tower, pixels_B3HW in zip(
                (self.featurizer, self.fused_featurizer), pixels_B6HW.split(3, dim=1), strict=True
            )
        ]
        return torch.cat(seen, dim=-1)
