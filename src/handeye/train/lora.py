"""Low-rank adapters (Hu et al. 2021) beside frozen weights, by `peft`; merged into a checkpoint without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from handeye.checkpoints.adapters import CONFIG, PREFIX, WEIGHTS, adapter_of, merged
from handeye.checkpoints.save import whole_folder, write_tensors
from handeye.errors import UserError
from handeye.records import write_json
from handeye.train.config import TrainConfig

NAME = "default"
"""peft's name of the adapter; part of its tensors' names."""


def alpha(config: TrainConfig) -> int:
    return min(config.lora_rank, 16) if config.lora_alpha is None else config.lora_alpha


def chosen(model: nn.Module, targets: Sequence[str], config: TrainConfig) -> list[str]:
    """The family's list, or the modules that --lora-targets names: each by its whole name or its last parts."""
    if not config.lora_targets:
        return list(targets)
    possible = [n for n, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    found: set[str] = set()
    for target in config.lora_targets:
        matching = [name for name in possible if name == target or name.endswith(f".{target}")]
        if not matching:
            last = sorted({name.rpartition(".")[2] for name in possible})
            raise UserError(
                f"--lora-targets {target} names no module of {config.family}.",
                why="an adapter that is nowhere would be missed by nobody",
                fix=f"use names such as {', '.join(last)}",
            )
        found |= set(matching)
    return [name for name in possible if name in found]


def ranks(targets: Sequence[str], config: TrainConfig) -> dict[str, int]:
    """Of each adapter, by its module."""
    found = {}
    for target in targets:
        own = [beginning for beginning in config.lora_rank_of if target.startswith(beginning)]
        found[target] = config.lora_rank_of[max(own, key=len)] if own else config.lora_rank
    for beginning in config.lora_rank_of:
        if not any(target.startswith(beginning) for target in targets):
            raise UserError(
                f"--lora-rank-of {beginning} is the beginning of no module that gets an adapter.",
                why="a rank that counts nowhere would be missed by nobody",
                fix="use one of " + ", ".join(sorted({target.split(".")[0] + "." for target in targets})),
            )
    return found


def _patterns(targets: Sequence[str], config: TrainConfig) -> tuple[dict[str, int], dict[str, float]]:
    """Ranks and alphas that are not those of all, by peft's names."""
    own = {f"^{target}": rank for target, rank in ranks(targets, config).items() if rank != config.lora_rank}
    return own, {name: rank * alpha(config) / config.lora_rank for name, rank in own.items()}


def add(model: nn.Module, targets: Sequence[str], config: TrainConfig) -> None:
    """A is drawn from the run's seed (normal, deviation 1 / rank), B is zero: nothing changes yet. Adapters are in
    single precision beside weights of any type: in bfloat16 small updates round away."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    own_ranks, own_alphas = _patterns(targets, config)
    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=alpha(config),
        lora_dropout=config.lora_dropout,
        target_modules=list(targets),
        init_lora_weights="gaussian",
        rank_pattern=own_ranks,
        alpha_pattern=own_alphas,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        inject_adapter_in_model(settings, model, adapter_name=NAME)
    found = {name for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    if missed := sorted(set(targets) ^ found):
        raise RuntimeError(f"peft put its adapters elsewhere: {missed[0]} and {len(missed) - 1} more")
    for name, parameter in model.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()


def split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(weights by the model's own names, the adapters' tensors)."""
    adapter = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    weights = {name.replace(".base_layer.", "."): t for name, t in tensors.items() if name not in adapter}
    return weights, adapter


def merge(tensors: Mapping[str, Tensor], config: TrainConfig) -> dict[str, Tensor]:
    """By the model's own names, adapters added in: in single precision, rounded once to the weight's type."""
    weights, adapter = split(tensors)
    if not adapter:
        return weights
    return merged(
        weights, adapter_of(adapter, alpha(config) / config.lora_rank, what="of this run"), what="of this run"
    )


def save(folder: Path, tensors: Mapping[str, Tensor], targets: Sequence[str], config: TrainConfig) -> None:
    """The adapter alone, in the folder layout of peft."""
    _, adapter = split(tensors)
    own_ranks, own_alphas = _patterns(targets, config)
    with whole_folder(folder) as part:
        write_tensors(
            part / WEIGHTS, {f"{PREFIX}{name.replace(f'.{NAME}.', '.')}": tensor for name, tensor in adapter.items()}
        )
        write_json(
            part / CONFIG,
            {
                "peft_type": "LORA",
                "r": config.lora_rank,
                "lora_alpha": alpha(config),
                "rank_pattern": own_ranks,
                "alpha_pattern": own_alphas,
                "lora_dropout": config.lora_dropout,
                "target_modules": list(targets),
                "bias": "none",
                "fan_in_fan_out": False,
                "init_lora_weights": "gaussian",
                "base_model_name_or_path": str(config.start_from),
                "inference_mode": True,
            },
        )
