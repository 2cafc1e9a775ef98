"""Made-up observations, the same every time: what a change of a model is measured on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handeye.checkpoints.manifest import Manifest
from handeye.conventions.spec import Specs
from handeye.types import Observation

EXAMPLES = 2


def fixed_batch(manifest: Manifest) -> dict[str, Tensor]:
    """As the checkpoint's model takes it, on the CPU."""
    random = np.random.default_rng(1)
    first = made_up(manifest.specs, random)
    rest = [replace(made_up(manifest.specs, random), prompt=first.prompt) for _ in range(EXAMPLES - 1)]
    items: list[dict[str, Any]] = [
        {**manifest.pipeline.encode(seen), "seed": np.int64(seen.seed)} for seen in (first, *rest)
    ]
    return {name: torch.from_numpy(np.stack([item[name] for item in items])) for name in items[0]}


def made_up(specs: Specs, random: np.random.Generator) -> Observation:
    """Noise in every camera, and a sentence."""
    image = specs.image
    return Observation(
        images={name: random.integers(0, 256, (image.height, image.width, 3), np.uint8) for name in image.cameras},
        proprio=random.normal(size=specs.proprio.width).astype(np.float32),
        prompt=f"put the red {('cube', 'bowl')[random.integers(2)]} on the blue plate",
        seed=int(random.integers(2**32)),
    )
