"""Gemma, and several Gemmas that share one attention: what PaliGemma reads with, and what pi0 acts with.

A *stack* is one model's layers. `attend` runs one or more stacks side by side: each has its own tokens, widths and
weights, but in every layer all tokens meet in one attention, so the stacks must agree on depth, heads and head width.

Shape letters: B batch, T tokens (of one stack, or of all), S tokens that may be looked at, D width, N heads,
K key/value heads, H head width, C condition width, M MLP width.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

EPSILON = 1e-6
LONGEST_WAVE = 10_000.0
"""Of the rotary code of positions, over 2 pi."""

HIDDEN = -2.3819763e38
"""Added to the logit of what may not be seen. Not infinity: a row that sees nothing at all (padding) must stay finite,
because its values are multiplied by zero elsewhere."""

Dtype = Literal["float32", "bfloat16"]
"""What a model computes in."""

Cache = list[tuple[Tensor, Tensor]]
"""Per layer: keys (after rotation) and values, (B, S, K, H)."""


@dataclass(frozen=True, kw_only=True)
class GemmaConfig:
    """One stack."""

    width: int
    depth: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int


GEMMA_2B = GemmaConfig(width=2048, depth=18, mlp=16_384, heads=8, kv_heads=1, head_dim=256)
GEMMA_300M = GemmaConfig(width=1024, depth=18, mlp=4096, heads=8, kv_heads=1, head_dim=256)
"""Sizes: openpi models/gemma.py:58-109."""

VOCABULARY = 257_152
"""Gemma's 256000 pieces, 1024 places and 128 segments (openpi models/gemma.py:41)."""


