"""`tiny`: built from the data's own widths, every weight from the run's seed, or from another `tiny`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from handeye.checkpoints.load import family, model_config
from handeye.conventions.spec import Specs
from handeye.data.pipeline.pipeline import Pipeline, standard_pipeline
from handeye.data.pipeline.steps import Augment, JitterColours, ShiftImages
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.train.families.begin import Begin, Filled, fill_from, read_base, require_family
from handeye.train.families.config import TinyConfig


def begin(config: TinyConfig, specs: Specs, statistics: Statistics) -> Begin:
    model = make_model(config, specs)
    base: dict[str, Any] = {}
    filled = Filled()
    if config.start_from is not None:
        checkpoint, base = read_base(config.start_from)
        require_family(checkpoint.manifest.family, ["tiny"], config)
        filled = fill_from(model, checkpoint, config)
    # Convolutions are up to twice as fast that way.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Begin(
        model=model,
        config=model.config,
        pipeline=make_pipeline(config, specs, statistics),
        base=base,
        filled=filled,
    )


def make_pipeline(config: TinyConfig, specs: Specs, statistics: Statistics) -> Pipeline:
    images = config.images
    augment: list[Augment] = [ShiftImages(images.shift)] if images.shift else []
    if images.brightness or images.contrast or images.colour:
        augment.append(JitterColours(images.brightness, images.contrast, images.colour))
    return standard_pipeline(
        specs,
        statistics,
        image_size=images.image_size,
        prompt_length=config.prompt_length,
        method=images.resize,
        proprio=config.normalize_proprio,
        action=config.normalize_actions,
        augment=tuple(augment),
    )


def make_model(config: TinyConfig, specs: Specs) -> nn.Module:
    module = family(config.family)
    given: dict[str, Any] = {
        "cameras": specs.image.cameras,
        "image_size": config.images.image_size,
        "proprio_width": specs.proprio.width,
        "action_width": specs.action.width,
        "chunk": config.chunk,
    }
    if taken := sorted(given.keys() & config.model.keys()):
        raise UserError(f"--model {taken[0]} cannot be set.", why="the data decides it", fix="leave it out")
    with torch.device("meta"):
        model: nn.Module = module.Model(model_config(module, {**config.model, **given}))
    model.to_empty(device="cpu")  # the same numbers, wherever it will be trained
    model.initialise(torch.Generator().manual_seed(config.seed))  # type: ignore[operator]
    return model
