"""PaliGemma out of pi0.5 and back under it, array by array as openpi's own functions do it in the right order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from handeye.checkpoints.layouts import openpi_names
from handeye.checkpoints.merge_vlm import merge, vlm_of
from handeye.checkpoints.reading_half import read_policy
from handeye.checkpoints.trees import read_tree
from handeye.errors import UserError

pytestmark = pytest.mark.goldens
EXPECTED = [
    "bf16_plus_bf16_to_bf16", "bf16_plus_f32_to_bf16", "bf16_plus_f32_to_f32", "bf16_plus_mixed_to_f32",
    "f32_plus_bf16", "f32_plus_f32", "f32_plus_large_values", "f32_plus_mixed",
]  # fmt: skip
REASONS = {
    "bad_missing_key.npz": "missing: img/Transformer/encoderblock/LayerNorm_1/scale",
    "bad_shape.npz": "llm/layers/attn/q_einsum/w is [2, 16, 4, 4], not [2, 4, 16, 4]",
    "bad_prefix.npz": "has keys under PaliGemma/",
    "bad_same_as_base.npz": "nothing was tuned",
    "bad_nan.npz": "img/head/bias (NaN",
    "bad_unknown_key.npz": "unexpected: llm/layers/attn/q_norm/scale",
    "tuned_f16_overflowed.npz": "llm/layers/mlp/linear (infinite, float16)",
}


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    return goldens / "pi05" / "merge"


def digest(array: Tensor) -> str:
    return hashlib.sha256(array.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


def same(array: Tensor, told: dict) -> None:
    assert str(array.dtype) == f"torch.{told['dtype']}"
    assert list(array.shape) == told["shape"]
    assert digest(array) == told["sha256"]


def test_every_expected_merge_is_tried(folder: Path) -> None:
    found = {path.stem for path in (folder / "expected").glob("*.json")}
    assert found == {*EXPECTED, "extract_from_bf16", "extract_from_f32"}
    assert set(json.loads((folder / "cases.json").read_text())["must_be_refused"]) == set(REASONS)


@pytest.mark.parametrize("name", EXPECTED)
def test_merges(name: str, folder: Path, record_property: Callable[[str, object], None]) -> None:
    told = json.loads((folder / "expected" / f"{name}.json").read_text())
    base, tuned = (read_tree(folder / f"{told[side]}.npz") for side in ("base", "tuned"))
    before = {key: digest(array) for key, array in base.items()}
    merged = merge(base, tuned, dtype=told["output_dtype"])
    assert set(merged.tree) == set(told["arrays"])
    for key, array in merged.tree.items():
        same(array, told["arrays"][key])
        assert merged.origin[key] == told["arrays"][key]["from"]
    assert {key: digest(array) for key, array in base.items()} == before
    assert bool(merged.left_out) == ("mixed" in name)
    record_property("merged arrays", len(merged.tree))


def test_which_keys_are_whose(folder: Path) -> None:
    cases = json.loads((folder / "cases.json").read_text())
    base = read_tree(folder / "base_f32.npz")
    expert = {key for key in base if openpi_names.of_expert(key)}
    assert expert == set(cases["expert_keys_from_base"])
    assert not expert & set(cases["look_like_expert_but_are_siglip"])
    assert {f"PaliGemma/{key}" for key in vlm_of(base, what="base")} == set(cases["vlm_keys"])


@pytest.mark.parametrize("kind", ["f32", "bf16"])
@pytest.mark.parametrize("layout", ["npz", "orbax"])
def test_extraction(kind: str, layout: str, folder: Path, record_property: Callable[[str, object], None]) -> None:
    if layout == "orbax":
        pytest.importorskip("tensorstore", reason="needs the extra `orbax`")
    told = json.loads((folder / "expected" / f"extract_from_{kind}.json").read_text())["arrays"]
    path = folder / (f"base_{kind}.npz" if layout == "npz" else f"base_{kind}_checkpoint")
    found = {f"params/{key}": array for key, array in vlm_of(read_tree(path), what=path.name).items()}
    assert set(found) == set(told)
    for key, array in found.items():
        same(array, told[key])
    record_property("extracted arrays", len(found))


def test_extraction_from_pytorchs_layout(folder: Path, record_property: Callable[[str, object], None]) -> None:
    """What openpi's converter made of a checkpoint, taken apart: that checkpoint's own arrays."""
    tiny = folder.parent / "pi05_tiny"
    wanted = vlm_of(read_tree(tiny / "params.npz"), what="params.npz")
    found = vlm_of(read_policy(tiny, {"heads": "8", "vision_heads": "3"}).tree, what="pi05_tiny")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    record_property("extracted arrays", len(found))


@pytest.mark.parametrize("name", REASONS)
def test_refused(name: str, folder: Path) -> None:
    base, tuned = read_tree(folder / "base_f32.npz"), read_tree(folder / name)
    with pytest.raises(UserError) as error:
        merge(base, tuned)
    assert REASONS[name] in str(error.value)


def test_base_and_tuned_the_wrong_way_round(folder: Path) -> None:
    base, tuned = read_tree(folder / "base_f32.npz"), read_tree(folder / "tuned_f32.npz")
    with pytest.raises(UserError, match="is not pi0"):
        merge(tuned, base)
    with pytest.raises(UserError, match="keys under PaliGemma/"):
        merge(base, base)


def test_a_base_without_its_expert(folder: Path) -> None:
    base, tuned = read_tree(folder / "base_f32.npz"), read_tree(folder / "tuned_f32.npz")
    del base["PaliGemma/llm/layers/mlp_1/linear"]
    with pytest.raises(UserError, match="mlp_1/linear"):
        merge(base, tuned)