class Norm(nn.Module):
    """Divides by the root mean square, multiplies by 1 + scale. Adaptive: scale, shift and the gate of the residual
    follow from a condition."""

    def __init__(self, width: int, *, adaptive: bool) -> None:
        super().__init__()
        if adaptive:
            self.modulation = nn.Linear(width, 3 * width)
        else:
            self.scale = nn.Parameter(torch.zeros(width))
        self.adaptive = adaptive

    def forward(self, x_BTD: Tensor, condition_BC: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(normed, gate): both in the type of x, the arithmetic in single precision."""
        wide_BTD = x_BTD.float()
        normed_BTD = wide_BTD * torch.rsqrt(wide_BTD.square().mean(-1, keepdim=True) + EPSILON)
        if not self.adaptive:
            return (normed_BTD * (1 + self.scale.float())).to(x_BTD.dtype), None
        if condition_BC is None:
            raise TypeError("an adaptive norm needs a condition")
        modulation_B1C = self.modulation(condition_BC.to(self.modulation.weight.dtype))[:, None]
        scale_B1D, shift_B1D, gate_B1D = modulation_B1C.chunk(3, dim=-1)
        normed_BTD = normed_BTD * (1 + scale_B1D.float()) + shift_B1D.float()
        return normed_BTD.to(x_BTD.dtype), gate_B1D.to(x_BTD.dtype)


class GemmaLayer(nn.Module):
    """The weights of one layer of one stack; `attend` says how they are used."""

    def __init__(self, config: GemmaConfig, *, adaptive: bool) -> None:
        super().__init__()
        D, M, H = config.width, config.mlp, config.head_dim
        self.head_dim = H
        self.attention_norm = Norm(D, adaptive=adaptive)
        self.query = nn.Linear(D, config.heads * H, bias=False)
        self.key = nn.Linear(D, config.kv_heads * H, bias=False)
        self.value = nn.Linear(D, config.kv_heads * H, bias=False)
        self.out = nn.Linear(config.heads * H, D, bias=False)
        self.mlp_norm = Norm(D, adaptive=adaptive)
        self.gate = nn.Linear(D, M, bias=False)
        self.up = nn.Linear(D, M, bias=False)
        self.down = nn.Linear(M, D, bias=False)

    def project(self, x_BTD: Tensor) -> list[Tensor]:
        """Query (B, T, N, H), key and value (B, T, K, H)."""
        return [part(x_BTD).unflatten(-1, (-1, self.head_dim)) for part in (self.query, self.key, self.value)]

    def mlp(self, x_BTD: Tensor) -> Tensor:
        return self.down(F.gelu(self.gate(x_BTD), approximate="tanh") * self.up(x_BTD))


class Gemma(nn.Module):
    """A stack. With a vocabulary it has a table of tokens, which is also its output head."""

    def __init__(self, config: GemmaConfig, *, vocabulary: int | None = None, adaptive: bool = False) -> None:
        super().__init__()
        if vocabulary is not None:
            self.embedding = nn.Embedding(vocabulary, config.width)
        self.layers = nn.ModuleList(GemmaLayer(config, adaptive=adaptive) for _ in range(config.depth))
        self.norm = Norm(config.width, adaptive=adaptive)
        self.recompute = False
        """In training: what is inside a layer is computed again on the way back instead of being kept."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the stream of tokens through it."""
        return self.layer(0).query.weight.dtype

    def layer(self, depth: int) -> GemmaLayer:
        return cast(GemmaLayer, self.layers[depth])

    def embed(self, ids_BT: Tensor) -> Tensor:
        """Of text. Tokens of images are not scaled."""
        table_VD = self.embedding.weight
        return self.embedding(ids_BT) * torch.tensor(table_VD.shape[1] ** 0.5, dtype=table_VD.dtype)

    def logits(self, x_BTD: Tensor) -> Tensor:
        """Single precision (B, T, vocabulary)."""
        return F.linear(x_BTD.to(self.embedding.weight.dtype), self.embedding.weight).float()


def attend(
    stacks: Sequence[Gemma],
    tokens: Sequence[Tensor],
    *,
    positions_BT: Tensor,
    visible_BTS: Tensor,
    conditions: Sequence[Tensor | None] | None = None,
    past: Cache | None = None,
) -> tuple[list[Tensor], Cache]:
    """Each stack's tokens (B, T, D) after its last norm, and the keys and values of these tokens. All tokens stand in
    one row, stack after stack, with `positions_BT`. `visible_BTS`: who may look at whom; what is in `past` comes
    first."""
    xs = [x.to(stack.dtype) for x, stack in zip(tokens, stacks, strict=True)]
    given = list(conditions or [None] * len(stacks))
    rotation = _rotation(positions_BT, stacks[0].layer(0).head_dim)
    bias_B1TS = torch.where(visible_BTS[:, None], 0.0, HIDDEN).to(xs[0].dtype)
    cache: Cache = []
    for depth in range(len(stacks[0].layers)):
        layers = [stack.layer(depth) for stack in stacks]
        before = past[depth] if past is not None else None
        if stacks[0].recompute and torch.is_grad_enabled():
            xs, keys_values = checkpoint(_layer, layers, xs, given, rotation, bias_B1TS, before, use_reentrant=False)
        else:
            xs, keys_values = _layer(layers, xs, given, rotation, bias_B1TS, before)
        cache.append(keys_values)
    return [stack.norm(x, c)[0] for stack, x, c in zip(stacks, xs, given, strict=True)], cache


def _layer(
    layers: Sequence[GemmaLayer],
    xs: Sequence[Tensor],
    given: Sequence[Tensor | None],
    rotation: tuple[Tensor, Tensor],
    bias_B1TS: Tensor,
    before: tuple[Tensor, Tensor] | None,
) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """One layer of every stack: what it makes of each stack's tokens, and the new keys and values."""
    normed = [layer.attention_norm(x, c) for layer, x, c in zip(layers, xs, given, strict=True)]
    parts = [layer.project(x) for layer, (x, _) in zip(layers, normed, strict=True)]
    q, k, v = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
    q, k = _rotate(q, rotation), _rotate(k, rotation)
    keys_values = (k, v)
    if before is not None:
        k, v = (torch.cat([old, new], dim=1) for old, new in zip(before, (k, v), strict=True))
    mixed = _attention(q, k, v, bias_B1TS).split([x.shape[1] for x in xs], dim=1)
    out = []
    for layer, x, (_, gate), part, condition in zip(layers, xs, normed, mixed, given, strict=True):
        x = _residual(x, layer.out(part), gate)
        seen, gate = layer.mlp_norm(x, condition)
        out.append(_residual(x, layer.mlp(seen), gate))
    return out, keys_values


def blocks(starts_BT: Tensor, there_BT: Tensor) -> Tensor:
    """Who may look at whom, bool (B, T, T). A token with `starts` begins a block; a token sees its own block and those
    before it, and only tokens that are there (openpi models/pi0.py:19-44, big_vision's make_attn_mask)."""
    block_BT = starts_BT.long().cumsum(1)
    there_BT = there_BT.bool()
    return (block_BT[:, None, :] <= block_BT[:, :, None]) & there_BT[:, None, :] & there_BT[:, :, None]


def positions(there_BT: Tensor) -> Tensor:
    """Counted over tokens that are there: what is absent takes no place."""
    return there_BT.long().cumsum(1) - 1


def precision(name: str, dtype: Dtype) -> torch.dtype:
    """Of one tensor of a model that computes in `dtype`: norms, the patch embedding and what touches actions stay in
    single precision, as openpi keeps them (gemma_pytorch.py:71-82)."""
    return torch.float32 if any(fnmatch.fnmatchcase(name, pattern) for pattern in SINGLE) else getattr(torch, dtype)


def set_precision(model: nn.Module, dtype: Dtype) -> None:
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(precision(name, dtype))


SINGLE = (
    "vision.patch.*",
    "vision.position",
    "language.*norm.*",
    "expert.*norm.*",
    "action_*",
    "time_*",
    "state_*",
)


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Every tensor, from this generator alone: projections keep the scale of what they get, norms and residual gates
    start neutral. For models that are trained from nothing; published ones are loaded."""
    for parameter in model.parameters():
        parameter.zero_()
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5, generator=generator)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5, generator=generator)
    for module in model.modules():
        if isinstance(module, Norm) and module.adaptive:
            nn.init.zeros_(module.modulation.weight)
            nn.init.ones_(module.modulation.bias.chunk(3)[2])  # a gate of 0 would hide the layer: openpi starts there


def _residual(x: Tensor, update: Tensor, gate: Tensor | None) -> Tensor:
    return x + update if gate is None else x + update * gate


def _rotation(positions_BT: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine (B, T, 1, H/2), single precision."""
    half = torch.arange(head_dim // 2, dtype=torch.float32, device=positions_BT.device)
    angle_BT1h = positions_BT[..., None, None].float() / LONGEST_WAVE ** (2 * half / head_dim)
    return angle_BT1h.sin(), angle_BT1h.cos()


def _rotate(x_BTNH: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """The first half of a head against its second half."""
    sine, cosine = rotation
    first, second = x_BTNH.float().chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(x_BTNH.dtype)


def _attention(q_BTNH: Tensor, k_BSKH: Tensor, v_BSKH: Tensor, bias_B1TS: Tensor) -> Tensor:
    """N / K neighbouring queries share a key. (B, T, N * H)."""
    q_BNTH, k_BKSH, v_BKSH = (x.transpose(1, 2) for x in (q_BTNH, k_BSKH, v_BSKH))
    share = q_BNTH.shape[1] // k_BKSH.shape[1]
    k_BNSH, v_BNSH = (x[:, :, None].expand(-1, -1, share, -1, -1).flatten(1, 2) for x in (k_BKSH, v_BKSH))
    mixed_BNTH = F.scaled_dot_product_attention(q_BNTH, k_BNSH, v_BNSH, attn_mask=bias_B1TS.to(q_BNTH.dtype))
    return mixed_BNTH.transpose(1, 2).flatten(2)
