"""OpenVLA and OpenVLA-OFT: fine-tuned from a published checkpoint, from our own, or small and from nothing.

What a base lacks (OFT's heads and projections on plain OpenVLA) is new and trained whole; all else must be there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from handeye.checkpoints.load import Checkpoint
from handeye.conventions.spec import Specs
from handeye.data.pipeline.byte_vocabulary import byte_vocabulary
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.published import oft_pipeline, openvla_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics
from handeye.models import openvla, openvla_oft
from handeye.models.openvla import LanguageConfig
from handeye.models.vit import DINO, SIGLIP, Block, Tower
from handeye.train.families.begin import Begin, Filled, fill_from, read_base, require_family, spoken_tokens, valid_steps
from handeye.train.families.config import OftConfig, OpenvlaConfig

PROMPT_LENGTH = 64
"""Tokens of the longest question; LIBERO's have up to 40."""

PROMPT_BYTES = 160
"""The same, read byte by byte."""

SMALL: dict[str, Any] = {
    "towers": (
        replace(DINO, width=96, depth=4, heads=4, mlp=192, patch_size=28),
        replace(SIGLIP, width=96, depth=4, heads=4, mlp=192, patch_size=28),
    ),
    "language": LanguageConfig(width=128, mlp=384, layers=3, heads=4, key_value_heads=4),
}
"""For a CPU: a quarter of the patches, a thousandth of the multiplications."""

SUFFIXES = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"),
    *("qkv", "proj", "fc1", "fc2", "fc3", "q", "kv"),
)
"""What peft 0.11.1 makes of the reference's `all-linear`; newer versions leave lm_head and the patch embeddings out
(openvla vla-scripts/finetune.py:173-182)."""

ADAPTED = ("vision_backbone.", "projector.", "language_model.")
NEW = ("action_head.*", "proprio_projector.*", "noisy_action_projector.*", "*.scale.*", "*.shift.*")
"""Parts of OpenVLA-OFT that plain OpenVLA does not have."""


def begin(config: OpenvlaConfig | OftConfig, specs: Specs, statistics: Statistics) -> Begin:
    checkpoint, base = _base(config)
    vocabulary = _vocabulary(config, checkpoint)
    module = openvla if isinstance(config, OpenvlaConfig) else openvla_oft
    sizes = _sizes(config, checkpoint)
    final = _config(config, {**sizes, "dtype": "bfloat16" if config.precision == "bf16" else "float32"})
    frozen_half = config.lora_rank and config.precision == "bf16"
    with torch.device("meta"):
        model: nn.Module = module.Model(replace(final, dtype="bfloat16" if frozen_half else "float32"))
    filled = Filled()
    if checkpoint is None:
        model.to_empty(device="cpu")
        openvla.finish(model, "float32")
        model.initialise(torch.Generator().manual_seed(config.seed))  # type: ignore[operator]
    else:
        fresh = NEW if checkpoint.manifest.family == "openvla" else ()
        filled = fill_from(model, checkpoint, config, fresh=fresh)
    return Begin(
        model=model,
        config=final,
        pipeline=_pipeline(config, specs, statistics, vocabulary),
        weight=valid_steps if getattr(final, "head", "tokens") != "tokens" else spoken_tokens,
        targets=targets(model),
        whole=lambda name: not name.startswith(ADAPTED) or ".scale." in name or ".shift." in name,
        frozen=_idle(model),
        blocks=[m for m in model.modules() if isinstance(m, Block)] + list(model.language_model.model.layers),  # type: ignore[union-attr,arg-type]
        saved_as=lambda name: getattr(torch, final.dtype),
        base=base,
        filled=filled,
    )


def targets(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
        and name.startswith(ADAPTED)
        and name.rpartition(".")[2] in SUFFIXES
    ]


def _base(config: OpenvlaConfig | OftConfig) -> tuple[Checkpoint | None, dict[str, Any]]:
    if config.start_from is None:
        return None, {}
    checkpoint, base = read_base(config.start_from)
    known = ["openvla"] if isinstance(config, OpenvlaConfig) else ["openvla", "openvla_oft"]
    require_family(checkpoint.manifest.family, known, config)
    return checkpoint, base


def _vocabulary(config: OpenvlaConfig | OftConfig, checkpoint: Checkpoint | None) -> Vocabulary:
    if config.tokenizer is not None:
        return Vocabulary.of(config.tokenizer)
    if checkpoint is not None:
        return checkpoint.manifest.pipeline.vocabularies()[0]
    return byte_vocabulary("llama")


def _sizes(config: OpenvlaConfig | OftConfig, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Those of the base, whatever they are."""
    if checkpoint is None:
        return SMALL
    found: Any = checkpoint.model.config
    return {"towers": found.towers, "language": found.language}


def _config(config: OpenvlaConfig | OftConfig, given: dict[str, Any]) -> Any:
    if isinstance(config, OpenvlaConfig):
        return openvla.Config(**given)
    return openvla_oft.Config(
        cameras=config.cameras,
        chunk=config.chunk,
        head=config.head,
        proprio_width=8 if config.proprio else None,
        film=config.film,
        film_averages_padding=config.film_averages_padding,
        **given,
    )


def _pipeline(
    config: OpenvlaConfig | OftConfig, specs: Specs, statistics: Statistics, vocabulary: Vocabulary
) -> Pipeline:
    length = PROMPT_BYTES if vocabulary == byte_vocabulary("llama") else PROMPT_LENGTH
    shared: dict[str, Any] = {
        "prompt_length": length,
        "augment": config.augment,
        "stored_as": config.stored_as,
    }
    if isinstance(config, OpenvlaConfig):
        return openvla_pipeline(specs, statistics, vocabulary, **shared)
    tokens = config.head == "tokens"
    return oft_pipeline(specs, statistics, vocabulary, cameras=config.cameras, tokens=tokens, **shared)


def _idle(model: nn.Module) -> Callable[[str], bool]:
    """What no output depends on: each tower's end, and Llama's output head where numbers are not spoken."""
    idle: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, Tower):
            idle += [f"{name}.blocks.{len(module.blocks) - 1}.", f"{name}.norm.", f"{name}.attn_pool."]
    config: Any = model.config
    if getattr(config, "head", "tokens") != "tokens":
        idle.append("language_model.lm_head.")
    starts: Sequence[str] = tuple(idle)
    return lambda name: name.startswith(tuple(starts))
