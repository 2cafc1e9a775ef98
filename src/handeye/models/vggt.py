"""VGGT's aggregator: several views of one scene in, tokens that know of each other's geometry out.

Wang et al. 2025, "VGGT: Visual Geometry Grounded Transformer" (arXiv 2503.11651). Blocks alternate: a *frame* block
lets the tokens of one view see each other, a *global* block those of all views. Each view brings a camera token and
four registers, of which the first view has a set of its own: everything is told relative to it. Module names are those
of facebookresearch/vggt (vggt/models/aggregator.py), so a published checkpoint needs no key map.

Beyond VGGT a sequence of *guests* may come along, tokens that belong to no picture, here a sentence: they see each
other in frame blocks and everybody in global ones, and stand where VGGT puts what is no patch, at position 0.

Shape letters: B batch, S views, H height, W width, P tokens of a view, L guests, N all tokens, D width, d of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from handeye.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, applied here: pictures come in [0, 1] (vggt/models/aggregator.py)."""

DINO_EPSILON = 1e-6
"""Of DINOv2's norms; the aggregator's own have torch's default, 1e-5."""

Positions = Tensor
"""int64 (N, 2): row and column of each token."""

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine (N, d) of every token's angles."""


@dataclass(frozen=True, kw_only=True)
class AggregatorConfig:
    """Sizes of facebook/VGGT-1B: 909,112,320 parameters."""

    name: str = field(default="", compare=False, metadata={"declared": False})
    """Which weights these are. A published name must have the published sizes; left out, it is what the sizes say. It
    is no part of a checkpoint's configuration, whose sizes prove it: those that were saved before it had a name are
    read as well."""

    width: int = 1024
    depth: int = 24
    """Frame blocks, and as many global ones."""

    heads: int = 16
    registers: int = 4
    patch_size: int = 14
    embedding: Literal["dinov2", "conv", "none"] = "dinov2"
    """What makes tokens of patches: DINOv2 ViT-L/14 with registers, one convolution, or nothing: tokens are given."""

    image_size: int = 518
    """For which DINOv2's table of positions was made; other sizes are interpolated."""

    vision_depth: int = 24
    vision_heads: int = 16
    rope_base: float = 100.0
    layer_scale: float = 0.01
    """At which blocks begin (vggt/models/aggregator.py, init_values), where nothing is loaded."""

    def __post_init__(self) -> None:
        sizes: tuple[int, ...] = (self.width, self.depth, self.heads)
        if self.embedding != "none":
            sizes += (self.registers, self.patch_size)
        if self.embedding == "dinov2":
            sizes += (self.image_size, self.vision_depth, self.vision_heads)
        name = next((name for name, published in SIZES.items() if published[: len(sizes)] == sizes), "")
        if self.embedding == "conv":  # VGGT-1B sees through DINOv2
            name = ""
        if self.name in SIZES and self.name != name:
            raise UserError(
                f"This aggregator is not {self.name}.",
                why=f"{self.name} is {_said(SIZES[self.name])}; this is {_said(sizes)}",
                fix="name the model that it is",
            )
        object.__setattr__(self, "name", name or self.name or "of no published size")


SIZES = {"VGGT-1B": (1024, 24, 16, 4, 14, 518, 24, 16)}
"""Of the published models that a configuration may name: width, depth and heads of the blocks, registers and patches of
a view, and of DINOv2 the pictures' side, depth and heads (facebook/VGGT-1B, vggt/models/aggregator.py)."""


def _said(sizes: tuple[int, ...]) -> str:
    words = ("{} wide", "{} pairs of blocks", "{} heads", "{} registers", "patches of {}", "pictures of {}",
             "{} blocks of DINOv2", "{} heads in them")  # fmt: skip
    return ", ".join(word.format(size) for word, size in zip(words, sizes, strict=False))


VGGT_1B = AggregatorConfig(name="VGGT-1B")


class Attention(nn.Module):
    """With `normed` queries and keys are normalised per head before they are turned (vggt/layers/attention.py)."""

    def __init__(self, width: int, heads: int, *, normed: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.k_norm = nn.LayerNorm(width // heads) if normed else nn.Identity()
        self.proj = nn.Linear(width, width)

    def forward(self, x_BND: Tensor, rotation: Rotation | None, there_BN: Tensor | None) -> Tensor:
        query, key, value = self.qkv(x_BND).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = turned(query, rotation), turned(key, rotation)
        mask = None if there_BN is None else there_BN[:, None, None, :]
        return self.proj(F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2))


class LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x_BND: Tensor) -> Tensor:
        return x_BND * self.gamma


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BND: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_BND)))


