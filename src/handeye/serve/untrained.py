"""The default family with random weights: for measuring speed, where what a policy answers does not matter."""

from __future__ import annotations

import numpy as np
import torch

from handeye.checkpoints.load import Checkpoint
from handeye.checkpoints.manifest import Manifest
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.pipeline import standard_pipeline
from handeye.data.statistics import measure
from handeye.models.tiny import Config, Model
from handeye.serve.local import LocalPolicy

PROMPT_LENGTH = 96


def untrained(*, camera_size: int, device: str = "cpu", rows: int | None = None) -> LocalPolicy:
    """As a policy."""
    return LocalPolicy(checkpoint(camera_size=camera_size), device=device, rows=rows)


def checkpoint(*, camera_size: int) -> Checkpoint:
    """`tiny` at its usual size, the same weights every time."""
    model = Model(Config())
    model.initialise(torch.Generator().manual_seed(0))
    random = np.random.default_rng(0)
    statistics = measure([(random.uniform(-1, 1, (100, 7)), random.normal(size=(100, 8)))])
    specs = libero.specs(camera_size=camera_size)
    manifest = Manifest(
        family="tiny",
        config=to_plain(model.config),
        files={},
        tensors=0,
        specs=specs,
        pipeline=standard_pipeline(specs, statistics, image_size=model.config.image_size, prompt_length=PROMPT_LENGTH),
        statistics=statistics,
        merged=False,
        step=0,
        provenance={},
    )
    return Checkpoint(manifest=manifest, model=model.eval().requires_grad_(False))
