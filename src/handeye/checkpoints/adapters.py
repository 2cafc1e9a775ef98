"""LoRA adapters as `peft` saves them, read and merged without it (`adapter_config.json`, `adapter_model.safetensors`).

An adapter adds `scale * B @ A` to a weight (Hu et al. 2021), with ranks and scales that may differ from module to
module. Only that plain kind is read; every other is refused, since a merge that leaves something out gives weights that
look right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from handeye.checkpoints.files import read_tensors
from handeye.errors import UserError
from handeye.records import read_json

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
PLAIN = {
    "bias": "none",
    "use_dora": None,
    "fan_in_fan_out": None,
    "modules_to_save": None,
    "layer_replication": None,
}
"""Settings under which an adapter is `scale * B @ A` and nothing else (None: false, empty or absent)."""


@dataclass(frozen=True)
class Adapter:
    """By module: `vision_backbone.featurizer.blocks.0.attn.qkv`."""

    scale: Mapping[str, float]

    down: Mapping[str, Tensor]
    """A: (r, in), or a convolution's (r, in, kh, kw)."""

    up: Mapping[str, Tensor]
    """B: (out, r), or (out, r, 1, 1)."""


def read_adapter(folder: Path) -> Adapter:
    config = read_json(folder / CONFIG, what="a LoRA adapter's configuration")
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise _unusable(folder, f"{CONFIG} is none of a LoRA adapter")
    if other := [name for name, value in PLAIN.items() if (config.get(name) or value) != value]:
        raise _unusable(folder, f"it was trained with {other[0]} = {config[other[0]]!r}, which is not read")
    ranks = _by_module(folder, config, "r", "rank_pattern")
    alphas = _by_module(folder, config, "lora_alpha", "alpha_pattern")

    def scale(module: str) -> float:
        return alphas(module) / (ranks(module) ** 0.5 if config.get("use_rslora") else ranks(module))

    tensors = read_tensors([folder / WEIGHTS])
    # With lm_head among its targets, peft 0.11 adds a frozen copy of the base's; it is no part of the adapter.
    copies = [name for name in tensors if name.endswith(".base_layer.weight")]
    adapter = adapter_of(
        {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name not in copies},
        scale,
        what=str(folder),
    )
    for module, down in adapter.down.items():
        if len(down) != ranks(module):
            raise _unusable(folder, f"{CONFIG} gives {module} rank {ranks(module):g}, and its A has {len(down)}")
    return adapter


def _by_module(folder: Path, config: Mapping[str, Any], name: str, pattern: str) -> Callable[[str], float]:
    """A module's own number, or that of all. Its own is named as in peft: by the whole name or, without a `^` in front,
    its last parts; the first that fits counts. Other regular expressions are refused."""
    patterns = config.get(pattern) or {}
    if not isinstance(patterns, dict):
        raise _unusable(folder, f"its {pattern} is {patterns!r}")
    own = {re.sub(r"\\(.)", r"\1", key): value for key, value in patterns.items()}
    if strange := [key for key in own if not re.fullmatch(r"\^?[\w.]+", key)]:
        raise _unusable(folder, f"its {pattern} has {strange[0]!r}, which is no name of a module")
    if wrong := [v for v in (config.get(name), *own.values()) if type(v) not in (int, float) or v <= 0]:
        raise _unusable(folder, f"its {name} is {wrong[0]!r}")

    def number(module: str) -> float:
        fitting = (v for key, v in own.items() if f"^{module}" == key or f".{module}".endswith(f".{key}"))
        return float(next(fitting, config[name]))

    return number


def adapter_of(tensors: Mapping[str, Tensor], scale: float | Callable[[str], float], *, what: str) -> Adapter:
    """From `MODULE.lora_A.weight`, `MODULE.lora_B.weight`, with or without the adapter's name (`.default`). `scale`: of
    all modules, or of each."""
    sides: dict[str, dict[str, Tensor]] = {"lora_A": {}, "lora_B": {}}
    strange = []
    for name, tensor in tensors.items():
        module, _, rest = name.partition(".lora_")
        side, *middle = f"lora_{rest}".split(".")
        if side in sides and middle in (["weight"], ["default", "weight"]):
            sides[side][module] = tensor
        else:
            strange.append(name)
    strange += sorted(sides["lora_A"].keys() ^ sides["lora_B"].keys())
    if strange or not sides["lora_A"]:
        why = f"not half of a pair lora_A, lora_B: {', '.join(strange)}" if strange else "it holds no lora_A"
        raise UserError(f"The adapter {what} cannot be used.", why=why, fix="copy it again, or train again")
    scales = {module: scale(module) if callable(scale) else scale for module in sides["lora_A"]}
    return Adapter(scales, sides["lora_A"], sides["lora_B"])


def merged(weights: Mapping[str, Tensor], adapter: Adapter, *, what: str) -> dict[str, Tensor]:
    """`weights` with the adapter added: computed in single precision and rounded once, to the weight's own type."""
    absent = [module for module in adapter.down if f"{module}.weight" not in weights]
    if absent:
        raise UserError(
            f"The adapter {what} does not belong to these weights.",
            why=f"they have no {', '.join(absent)}",
            fix="give the checkpoint that it was trained on",
        )
    changed = {}
    for module, down in adapter.down.items():
        weight, up = weights[f"{module}.weight"], adapter.up[module]
        if up.shape[1] != down.shape[0] or up.shape[0] != weight.shape[0] or down.shape[1:] != weight.shape[1:]:
            raise UserError(
                f"The adapter {what} does not fit these weights.",
                why=f"{module}: B {list(up.shape)} x A {list(down.shape)} for a weight {list(weight.shape)}",
                fix="give the checkpoint that it was trained on",
            )
        changed[f"{module}.weight"] = (weight.float() + change(down, up, adapter.scale[module])).to(weight.dtype)
    return {**weights, **changed}


def change(down: Tensor, up: Tensor, scale: float) -> Tensor:
    """What an adapter adds to one weight, in the weight's shape, float32. Differentiable."""
    return scale * (up.float().flatten(1) @ down.float().flatten(1)).view(up.shape[0], *down.shape[1:])


def _unusable(folder: Path, why: str) -> UserError:
    return UserError(f"The adapter {folder} cannot be used.", why=why, fix="merge it with the program that trained it")
