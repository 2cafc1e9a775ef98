"""pi0 and pi0.5: fine-tuned from openpi's checkpoints, from our own, or small and from nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from handeye.checkpoints.load import Checkpoint
from handeye.conventions.spec import Specs
from handeye.data.pipeline.byte_vocabulary import byte_vocabulary
from handeye.data.pipeline.published import OPENPI_WIDTH, openpi_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics
from handeye.models import pi05
from handeye.models.gemma import Gemma, GemmaConfig, precision
from handeye.models.siglip import SiglipConfig, SiglipLayer
from handeye.train.families.begin import Begin, Filled, fill_from, read_base, require_family, samples
from handeye.train.families.config import OpenpiConfig

SMALL: dict[str, Any] = {
    "vision": SiglipConfig(patch=28, width=96, depth=3, mlp=192, heads=4),
    "language": GemmaConfig(width=128, depth=3, mlp=384, heads=4, kv_heads=1, head_dim=32),
    "expert": GemmaConfig(width=96, depth=3, mlp=256, heads=4, kv_heads=1, head_dim=32),
    "vocabulary": 512,
}
"""For a CPU: a quarter of the patches, a thousandth of the multiplications; room for the ids of bytes."""

ADAPTED = ("query", "key", "value", "out", "gate", "up", "down")
"""openpi adapts attention and feed-forward of both Gemmas, and trains what else there is whole (models/gemma.py:58-109,
get_freeze_filter in models/pi0_config.py)."""


def begin(config: OpenpiConfig, specs: Specs, statistics: Statistics) -> Begin:
    checkpoint, base = _base(config)
    final = _config(config, checkpoint)
    with torch.device("meta"):
        model = pi05.Model(replace(final, dtype="float32"))
    filled = Filled()
    if checkpoint is None:
        model.to_empty(device="cpu")
        model.initialise(torch.Generator().manual_seed(config.seed))
    else:
        filled = fill_from(model, checkpoint, config)
    pipeline = openpi_pipeline(
        specs,
        statistics,
        _vocabulary(config, checkpoint),
        family=config.kind,
        state_in_prompt=config.state_in_prompt,
        augment=config.augment,
    )
    adapted = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and name.startswith(("language.layers.", "expert.layers."))
        and name.rpartition(".")[2] in ADAPTED
    ]
    reader = ("vision.", "language.") if config.train_only == "expert" else ()
    # The prompt's last layer ends in keys and values: what it makes of itself after that, nobody reads.
    last = f"language.layers.{final.language.depth - 1}."
    idle = (*(f"{last}{part}." for part in ("out", "mlp_norm", "gate", "up", "down")), "language.norm.")
    return Begin(
        model=model,
        config=final,
        pipeline=pipeline,
        weight=samples,
        targets=adapted,
        whole=lambda name: not name.startswith(("language.", "expert.")),
        frozen=lambda name: name.startswith((*reader, *idle)),
        blocks=_blocks(model),
        saved_as=lambda name: precision(name, final.dtype),
        base=base,
        filled=filled,
    )


def _base(config: OpenpiConfig) -> tuple[Checkpoint | None, dict[str, Any]]:
    if config.start_from is None:
        return None, {}
    published = not (config.start_from / "manifest.json").exists() and not (config.start_from / "final").exists()
    options = {"chunk": str(config.chunk), "precision": "fp32"} if published else {}
    checkpoint, base = read_base(config.start_from, options=options)
    kind = getattr(checkpoint.model.config, "kind", "")
    require_family(kind or checkpoint.manifest.family, [config.kind], config)
    return checkpoint, base


def _config(config: OpenpiConfig, checkpoint: Checkpoint | None) -> pi05.Config:
    """Sizes are those of the base, whatever they are; how many actions an answer has is no matter of its weights."""
    dtype = "bfloat16" if config.precision == "bf16" else "float32"
    if checkpoint is None:
        return pi05.Config(kind=config.kind, chunk=config.chunk, dtype=dtype, action_width=OPENPI_WIDTH, **SMALL)  # type: ignore[arg-type]
    found: Any = checkpoint.model.config
    return replace(found, chunk=config.chunk, dtype=dtype)


def _vocabulary(config: OpenpiConfig, checkpoint: Checkpoint | None) -> Vocabulary:
    if config.tokenizer is not None:
        return Vocabulary.of(config.tokenizer)
    if checkpoint is not None:
        return checkpoint.manifest.pipeline.vocabularies()[0]
    return byte_vocabulary("gemma")


def _blocks(model: pi05.Model) -> list[nn.Module]:
    """SigLIP's layers and both Gemmas' products: a layer of Gemma is computed together with its sister's, so it is no
    module that is called."""
    found: list[nn.Module] = [module for module in model.modules() if isinstance(module, SiglipLayer)]
    for gemma in (module for module in model.modules() if isinstance(module, Gemma)):
        found += [module for layer in gemma.layers for module in layer.modules() if isinstance(module, nn.Linear)]
    return found
