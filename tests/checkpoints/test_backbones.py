"""Which model a set of tensors is: told by names and shapes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_vggt import OURS, QWEN2, small

from handeye.checkpoints.backbones import explain, stacks
from handeye.checkpoints.load import assign
from handeye.errors import UserError
from handeye.models.openvla import LLAMA
from handeye.models.openvla import language_model as llama
from handeye.models.vggt import VGGT_1B, Aggregator
from handeye.models.vggt_vla import QWEN2_05B, QWEN3_06B, LanguageConfig, qwen
from handeye.models.vit import DINO, SIGLIP, Towers


def shapes(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("config", [QWEN3_06B, QWEN2_05B])
def test_the_two_qwens(config: LanguageConfig) -> None:
    with torch.device("meta"):
        (stack,) = stacks(shapes(qwen(config)))
    assert stack.name.startswith(config.name) and stack.kind == config.kind
    assert (stack.width, stack.layers, stack.mlp, stack.vocabulary) == (
        config.width,
        config.layers,
        config.mlp,
        151_936,
    )
    assert stack.norms == (config.kind == "qwen3") != stack.biases


def test_published_models_by_name() -> None:
    with torch.device("meta"):
        found = [stack.name for model in (llama(LLAMA), Towers((DINO, SIGLIP)), Aggregator(VGGT_1B))
                 for stack in stacks(shapes(model))]  # fmt: skip
    assert found == ["Llama-2-7B", "DINOv2 ViT-L/14", "SigLIP-So400m/14", "DINOv2 ViT-L/14", "VGGT-1B", "VGGT-1B"]


def test_two_models_under_one_name_are_both_named() -> None:
    ours, theirs = small(), small(OURS, language=QWEN2)
    said = explain(shapes(ours), shapes(theirs))
    assert "is a Qwen2 of no published size in the file (12 wide, 2 layers" in said
    assert "a Qwen3 of no published size in the configuration (16 wide, 2 layers" in said
    assert explain(shapes(ours), shapes(ours)) == ""
    with pytest.raises(UserError, match="another backbone") as error:
        assign(ours, theirs.state_dict(), what="a file")
    assert "biases" in str(error.value) and "norms" in str(error.value)


def test_what_is_no_transformer_says_nothing(tmp_path: Path) -> None:
    assert stacks({"layers.0.weight": (3, 3), "blocks.0.attn.qkv.weight": (6, 2), "x": ()}) == []
