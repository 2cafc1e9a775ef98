"""LoRA in openpi's JAX trees, added into the weights that it adapts.

A checkpoint of a `*_low_mem_finetune` configuration holds the frozen weights and two factors beside each product of
attention and feed-forward (openpi models/lora.py, keys at true size in its shape-only initialisation):

    llm/layers/attn/q_einsum/w      .../lora_a  .../lora_b     likewise kv_einsum and attn_vec_einsum
    llm/layers/mlp/gating_einsum    ..._lora_a  ..._lora_b     likewise linear

`lora_a` has the weight's shape with the rank as its last axis, `lora_b` with the rank as the one before. A product of
queries, keys, values or feed-forward adds `x A B` to `x w`, each head and each of keys, values, gate and up by its own
factors. The output of attention does not: its equation, BTNH,NHD->BTD, sums over the heads N, and so does each of the
two equations that openpi derives from it (BTNH,NHL->BTL and BTL,NLD->BTD). All heads write to one narrow axis L, and
what is read from it passes through the sum of all heads' `lora_b`:

    w[n] + A[n] B[n]              queries, keys, values, gate, up, down
    w[n] + A[n] (B[0] + B[1] ...) output of attention
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from handeye.checkpoints.layouts.openpi_names import VLM, of_expert
from handeye.checkpoints.load import check_keys
from handeye.console import say

RANKS = {"": 16, "_1": 32}
"""Of gemma_2b_lora and gemma_300m_lora, by what marks the stack in a tree (openpi models/gemma.py). Neither is
rank-stabilised, and alpha is the rank in both, so their factors count once: alpha / rank = 1. No checkpoint says its
alpha, so another rank is refused."""

OUTPUT = "attn_vec_einsum"
ADAPTED = ("attn/q_einsum{}/w", "attn/kv_einsum{}/w", f"attn/{OUTPUT}{{}}/w", "mlp{}/gating_einsum", "mlp{}/linear")
"""Both variants adapt all of them."""


def fold(tree: dict[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """The tree as the same model has it without LoRA; the one that was given where there is none. Added in float32, and
    left so: a bfloat16 weight, as openpi freezes them, is too coarse for what was learned. Arrays leave `tree`."""
    factors = {key: array for key, array in tree.items() if "lora_" in key}
    if not factors:
        return tree
    prefix = VLM if any(key.startswith(VLM) for key in tree) else ""
    stacks = [mark for mark in RANKS if any(of_expert(key) == bool(mark) for key in factors)]
    weights = {
        key: RANKS[mark]
        for mark in stacks
        for name in ADAPTED
        if (key := f"{prefix}llm/layers/{name.format(mark)}") in tree
    }
    check_keys(
        {name: str(shape) for key, rank in weights.items() for name, shape in _shapes(key, tree[key], rank).items()},
        {key: str(list(array.shape)) for key, array in factors.items()},
        what=f"the LoRA in {what}",
        or_else=f"only openpi's own ranks are known ({RANKS['']}, {RANKS['_1']} in the action expert): merge another "
        "one with the program that trained it",
    )
    for key in factors:
        del tree[key]
    for key in weights:
        tree[key] = _added(tree.pop(key), *(factors.pop(name) for name in _names(key)), output=OUTPUT in key)
    ranks = " and ".join(f"{RANKS[mark]} in {'the action expert' if mark else 'PaliGemma'}" for mark in stacks)
    say(
        f"{what} holds a LoRA of rank {ranks}: added into {len(weights)} arrays, in float32, with alpha / rank = 1, as "
        "openpi's gemma_2b_lora and gemma_300m_lora have it; the file does not say its alpha"
    )
    return tree


def _names(key: str) -> tuple[str, str]:
    """Of a weight's two factors."""
    stem = f"{key.removesuffix('w')}" if key.endswith("/w") else f"{key}_"
    return f"{stem}lora_a", f"{stem}lora_b"


def _shapes(key: str, weight: Tensor, rank: int) -> Mapping[str, list[int]]:
    *batch, into, out = weight.shape
    return dict(zip(_names(key), ([*batch, into, rank], [*batch, rank, out]), strict=True))


def _added(weight: Tensor, a: Tensor, b: Tensor, *, output: bool) -> Tensor:
    """Layer by layer (the first axis), since at true size all layers of one weight take 5 GB."""
    result = weight.to(torch.float32, copy=True)
    for layer, one, two in zip(result, a.float(), b.float(), strict=True):
        layer += one @ (two.sum(0) if output else two)
    return result
