"""Training configurations of every family with models of a few thousand weights, besides the table of words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_openvla import SMALL
from small_pi05 import EXPERT, LANGUAGE
from small_vggt import OURS, QWEN3

from handeye.models.openvla import LanguageConfig
from handeye.models.siglip import SiglipConfig
from handeye.models.vit import DINO, SIGLIP
from handeye.train.config import OptimizerConfig
from handeye.train.families import openpi, openvla, vggt_vla
from handeye.train.families.config import OftConfig, OpenpiConfig, OpenvlaConfig, PretrainedConfig, VggtConfig

QWEN3_BYTES = replace(QWEN3, vocabulary=512)
PATCHES = {"image_size": 224, "patch_size": 56}


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """The small models, for the length of a test."""
    towers = (replace(DINO, **{**SMALL, **PATCHES}), replace(SIGLIP, **{**SMALL, **PATCHES}))
    language = LanguageConfig(width=16, mlp=24, layers=2, heads=2, key_value_heads=2)
    monkeypatch.setattr(openvla, "SMALL", {"towers": towers, "language": language})
    vision = SiglipConfig(patch=56, width=8, depth=2, mlp=12, heads=2)
    sizes = {"vision": vision, "language": LANGUAGE, "expert": EXPERT, "vocabulary": 512}
    monkeypatch.setattr(openpi, "SMALL", sizes)
    monkeypatch.setattr(
        vggt_vla,
        "SMALL",
        {**{n: v for n, v in OURS.items() if n != "chunk"}, "prompt_length": 77, "language": QWEN3_BYTES},
    )


def made(kind: type[PretrainedConfig], data: Path, out: Path, /, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        **{"data": data, "out": out, "sizes": "small", "steps": 4, "batch": 4, "held_out": 0.34, "threads": 1},
        **{"save_every": 2, "validate_every": 4, "validation_examples": 4, "log_every": 1, "augment": False},
        "optimizer": OptimizerConfig(learning_rate=1e-2, warmup=1),
    }
    if kind is OpenvlaConfig:
        settings["chunk"] = 1
    if kind in (OpenvlaConfig, OftConfig):
        settings["stored_as"] = "raw"
    return kind(**{**settings, **changes})


KINDS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "openvla": (OpenvlaConfig, {}),
    "l1": (OftConfig, {}),
    "diffusion": (OftConfig, {"head": "diffusion"}),
    "tokens": (OftConfig, {"head": "tokens", "proprio": False}),
    "film": (OftConfig, {"film": True, "cameras": ("agentview",)}),
    "pi0": (OpenpiConfig, {"kind": "pi0", "chunk": 3}),
    "pi05": (OpenpiConfig, {"chunk": 3, "state_in_prompt": True}),
    "vggt": (VggtConfig, {}),
}
