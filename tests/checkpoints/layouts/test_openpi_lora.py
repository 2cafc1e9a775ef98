"""openpi's LoRA added into its weights: the same products as with the factors beside them, by openpi's equations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_pi05 import policy
from torch import Tensor

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.npz import write_npz
from handeye.checkpoints.trees import read_tree
from handeye.errors import UserError

LLM = "PaliGemma/llm/layers"
EQUATIONS = {"q_einsum": "BTD,NDH->BTNH", "kv_einsum": "BSD,CKDH->CBSKH", "attn_vec_einsum": "BTNH,NHD->BTD"}
"""Of attention (openpi models/gemma.py); `C`: keys and values, which is a 2 there."""


def weights(mark: str) -> dict[str, tuple[str, str]]:
    """Weight -> its factors."""
    attention = [f"{LLM}/attn/{name}{mark}" for name in EQUATIONS]
    products = [f"{LLM}/mlp{mark}/{name}" for name in ("gating_einsum", "linear")]
    return {f"{key}/w": (f"{key}/lora_a", f"{key}/lora_b") for key in attention} | {
        key: (f"{key}_lora_a", f"{key}_lora_b") for key in products
    }


def with_lora(*, ranks: dict[str, int]) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(4)
    model = policy()
    tree = names.to_tree({name: x.detach() for name, x in model.named_parameters()}, model.config)
    for mark, rank in ranks.items():
        for key, (a, b) in weights(mark).items():
            *batch, into, out = tree[key].shape
            tree[a] = torch.randn([*batch, into, rank], generator=random) * 0.3
            tree[b] = torch.randn([*batch, rank, out], generator=random) * 0.3
    return tree


def derived(equation: str) -> tuple[str, str]:
    """The two that openpi makes of one (models/lora.py): the weight's last axis, then the one before, becomes L."""
    given, result = equation.split("->")
    left, right = given.split(",")
    into, out = right[-2], right[-1]
    narrow = result.replace(out, "L")
    return f"{left},{right.replace(out, 'L')}->{narrow}", f"{narrow},{right.replace(into, 'L')}->{result}"


def beside(key: str, x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """One layer's product as openpi computes it; feed-forward has neither an equation nor a scale."""
    if "/mlp" in key:
        return x @ w + x @ a @ b
    equation = EQUATIONS[key.split("/")[-2].removesuffix("_1")]
    narrow, wide = derived(equation)
    return torch.einsum(equation, x, w) + torch.einsum(wide, torch.einsum(narrow, x, a), b)


def folded(key: str, x: Tensor, w: Tensor) -> Tensor:
    return x @ w if "/mlp" in key else torch.einsum(EQUATIONS[key.split("/")[-2].removesuffix("_1")], x, w)


@pytest.mark.parametrize("marks", [("", "_1"), ("",), ("_1",)])
def test_the_same_products(marks: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both stacks, or one alone as where the other was trained whole; what has no factors stays as it is."""
    tree = with_lora(ranks={mark: {"": 16, "_1": 32}[mark] for mark in marks})
    write_npz(tmp_path / "lora.npz", tree)
    found = read_tree(tmp_path / "lora.npz")
    adapted = {key: pair for mark in marks for key, pair in weights(mark).items()}
    assert found.keys() == {key for key in tree if "lora" not in key}
    assert all(torch.equal(found[key], tree[key]) for key in found.keys() - adapted.keys())
    random = torch.Generator().manual_seed(9)
    for key, (a, b) in adapted.items():
        for layer in range(2):
            w, one, two = (tree[name][layer] for name in (key, a, b))
            shape = (2, 3, *w.shape[:2]) if "attn_vec" in key else (2, 3, w.shape[-2])
            x = torch.randn(shape, generator=random)
            with_factors = beside(key, x, w, one, two)
            torch.testing.assert_close(folded(key, x, found[key][layer]), with_factors, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(folded(key, x, w), with_factors, atol=0.1)
    said = " ".join(capsys.readouterr().out.split())
    assert f"added into {len(adapted)} arrays" in said and "alpha / rank = 1" in said
    assert ("rank 16 in PaliGemma" in said, "32 in the action expert" in said) == ("" in marks, "_1" in marks)


def test_frozen_weights_are_too_coarse_for_the_sum(tmp_path: Path) -> None:
    """openpi stores what is frozen in bfloat16."""
    tree = with_lora(ranks={"": 16})
    key = f"{LLM}/mlp/linear"
    tree[key] = tree[key].bfloat16()
    write_npz(tmp_path / "lora.npz", tree)
    wanted = tree[key].float() + tree[f"{key}_lora_a"] @ tree[f"{key}_lora_b"]
    torch.testing.assert_close(read_tree(tmp_path / "lora.npz")[key], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.pop(f"{LLM}/attn/q_einsum_1/lora_b"), "missing: .*q_einsum_1/lora_b"),
        (lambda t: t.update({f"{LLM}/attn/q_norm/lora_a": torch.ones(1)}), "unexpected: .*q_norm/lora_a"),
        (lambda t: t.update({f"{LLM}/mlp/linear_lora_a": torch.ones(2, 24, 8)}), r"linear_lora_a is \[2, 24, 8\], not"),
        (lambda t: t.pop(f"{LLM}/mlp/linear"), "unexpected: .*linear_lora_a"),
    ],
)
def test_what_does_not_fit(change, why: str, tmp_path: Path) -> None:
    tree = with_lora(ranks={"": 16, "_1": 32})
    change(tree)
    write_npz(tmp_path / "lora.npz", tree)
    with pytest.raises(UserError, match=why):
        read_tree(tmp_path / "lora.npz")


def test_another_rank_is_refused(tmp_path: Path) -> None:
    """Its alpha is nowhere in the file."""
    write_npz(tmp_path / "lora.npz", with_lora(ranks={"": 8}))
    with pytest.raises(UserError, match=r"not .*16") as error:
        read_tree(tmp_path / "lora.npz")
    assert "only openpi's own ranks are known (16, 32 in the action expert)" in error.value.fix
