"""The policy on VGGT: from its two published halves, from a whole policy (ours or AtlasVLA's), or small and from
nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handeye.checkpoints.files import read_pt, read_tensors
from handeye.checkpoints.load import Checkpoint
from handeye.conventions.spec import Specs
from handeye.data.pipeline.augment import JitterColours, ShiftImages
from handeye.data.pipeline.item import Augment
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.pipeline.vggt import atlas_pipeline, vggt_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.models import vggt_vla
from handeye.models.vggt import AggregatorConfig, Block
from handeye.models.vggt_vla import QWEN2_05B, QWEN3_06B, LanguageConfig
from handeye.records import read_json, sha256_file
from handeye.train.families.begin import Begin, Filled, fill, fill_from, read_base, require_family, samples, valid_steps
from handeye.train.families.config import VggtConfig

SMALL: dict[str, Any] = {
    "image_size": 112,
    "width": 96,
    "decoder_layers": 2,
    "decoder_heads": 4,
    "prompt_length": 77,
    # Blocks that begin at a hundredth suit weights that were learned before; from nothing they would hardly mix tokens.
    "aggregator": AggregatorConfig(
        name="small", width=96, depth=3, heads=4, patch_size=14, embedding="conv", image_size=112, layer_scale=1.0
    ),
    "language": LanguageConfig(
        name="small", kind="qwen3", width=64, layers=2, heads=4, key_value_heads=2, head_width=16, mlp=128,
        vocabulary=512,
    ),
}  # fmt: skip
"""For a CPU. Reads bytes."""

NEW = ("fuse.*", "decoder.*", "language_encoder.projector.*", "language_encoder.pos_embed")
"""What neither half brings."""

QWENS = {"Qwen3ForCausalLM": QWEN3_06B, "Qwen2ForCausalLM": QWEN2_05B}
"""By the architecture that a Qwen's own config.json names."""

ADAPTED = ("qkv", "proj", "fc1", "fc2")
"""In VGGT's blocks (AtlasVLA vggt_vla/models, LoRA of rank 8, alpha 16)."""


def begin(config: VggtConfig, specs: Specs, statistics: Statistics) -> Begin:
    checkpoint, base = _base(config)
    final = _config(config, checkpoint)
    with torch.device("meta"):
        model = vggt_vla.Model(final)
    filled = Filled()
    if checkpoint is not None:
        filled = fill_from(model, checkpoint, config)
    elif config.vggt is not None and config.qwen is not None:
        halves = {**_geometry(config.vggt), **_language(config.qwen)}
        filled = fill(model, halves, fresh=NEW, config=config, what=f"{config.vggt} and {config.qwen}")
        base = {"vggt": sha256_file(config.vggt), "qwen": str(config.qwen)}
    else:
        model.to_empty(device="cpu")
        model.initialise(torch.Generator().manual_seed(config.seed))
    model.language_encoder.turn_on("cpu")
    quiet = ("language_encoder.language_model.",) if config.freeze_language and config.begins_with_something else ()
    return Begin(
        model=model,
        config=final,
        pipeline=_pipeline(config, specs, statistics, checkpoint, final),
        weight=valid_steps if final.form == "ours" else samples,
        targets=_targets(model),
        whole=lambda name: not name.startswith(("aggregator.", "vggt_backbone.vggt.", *quiet)),
        frozen=lambda name: name.startswith(quiet),
        blocks=[module for module in model.modules() if isinstance(module, Block)],
        base={**base, "language": final.language.name, "vision": final.aggregator.name} if base else {},
        filled=filled,
    )


