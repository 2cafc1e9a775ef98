"""Who may look at whom, what takes a position, and what stays in single precision."""

from __future__ import annotations

import torch
from small_pi05 import policy

from handeye.models.gemma import Norm, attend, blocks, positions


def test_blocks() -> None:
    """Three of the prefix, the state, two actions; the second token is not there."""
    starts = torch.tensor([[False, False, False, True, True, False]])
    there = torch.tensor([[True, False, True, True, True, True]])
    visible = blocks(starts, there)[0].int().tolist()
    assert visible == [
        [1, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 0, 1, 1, 0, 0],
        [1, 0, 1, 1, 1, 1],
        [1, 0, 1, 1, 1, 1],
    ]
    assert positions(there).tolist() == [[0, 0, 1, 2, 3, 4]]


def test_a_stack_of_its_own_gives_what_it_gives_beside_another() -> None:
    """The prefix sees nothing of the suffix."""
    model = policy()
    read, acted = torch.randn(1, 4, 16), torch.randn(1, 3, 12)
    there = torch.ones(1, 7, dtype=torch.bool)
    starts = torch.tensor([[False] * 4 + [True, False, False]])
    condition = torch.randn(1, 12)
    (beside, _), _ = attend(
        (model.language, model.expert),
        (read, acted),
        positions_BT=positions(there),
        visible_BTS=blocks(starts, there),
        conditions=(None, condition),
    )
    (alone,), _ = attend(
        (model.language,),
        (read,),
        positions_BT=positions(there[:, :4]),
        visible_BTS=blocks(starts[:, :4], there[:, :4]),
    )
    torch.testing.assert_close(beside, alone, atol=1e-6, rtol=1e-5)


def test_an_adaptive_norm() -> None:
    norm = Norm(4, adaptive=True)
    with torch.no_grad():
        norm.modulation.weight.zero_()
        norm.modulation.bias.copy_(torch.tensor([1.0] * 4 + [0.5] * 4 + [-2.0] * 4))
    normed, gate = norm(torch.tensor([[[2.0, -2.0, 2.0, -2.0]]]), torch.zeros(1, 4))
    torch.testing.assert_close(normed, torch.tensor([[[2.5, -1.5, 2.5, -1.5]]]), atol=1e-5, rtol=0)
    assert gate is not None and gate.tolist() == [[[-2.0] * 4]]


def test_precision() -> None:
    kinds = {name: p.dtype for name, p in policy(dtype="bfloat16").named_parameters()}
    single = {name for name, kind in kinds.items() if kind == torch.float32}
    assert "vision.patch.weight" in single and "vision.position" in single and "action_out_proj.bias" in single
    assert "language.layers.0.attention_norm.scale" in single
    assert "expert.layers.1.mlp_norm.modulation.weight" in single and "expert.norm.modulation.bias" in single
    assert kinds["vision.layers.0.norm1.weight"] == kinds["language.embedding.weight"] == torch.bfloat16
    assert set(kinds.values()) == {torch.float32, torch.bfloat16}
