"""A policy that works: `tiny`, taught two tabletop tasks in a few seconds, and the demonstrations it was taught on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handeye.transfer.lock import alone

SIZE = 48
"""Pixels of pictures, in demonstrations and for the model."""

TASKS = (0, 1)
"""Put the red, or the green, cube on the blue plate: one scene, so that the sentence decides."""

DEMOS, STEPS, BATCH = 6, 240, 48


@dataclass(frozen=True)
class Taught:
    demos: Path
    checkpoint: Path


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Taught:
    """Made once for all test processes."""
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "taught"
    made = Taught(demos=root / "demos", checkpoint=root / "checkpoint")
    with alone(root, fix="free some space"):
        if not (made.checkpoint / "manifest.json").exists():
            demonstrate(made.demos)
            teach(made)
    return made


@pytest.fixture(scope="session")
def policy(taught: Taught) -> Any:
    """Loaded once: that its rows are independent is tried whenever it is."""
    from handeye.serve.local import load_policy

    return load_policy(taught.checkpoint, device="cpu", rows=16)


def demonstrate(out: Path) -> None:
    """With noise on the expert's actions, so that the policy sees how to come back."""
    from handeye.expert.config import DemosConfig
    from handeye.expert.demos import run as record

    record(
        DemosConfig(
            suite="tabletop", tasks=TASKS, per_task=DEMOS, out=out, workers=1, noise=0.2, camera_size=SIZE, seed=3
        )
    )


def teach(made: Taught) -> None:
    import torch

    from handeye.checkpoints.manifest import Manifest
    from handeye.checkpoints.save import save
    from handeye.conventions.plain import to_plain
    from handeye.data.loading.batches import Batches
    from handeye.data.loading.demonstrations import Demonstrations
    from handeye.data.loading.samples import Samples
    from handeye.data.pipeline.pipeline import standard_pipeline
    from handeye.models.tiny import Config, Model

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    demos = Demonstrations(made.demos)
    statistics = demos.statistics()
    pipeline = standard_pipeline(demos.specs, statistics, image_size=SIZE, prompt_length=64)
    config = Config(
        image_size=SIZE, channels=(8, 16, 16), keypoints=12, overview=16, width=96, layers=2, sentence_width=16
    )
    model = Model(config)
    model.initialise(torch.Generator().manual_seed(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, STEPS)
    with Batches(Samples(demos, pipeline, config.chunk, frames="memory"), BATCH, seed=0) as batches:
        for _ in range(STEPS):
            loss, _ = model.loss({name: torch.from_numpy(value) for name, value in batches.next().items()})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    torch.set_num_threads(before)
    manifest = Manifest(
        family="tiny", config=to_plain(config), files={}, tensors=0, specs=demos.specs, pipeline=pipeline,
        statistics=statistics, merged=False, step=STEPS, provenance={},
    )  # fmt: skip
    save(made.checkpoint, manifest, model.state_dict())
