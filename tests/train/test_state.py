"""A run's folder: whose it is, what is kept, and which save is gone on from."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handeye.checkpoints.load import load
from handeye.checkpoints.manifest import Manifest
from handeye.conventions import libero
from handeye.data.loading.batches import Batches
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.statistics import Statistics
from handeye.train import state
from handeye.train.families.begin import begin
from handeye.train.families.config import ImageConfig, TinyConfig
from handeye.train.folder import saves
from handeye.train.optimizer import Ema, adamw
from handeye.train.run import make_manifest
from handeye.train.state import Training


@pytest.fixture
def config(fake_demos: Path, tmp_path: Path) -> TinyConfig:
    small = {"width": 16, "layers": 1, "keypoints": 4, "overview": 8, "sentence_width": 8}
    return TinyConfig(data=fake_demos, out=tmp_path / "run", images=ImageConfig(image_size=16), batch=4, model=small)


@pytest.fixture
def begun(config: TinyConfig) -> Iterator[tuple[Training, Manifest]]:
    """After three optimizer steps."""
    demos = Demonstrations(config.data)
    statistics: Statistics = demos.statistics()
    begun = begin(config, demos.specs, statistics)
    model = begun.model
    training = Training(
        model=model,
        ema=Ema(model, 0.9),
        optimizer=adamw(model, config.optimizer),
        batches=Batches(Samples(demos, begun.pipeline, config.chunk), config.batch, 0),
    )
    for _ in range(3):
        advance(training)
    yield training, make_manifest(config, begun, libero.specs(camera_size=32), statistics, {})


def advance(training: Training) -> float:
    training.step += 1
    torch.manual_seed(training.step)
    batch = {name: torch.from_numpy(array) for name, array in training.batches.next().items()}
    loss, _ = training.model.loss(batch)
    loss.backward()
    training.optimizer.step()
    training.optimizer.zero_grad()
    training.ema.update(training.step)
    return loss.item()


def save(config: TinyConfig, training: Training, manifest: Manifest, *, keep: int) -> None:
    def averaged() -> dict[str, torch.Tensor]:
        with training.ema.applied():
            return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}

    state.save(config.out, training, manifest, keep=keep, weights=averaged)


def fresh(training: Training, config: TinyConfig) -> Training:
    demos = training.batches.samples.demos
    model = begin(replace(config, seed=99), demos.specs, demos.statistics()).model
    return Training(
        model=model,
        ema=Ema(model, 0.9),
        optimizer=adamw(model, config.optimizer),
        batches=Batches(training.batches.samples, config.batch, 0),
    )


def test_a_restored_training_goes_on_to_the_bit(begun: tuple[Training, Manifest], config: TinyConfig) -> None:
    training, manifest = begun
    save(config, training, manifest, keep=1)
    other = fresh(training, config)
    state.restore(config.out, other)
    assert other.step == 3
    assert [advance(training) for _ in range(4)] == [advance(other) for _ in range(4)]
    assert all(torch.equal(a, b) for a, b in zip(training.model.parameters(), other.model.parameters(), strict=True))
    assert all(torch.equal(a, other.ema.average[name]) for name, a in training.ema.average.items())


def test_a_save_is_also_a_checkpoint_of_the_average(begun: tuple[Training, Manifest], config: TinyConfig) -> None:
    training, manifest = begun
    save(config, training, manifest, keep=1)
    model = load(config.out / "checkpoints" / "step-3").model
    assert all(torch.equal(a, training.ema.average[name]) for name, a in model.named_parameters())


def test_the_newest_are_kept(begun: tuple[Training, Manifest], config: TinyConfig) -> None:
    training, manifest = begun
    for step in (3, 4, 20, 100):
        training.step = step
        save(config, training, manifest, keep=2)
    assert [path.name for path in saves(config.out)] == ["step-100", "step-20"]


@pytest.mark.parametrize(
    "what", ["training/state.safetensors", "training/state.json", "model.safetensors", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncated", "flipped", "absent"])
def test_a_damaged_save_is_passed_over(
    begun: tuple[Training, Manifest], config: TinyConfig, what: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    training, manifest = begun
    save(config, training, manifest, keep=2)
    training.step = 7
    save(config, training, manifest, keep=2)
    path = config.out / "checkpoints" / "step-7" / what
    content = bytearray(path.read_bytes())
    if damage == "absent":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[0] ^= 255
        path.write_bytes(content)
    other = fresh(training, config)
    state.restore(config.out, other)
    assert other.step == 3
    assert "step-7 cannot be used" in capfd.readouterr().err


def test_without_a_save_it_starts_at_the_beginning(begun: tuple[Training, Manifest], config: TinyConfig) -> None:
    training, _ = begun
    other = fresh(training, config)
    before = copy.deepcopy(other.model.state_dict())
    state.restore(config.out, other)
    assert other.step == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in other.model.state_dict().items())