def _varied(image_size: int) -> tuple[Augment, ...]:
    """Ours, as `tiny`'s: colours, and shifts by a hundredth of the picture. The camera stands still and places count:
    shifts by a twentieth hid them, and the policy learned to look away. AtlasVLA varies nothing."""
    return ShiftImages(max(1, image_size // 96)), JitterColours(0.1, 0.15, 0.05)


def _targets(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and "_blocks." in name and name.rpartition(".")[2] in ADAPTED
    ]


def _base(config: VggtConfig) -> tuple[Checkpoint | None, dict[str, Any]]:
    if config.start_from is None:
        return None, {}
    checkpoint, base = read_base(config.start_from)
    require_family(checkpoint.manifest.family, ["vggt_vla"], config)
    return checkpoint, base


def _config(config: VggtConfig, checkpoint: Checkpoint | None) -> vggt_vla.Config:
    if checkpoint is not None:
        found: Any = checkpoint.model.config
        if found.chunk != config.chunk and not config.allow_partial:
            raise UserError(
                f"{config.start_from} answers {found.chunk} actions.",
                why=f"--chunk {config.chunk} would need another decoder",
                fix=f"use --chunk {found.chunk}; --allow-partial begins with new queries",
            )
        if found.cameras != config.cameras and not config.allow_partial:
            raise UserError(
                f"{config.start_from} looks through {' and '.join(found.cameras)}.",
                why=f"it has not learned from {' and '.join(config.cameras)}",
                fix=f"use --cameras {' '.join(found.cameras)}; --allow-partial begins with other views",
            )
        return replace(found, chunk=config.chunk, cameras=config.cameras)
    shared: dict[str, Any] = {"cameras": config.cameras, "chunk": config.chunk}
    if config.qwen is None:
        return vggt_vla.Config(**shared, **SMALL)
    _shards(config.qwen)
    if config.tokenizer is None:
        _part(config.qwen, "tokenizer.json")
    said = read_json(_part(config.qwen, "config.json"), what="a language model's configuration")
    names = said.get("architectures") or []
    known = [QWENS[name] for name in names if name in QWENS]
    if not known:
        raise UserError(
            f"{config.qwen} is no Qwen that is known here.",
            why=f"its config.json says {', '.join(names) or 'nothing'}",
            fix=f"give {' or '.join(language.name for language in QWENS.values())}",
        )
    return vggt_vla.Config(**shared, language=known[0])


def _geometry(path: Path) -> dict[str, Tensor]:
    """VGGT's aggregator; its heads for cameras, depth and tracks have no part in a policy."""
    if path.is_dir():
        inside = [each.name for each in sorted(path.iterdir()) if each.suffix in (".safetensors", ".pt")]
        raise UserError(
            f"{path} is a folder.",
            why="--vggt is the file of VGGT's weights",
            fix=f"give {path / inside[0]}"
            if inside
            else "hf download facebook/VGGT-1B, and give its model.safetensors",
        )
    tensors = read_tensors([path]) if path.suffix == ".safetensors" else read_pt(path, mapped=True)
    found = {name: tensor for name, tensor in tensors.items() if name.startswith("aggregator.")}
    if not found:
        raise UserError(f"{path} is not VGGT.", why="it has no aggregator", fix="give facebook/VGGT-1B's weights")
    return found


def _language(folder: Path) -> dict[str, Tensor]:
    """Qwen without its output layer, which is its table of words."""
    tensors = read_tensors(_shards(folder))
    start = "language_encoder.language_model."
    return {start + name.removeprefix("model."): t for name, t in tensors.items() if name != "lm_head.weight"}


def _shards(folder: Path) -> list[Path]:
    """All of its weights, or a UserError."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = read_json(index, what="a list of shards").get("weight_map")
        return [_part(folder, str(name)) for name in sorted(set(named.values() if isinstance(named, dict) else ()))]
    return sorted(folder.glob("*.safetensors")) or [_part(folder, "model.safetensors")]


def _part(folder: Path, name: str) -> Path:
    """A file of the language model, which is there."""
    if not (folder / name).is_file():
        raise UserError(
            f"{folder} has no {name}.",
            why="--qwen is the whole folder of the language model: configuration, weights and tokenizer",
            fix=f"hf download Qwen/Qwen3-0.6B-Base --local-dir {folder}, or copy the file there",
        )
    return folder / name


def _pipeline(
    config: VggtConfig, specs: Specs, statistics: Statistics, checkpoint: Checkpoint | None, final: vggt_vla.Config
) -> Pipeline:
    seen = replace(specs, image=specs.image.only(final.cameras, here=str(config.data)))
    vocabulary = _vocabulary(config, checkpoint)
    sizes: dict[str, Any] = {"image_size": final.image_size, "prompt_length": final.prompt_length}
    if final.form == "reference":
        if vocabulary is None:
            raise UserError("AtlasVLA's form needs a tokenizer.", fix="give Qwen's tokenizer.json with --tokenizer")
        return atlas_pipeline(seen, statistics, vocabulary, cameras=final.cameras, **sizes)
    augment = _varied(final.image_size) if config.augment else ()
    return vggt_pipeline(seen, statistics, vocabulary, augment=augment, **sizes)


def _vocabulary(config: VggtConfig, checkpoint: Checkpoint | None) -> Vocabulary | None:
    if config.tokenizer is not None:
        return Vocabulary.of(config.tokenizer)
    if checkpoint is not None:
        return next(iter(checkpoint.manifest.pipeline.vocabularies()), None)
    return Vocabulary.of(_part(config.qwen, "tokenizer.json")) if config.qwen is not None else None
