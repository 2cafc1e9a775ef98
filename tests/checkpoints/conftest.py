"""A small checkpoint of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.save import save
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.pipeline import standard_pipeline
from handeye.data.statistics import measure
from handeye.models.tiny import Config, Model


@pytest.fixture
def model() -> nn.Module:
    model = Model(
        Config(image_size=32, channels=(4, 8, 8), keypoints=4, overview=8, width=16, layers=1, sentence_width=8)
    )
    model.initialise(torch.Generator().manual_seed(0))
    return model


@pytest.fixture
def manifest(model: nn.Module) -> Manifest:
    random = np.random.default_rng(0)
    statistics = measure([(random.uniform(-1, 1, (50, 7)), random.normal(size=(50, 8)))])
    specs = libero.specs(camera_size=64)
    return Manifest(
        family="tiny",
        config=to_plain(model.config),
        files={},
        tensors=0,
        specs=specs,
        pipeline=standard_pipeline(specs, statistics, image_size=32, prompt_length=64),
        statistics=statistics,
        merged=False,
        step=7,
        provenance={"made": "by a test"},
    )


@pytest.fixture
def checkpoint(tmp_path: Path, model: nn.Module, manifest: Manifest) -> Path:
    save(tmp_path / "checkpoint", manifest, model.state_dict())
    return tmp_path / "checkpoint"
