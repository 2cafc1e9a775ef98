"""flash-attn's two functions in plain torch, put where transformers looks for them. So the way that a model goes into
its kernels (lengths of rows instead of a mask, one token after the other, the cache) runs without a GPU."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F


def _attend(q_THD: Tensor, k_SHD: Tensor, v_SHD: Tensor, *, causal: bool, scale: float | None) -> Tensor:
    """One row. The queries are the last T of S."""
    T, S = len(q_THD), len(k_SHD)
    may_TS = torch.ones(T, S, dtype=torch.bool)
    q, k, v = (x.transpose(0, 1)[None] for x in (q_THD, k_SHD, v_SHD))
    mask = may_TS.tril(S - T) if causal else may_TS
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)[0].transpose(0, 1)


def flash_attn_func(
    q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False
) -> Tensor:
    return torch.stack([_attend(*row, causal=causal, scale=softmax_scale) for row in zip(q, k, v, strict=True)])


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
) -> Tensor:
    q_ends, k_ends = cu_seqlens_q.tolist(), cu_seqlens_k.tolist()
    assert max(b - a for a, b in pairwise(q_ends)) == max_seqlen_q
    assert max(b - a for a, b in pairwise(k_ends)) == max_seqlen_k
    rows = [
        _attend(q[a:b], k[c:d], v[c:d], causal=causal, scale=softmax_scale)
        for (a, b), (c, d) in zip(pairwise(q_ends), pairwise(k_ends), strict=True)
    ]
    return torch.cat(rows)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the rest of the test transformers takes `flash_attention_2`, on a CPU too."""
    from transformers import LlamaForCausalLM, LlamaModel
    from transformers import modeling_flash_attention_utils as utils

    functions = (flash_attn_func, flash_attn_varlen_func, None, utils._pad_input, utils._unpad_input)
    monkeypatch.setattr(utils, "_lazy_imports", lambda *_, **__: functions)
    monkeypatch.setattr(utils, "_loaded_implementation", None)
    for each in (LlamaForCausalLM, LlamaModel):
        monkeypatch.setattr(each, "_flash_attn_can_dispatch", lambda self, **_: True)
