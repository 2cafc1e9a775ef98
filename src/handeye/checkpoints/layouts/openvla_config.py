"""config.json and preprocessor_config.json of a published OpenVLA checkpoint: sizes are taken from them, everything
else in them must be what our modules do. A field with another value is an error, not a surprise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from handeye.data.pipeline.published import DINO_MEAN, DINO_STD, HALF, SIZE
from handeye.errors import UserError
from handeye.models.openvla import PAD, LanguageConfig
from handeye.models.vit import DINO, SIGLIP, TowerConfig
from handeye.records import read_json

TOWERS: Mapping[str, TowerConfig] = {
    "vit_large_patch14_reg4_dinov2.lvd142m": DINO,
    "vit_so400m_patch14_siglip_224": SIGLIP,
}
"""timm's names. DINOv2 comes first in every published checkpoint."""

MLP_RATIO = {"vit_large_patch14_reg4_dinov2.lvd142m": 4.0, "vit_so400m_patch14_siglip_224": 3.7362}
"""timm vision_transformer.py: for widths that are not the published ones."""

EXPECTED: Mapping[str, Any] = {
    "use_fused_vision_backbone": True,
    "image_sizes": [SIZE, SIZE],
    "timm_model_ids": list(TOWERS),
    "timm_override_act_layers": [None, None],
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
    "n_action_bins": 256,
    "pad_token_id": PAD,
    "pad_to_multiple_of": 64,
    "output_projector_states": False,
}
"""What our modules are. A field that is absent had upstream's default, which is this one, but for the first three."""

NEEDED = ("use_fused_vision_backbone", "image_sizes", "timm_model_ids")

LANGUAGE: Mapping[str, str] = {
    "hidden_size": "width",
    "intermediate_size": "mlp",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_value_heads",
    "vocab_size": "vocabulary",
    "rms_norm_eps": "epsilon",
    "rope_theta": "rope_theta",
    "max_position_embeddings": "context",
}
"""A field of text_config -> ours. Absent ones are LlamaConfig's defaults, as published."""

LLAMA: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "pad_token_id": PAD,
}
"""Fields of text_config that must be so, if they are there."""


def sizes(raw: Mapping[str, Any], *, what: str) -> tuple[tuple[TowerConfig, ...], LanguageConfig]:
    wrong = [
        f"{name} is {raw.get(name)!r}, not {value!r}"
        for name, value in EXPECTED.items()
        if (name in raw or name in NEEDED) and raw.get(name) != value
    ]
    text = raw.get("text_config")
    if not isinstance(text, dict):
        wrong.append("text_config is missing")
        text = {}
    wrong += [f"text_config.{n} is {text[n]!r}, not {v!r}" for n, v in LLAMA.items() if n in text and text[n] != v]
    if wrong:
        raise UserError(
            f"{what} describes a model that is not OpenVLA-7B's kind.",
            why="; ".join(wrong),
            fix="use a checkpoint made from openvla-7b (its first version, openvla-v01, is another model)",
        )
    changes = raw.get("timm_model_kwargs") or [{}, {}]
    if not isinstance(changes, list) or len(changes) != 2 or not all(isinstance(each, dict) for each in changes):
        raise _unreadable(what, "timm_model_kwargs should be a list of two objects")
    towers = tuple(_tower(name, change, what) for name, change in zip(TOWERS, changes, strict=True))
    return towers, _language(text, what)


def _tower(name: str, change: Mapping[str, Any], what: str) -> TowerConfig:
    """The published tower, or a reduced one (`timm_model_kwargs`, which only reduced models have)."""
    if unknown := set(change) - {"embed_dim", "depth", "num_heads", "reg_tokens", "mlp_ratio", "patch_size"}:
        raise _unreadable(what, f"timm_model_kwargs has {', '.join(sorted(unknown))}")
    tower = TOWERS[name]
    width = _whole(change, "embed_dim", tower.width, what)
    ratio = change.get("mlp_ratio", MLP_RATIO[name])
    if type(ratio) not in (int, float) or not 0 < ratio < 64:
        raise _unreadable(what, f"mlp_ratio is {ratio!r}")
    registers = change.get("reg_tokens", max(tower.prefix - 1, 0))
    if type(registers) is not int or registers < 0 or (registers and not tower.prefix):
        raise _unreadable(what, f"reg_tokens is {registers!r}")
    depth, heads = _whole(change, "depth", tower.depth, what), _whole(change, "num_heads", tower.heads, what)
    if depth < 2 or width % heads:
        raise _unreadable(what, f"a tower of {depth} blocks, width {width}, {heads} heads")
    prefix = 1 + registers if tower.prefix else 0
    patch = _whole(change, "patch_size", tower.patch_size, what)
    if SIZE % patch:
        raise _unreadable(what, f"patches of {patch} pixels do not fill {SIZE}")
    return replace(
        tower, width=width, depth=depth, heads=heads, mlp=int(width * ratio), prefix=prefix, patch_size=patch
    )


def _language(text: Mapping[str, Any], what: str) -> LanguageConfig:
    given: dict[str, Any] = {ours: text[theirs] for theirs, ours in LANGUAGE.items() if theirs in text}
    for name, value in given.items():
        good = type(value) in (int, float) if name in ("epsilon", "rope_theta") else type(value) is int
        if not good or not 0 < value < math.inf:
            raise _unreadable(what, f"text_config: {name} is {value!r}")
    # LlamaConfig: as many heads for keys as for queries unless it says otherwise.
    if "heads" in given and "key_value_heads" not in given:
        given["key_value_heads"] = given["heads"]
    given |= {name: float(given[name]) for name in ("epsilon", "rope_theta") if name in given}
    return replace(LanguageConfig(), **given)


def check_preprocessor(path: Path) -> None:
    """Its numbers are those of our pipeline. The file may be absent: they are the same in every checkpoint."""
    if not path.is_file():
        return
    value = read_json(path, what="a preprocessor's configuration")
    expected = {
        "input_sizes": [[3, SIZE, SIZE]] * 2,
        "means": [list(DINO_MEAN), list(HALF)],
        "stds": [list(DINO_STD), list(HALF)],
        "image_resize_strategy": "resize-naive",
    }
    value = value if isinstance(value, dict) else {}
    if wrong := [f"{name} is {value.get(name)!r}, not {e!r}" for name, e in expected.items() if value.get(name) != e]:
        raise UserError(
            f"{path} prepares images in another way than OpenVLA-7B's.",
            why="; ".join(wrong),
            fix="use a checkpoint made from openvla-7b",
        )


def _whole(change: Mapping[str, Any], name: str, default: int, what: str) -> int:
    value = change.get(name, default)
    if type(value) is not int or value < 1:
        raise _unreadable(what, f"{name} is {value!r}")
    return value


def _unreadable(what: str, why: str) -> UserError:
    return UserError(f"{what} cannot be read.", why=why, fix="download the checkpoint again")