class Block(nn.Module):
    """DINOv2's, and the aggregator's."""

    def __init__(self, width: int, heads: int, *, normed: bool, epsilon: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, epsilon)
        self.attn = Attention(width, heads, normed=normed)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, epsilon)
        self.mlp = Mlp(width)
        self.ls2 = LayerScale(width)

    def forward(self, x_BND: Tensor, rotation: Rotation | None = None, there_BN: Tensor | None = None) -> Tensor:
        x_BND = x_BND + self.ls1(self.attn(self.norm1(x_BND), rotation, there_BN))
        return x_BND + self.ls2(self.mlp(self.norm2(x_BND)))


class PatchEmbedding(nn.Module):
    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.proj(pixels_B3HW).flatten(2).transpose(1, 2)


class Dinov2(nn.Module):
    """DINOv2 with registers, as VGGT carries it (vggt/layers/vision_transformer.py): the class token has a position,
    registers have none, and what is taken are the normed patches."""

    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        D = config.width
        self.side = config.image_size // config.patch_size
        self.patch_size = config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, D))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.side**2, D))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, D))
        self.mask_token = nn.Parameter(torch.zeros(1, D))  # of its own pretraining: carried, never computed with
        self.patch_embed = PatchEmbedding(config)
        self.blocks = nn.ModuleList(
            Block(D, config.vision_heads, normed=False, epsilon=DINO_EPSILON) for _ in range(config.vision_depth)
        )
        self.norm = nn.LayerNorm(D, DINO_EPSILON)

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        return self.norm(self.before_norm(pixels_B3HW))[:, 1 + self.register_tokens.shape[1] :]

    def before_norm(self, pixels_B3HW: Tensor) -> Tensor:
        """All tokens: class, registers, patches."""
        B, (height, width) = len(pixels_B3HW), pixels_B3HW.shape[-2:]
        x_BND = torch.cat([self.cls_token.expand(B, -1, -1), self.patch_embed(pixels_B3HW)], dim=1)
        x_BND = x_BND + self._positions(height // self.patch_size, width // self.patch_size)
        x_BND = torch.cat([x_BND[:, :1], self.register_tokens.expand(B, -1, -1), x_BND[:, 1:]], dim=1)
        for block in self.blocks:
            x_BND = block(x_BND)
        return x_BND

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Bicubic, antialiased, without DINOv2's own offset of 0.1."""
        if rows == columns == self.side:
            return self.pos_embed
        first, grid = self.pos_embed[:, :1], self.pos_embed[:, 1:].float()
        grid = grid.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([first, grid.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)


class Aggregator(nn.Module):
    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        self.config = config
        D = config.width
        if config.embedding != "none":
            self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, D))
            self.register_token = nn.Parameter(torch.zeros(1, 2, config.registers, D))
            self.patch_embed = Dinov2(config) if config.embedding == "dinov2" else PatchEmbedding(config)
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(Block(D, config.heads, normed=True, epsilon=1e-5) for _ in range(config.depth))
            for _ in range(2)
        )

    def see(self, images_BS3HW: Tensor) -> Tensor:
        """Pictures in [0, 1] -> the tokens of each view (B, S, P, D): camera, registers, patches in rows."""
        B, S = images_BS3HW.shape[:2]
        patches_BSPD = self.patches(images_BS3HW.flatten(0, 1)).unflatten(0, (B, S))
        first_then_others = [0] + [1] * (S - 1)
        special = [token[:, first_then_others].expand(B, -1, -1, -1) for token in self._special()]
        return torch.cat([*special, patches_BSPD], dim=2)

    def patches(self, images_B3HW: Tensor) -> Tensor:
        """(B, P, D), without the special tokens."""
        mean, std = (images_B3HW.new_tensor(value)[:, None, None] for value in (MEAN, STD))
        return self.patch_embed((images_B3HW - mean) / std)

    def _special(self) -> tuple[Tensor, Tensor]:
        return self.camera_token, self.register_token

    def positions(self, height: int, width: int) -> Positions:
        """Of one view's tokens: special ones at 0, patches from 1 on."""
        grid = grid_positions(height // self.config.patch_size, width // self.config.patch_size)
        return torch.cat([grid.new_zeros(1 + self.config.registers, 2), grid + 1])

    def layers(
        self,
        views_BSPD: Tensor,
        positions_P2: Positions,
        guests_BLD: Tensor | None = None,
        there_BL: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """All tokens (B, N, D), views first, guests last, after each frame block and after each global one. `there_BL`
        says which guests are real: nobody looks at the others."""
        B, S, P, _ = views_BSPD.shape
        guests_BLD = views_BSPD.new_zeros(B, 0, views_BSPD.shape[-1]) if guests_BLD is None else guests_BLD
        L = guests_BLD.shape[1]
        if there_BL is not None:
            there_BN = torch.cat([there_BL.new_ones(B, S * P), there_BL], dim=1)
        positions_N2 = torch.cat([positions_P2.repeat(S, 1), positions_P2.new_zeros(L, 2)]).to(views_BSPD.device)
        cos, sin = self._rotation(positions_N2, views_BSPD.dtype)
        in_view, in_guests, everywhere = (cos[:P], sin[:P]), (cos[S * P :], sin[S * P :]), (cos, sin)
        x_BND = torch.cat([views_BSPD.flatten(1, 2), guests_BLD], dim=1)
        for frame_block, global_block in zip(self.frame_blocks, self.global_blocks, strict=True):
            views, guests = x_BND[:, : S * P], x_BND[:, S * P :]
            views = frame_block(views.reshape(B * S, P, -1), in_view).reshape(B, S * P, -1)
            if L:
                guests = frame_block(guests, in_guests, there_BL)
            frame_BND = torch.cat([views, guests], dim=1)
            x_BND = global_block(frame_BND, everywhere, None if there_BL is None else there_BN)
            yield frame_BND, x_BND

    def forward(self, images_BS3HW: Tensor) -> list[Tensor]:
        """VGGT's own answer: (B, S, P, 2 D) after each pair of blocks, frame and global side by side."""
        views_BSPD = self.see(images_BS3HW)
        pairs = self.layers(views_BSPD, self.positions(*images_BS3HW.shape[-2:]))
        return [torch.cat(pair, dim=-1).unflatten(1, views_BSPD.shape[1:3]) for pair in pairs]

    def _rotation(self, positions_N2: Positions, dtype: torch.dtype) -> Rotation:
        return rotation(positions_N2, self.config.width // self.config.heads, self.config.rope_base, dtype)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """As upstream begins: DINOv2's scales at 1, the aggregator's at `layer_scale`, special tokens near zero."""
        for module in self.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if isinstance(module, LayerScale):
                    parameter.fill_(1.0)
                elif name == "bias":
                    parameter.zero_()
                elif isinstance(module, nn.LayerNorm):
                    parameter.fill_(1.0)
                elif isinstance(module, Aggregator) or name in ("cls_token", "register_tokens"):
                    parameter.normal_(0.0, 1e-6, generator=generator)
                elif name == "weight":  # upstream: 0.02, which is this at its width
                    parameter.normal_(0.0, parameter[0].numel() ** -0.5, generator=generator)
                else:
                    parameter.normal_(0.0, 0.02, generator=generator)
        for blocks in (self.frame_blocks, self.global_blocks):
            for module in blocks.modules():
                if isinstance(module, LayerScale):
                    module.gamma.fill_(self.config.layer_scale)


def grid_positions(rows: int, columns: int) -> Positions:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns))


def rotation(positions_N2: Positions, width: int, base: float, dtype: torch.dtype) -> Rotation:
    """The first half of a head turns with the row, the second with the column (vggt/layers/rope.py)."""
    half = width // 2
    frequency = base ** (-torch.arange(0, half, 2, device=positions_N2.device).float() / half)
    angle_N2f = positions_N2[..., None].float() * frequency
    angle_Nd = torch.cat([angle_N2f, angle_N2f], dim=-1).flatten(1)
    return angle_Nd.cos().to(dtype), angle_Nd.sin().to(dtype)


def turned(x_BhNd: Tensor, by: Rotation) -> Tensor:
    first, second = x_BhNd.unflatten(-1, (2, 2, -1)).unbind(-2)
    other = torch.stack([-second, first], dim=-2).flatten(-3)
    return x_BhNd * by[0] + other * by[1]
