"""Models of `vggt_vla` so small that a test takes no time, their batches, and a checkpoint as AtlasVLA saves it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from handeye.models.vggt import AggregatorConfig
from handeye.models.vggt_vla import Config, LanguageConfig, Model

QWEN3 = LanguageConfig(
    name="small", kind="qwen3", width=16, layers=2, heads=2, key_value_heads=1, head_width=8, mlp=24, vocabulary=64
)
QWEN2 = LanguageConfig(
    name="small", kind="qwen2", width=12, layers=2, heads=2, key_value_heads=1, head_width=6, mlp=24, vocabulary=64
)
VGGT = AggregatorConfig(width=16, depth=2, heads=2, patch_size=14, image_size=28, vision_depth=1, vision_heads=2)
OURS: dict[str, Any] = {
    "image_size": 28, "chunk": 4, "prompt_length": 8, "width": 16, "aggregator": VGGT, "language": QWEN3,
    "decoder_layers": 1, "decoder_heads": 2,
}  # fmt: skip
REFERENCE: dict[str, Any] = {
    **OURS, "form": "reference", "image_size": 32, "width": 24, "head_width": 20, "queries": 16,
    "aggregator": AggregatorConfig(width=16, depth=2, heads=2, embedding="none"),
}  # fmt: skip


def small(settings: dict[str, Any] = OURS, **changes: Any) -> Model:
    model = Model(Config(**{**settings, **changes}))
    model.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():  # answers that differ by more than rounding
        for name, parameter in model.named_parameters():
            if "norm" not in name and parameter.ndim > 1:
                parameter.mul_(8)
    return model.eval()


def batch(model: Model, lengths: tuple[int, ...] = (3, 8, 5)) -> dict[str, Tensor]:
    config, random, B = model.config, torch.Generator().manual_seed(1), len(lengths)
    size, L, T = config.image_size, config.prompt_length, config.chunk
    there_BL = torch.arange(L) < torch.tensor(lengths)[:, None]
    actions_BTA = torch.rand((B, T, config.action_width), generator=random) * 2 - 1
    actions_BTA[..., -1] = actions_BTA[..., -1].sign()
    return {
        **{f"image.{n}": torch.rand((B, size, size, 3), generator=random) for n in config.cameras},
        "prompt": torch.randint(1, 64, (B, L), generator=random).masked_fill(~there_BL, 0),
        "prompt_mask": there_BL,
        "proprio": torch.randn((B, config.proprio_width), generator=random),
        "actions": actions_BTA,
        "valid": torch.ones((B, T), dtype=torch.bool),
    }


def rows(of: dict[str, Tensor], which: slice) -> dict[str, Tensor]:
    return {name: value[which] for name, value in of.items()}


@contextmanager
def foreign_module() -> Iterator[dict[str, type]]:
    """`configs.model_config`, only as long as something is pickled: who reads it must do without."""
    names = ("ModelConfig", "VisionConfig", "LanguageConfig", "VGGTConfig", "ActionHeadConfig")
    package, module = ModuleType("configs"), ModuleType("configs.model_config")
    classes = {name: type(name, (), {"__module__": "configs.model_config"}) for name in names}
    for name, kind in classes.items():
        setattr(module, name, kind)
    sys.modules |= {"configs": package, "configs.model_config": module}
    try:
        yield classes
    finally:
        del sys.modules["configs"], sys.modules["configs.model_config"]


def save_as_atlas(path: Path, model: Model, *, named: str = "Qwen/Qwen3-0.6B-Base", **changes: Any) -> Path:
    """As its trainer does. `changes`: other entries; those named like a part of its configuration are fields of it."""
    fields: dict[str, dict[str, Any]] = {
        "vision": {"use_vision_tower": False, "vision_tower_name": "facebook/dinov2-base"},
        "language": {"model_name": named, "use_lora": False},
        "vggt": {"use_pretrained_vggt": True},
        "action_head": {"action_dim": 7, "dropout": 0.1, "use_spatial_features": False},
    }
    state = dict(model.state_dict())
    state["action_head.action_mean"] = torch.linspace(-0.1, 0.1, 7)
    state["action_head.action_std"] = torch.linspace(0.2, 0.4, 7)
    state["vggt_backbone.vggt.aggregator.camera_token"] = torch.zeros(1, 2, 1, 16)
    state["vggt_backbone.vggt.camera_head.token_norm.weight"] = torch.zeros(32)
    with foreign_module() as classes:
        parts = {}
        kinds = {"vision": "Vision", "language": "Language", "vggt": "VGGT", "action_head": "ActionHead"}
        for name, values in fields.items():
            parts[name] = classes[f"{kinds[name]}Config"]()
            vars(parts[name]).update(values | changes.pop(name, {}))
        config = classes["ModelConfig"]()
        vars(config).update(parts)
        torch.save(
            {"model_state_dict": state | changes.pop("state", {}), "config": config, "global_step": 7} | changes, path
        )
    return path
