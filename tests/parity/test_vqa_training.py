"""Fine-tuning on questions against the reference's own steps: what is trained, learning rates, one step of SGD, five of
AdamW."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.npz import read_npz
from handeye.models import paligemma
from handeye.train.vqa_loop import gradient
from handeye.train.vqa_optimizer import choose, learning_rate, make_optimizer
from handeye.train.vqa_presets import paligemma_xvr

pytestmark = pytest.mark.goldens
Count = Callable[[str, int], None]
TRAINABLE = {"attention_only": "attention_only", "full_llm": "full_llm", "full_model": "all"}


@dataclass(frozen=True)
class Golden:
    folder: Path
    said: dict[str, Any]
    tree: dict[str, Tensor]

    def model(self) -> paligemma.Model:
        """Positions as big_vision's trainer has them."""
        config = replace(names.config_of(self.tree, what="paligemma_tiny"), count="all")
        model = paligemma.Model(config)
        model.load_state_dict(names.from_tree(dict(self.tree), config, what="paligemma_tiny"))
        return model.eval()

    def batch(self, pictures: int) -> dict[str, Tensor]:
        with np.load(self.folder / "inputs.npz") as file:
            given = {name: torch.from_numpy(file[name]) for name in file.files}
        images = given[f"image{pictures}_u8"].float() / 127.5 - 1
        images = images if images.ndim == 5 else images[:, None]
        count = given["num_images"].long() if pictures == 3 else torch.ones(len(images), dtype=torch.long)
        images = images * (torch.arange(images.shape[1]) < count[:, None])[:, :, None, None, None]
        rows = {name: given[name] for name in ("mask_ar", "mask_loss")}
        mask = given["mask_input"].bool()
        return {"images": images, "num_images": count, "text": given["text"].long(), "mask_input": mask, **rows}


@pytest.fixture(scope="module")
def golden(goldens: Path) -> Golden:
    folder = goldens / "pi05" / "paligemma_tiny"
    tree = {name.removeprefix("params/"): array for name, array in read_npz(folder / "paligemma_tiny.npz").items()}
    return Golden(folder, json.loads((folder / "training.json").read_text()), tree)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    return lambda what, number: record_property(f"{what} of training on questions", int(number))


def arrays(model: paligemma.Model) -> dict[str, Tensor]:
    return names.to_tree({name: tensor.detach() for name, tensor in model.state_dict().items()}, model.config)


def moved(model: paligemma.Model, before: dict[str, Tensor]) -> dict[str, float]:
    return {key: float((array - before[key]).norm()) for key, array in arrays(model).items()}


def step(model: paligemma.Model, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, rate: float) -> float:
    """As the loop's."""
    loss = gradient(model, [batch], precision="fp32")
    nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


@pytest.mark.parametrize("theirs", TRAINABLE)
def test_what_is_trained(golden: Golden, count: Count, theirs: str) -> None:
    model = golden.model()
    choose(model, TRAINABLE[theirs])
    marks = {n: torch.full(p.shape, float(p.requires_grad)) for n, p in model.named_parameters()}
    found = {key for key, array in names.to_tree(marks, model.config).items() if array.all()}
    assert found == set(golden.said["trainable"][theirs])
    count("names", len(found))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_learning_rates(golden: Golden, count: Count, schedule: str) -> None:
    config = replace(paligemma_xvr(), learning_rate=0.03, warmup=0.1, schedule=schedule)
    table = golden.said["lr_schedules"][f"main_{schedule}_base0.03_total100_warmup0.1"]
    compared = {int(number): rate for number, rate in table.items() if int(number) >= 1}  # ours begin at step 1
    for number, rate in compared.items():
        assert learning_rate(number, 100, config) == pytest.approx(rate, rel=1e-5, abs=1e-9)
    count("learning rates", len(compared))


def test_a_step_of_sgd(golden: Golden, count: Count) -> None:
    """All of the model."""
    said, model, batch = golden.said["sgd_step_full_model"], golden.model(), golden.batch(1)
    choose(model, "all")
    optimizer = make_optimizer(model, replace(paligemma_xvr(), optimizer="sgd"))
    assert step(model, batch, optimizer, said["lr"]) == pytest.approx(said["loss_before"], abs=2e-5)
    assert model.loss(batch)[0].item() == pytest.approx(said["loss_after"], abs=2e-5)
    found = moved(model, golden.tree)
    for key, distance in said["delta_norm"].items():
        assert found[key] == pytest.approx(distance, rel=2e-3, abs=2e-7), key
    count("arrays", len(found))


def test_a_step_of_sgd_on_attention(golden: Golden, count: Count) -> None:
    """The reference's first trainer clips by the norm over frozen arrays too: with that norm, the very weights. Our
    loop takes the norm over what is trained, as its newest does."""
    said, model, batch = golden.said["sgd_step_attention_only"], golden.model(), golden.batch(1)
    trained = choose(model, "attention_only")
    optimizer = make_optimizer(model, replace(paligemma_xvr(), optimizer="sgd"))
    loss = gradient(model, [batch], precision="fp32")
    assert loss == pytest.approx(said["loss_before"], abs=2e-5) and len(trained) == 8
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= golden.said["grad_norms_1"]["global_norm"]
    optimizer.param_groups[0]["lr"] = said["lr"]
    optimizer.step()
    assert model.loss(batch)[0].item() == pytest.approx(said["loss_after"], abs=2e-5)
    found = arrays(model)
    with np.load(golden.folder / "after_sgd_attention_only.npz") as file:
        for key in file.files:
            np.testing.assert_allclose(found[key].numpy(), file[key], rtol=0, atol=1e-6, err_msg=key)
        count("weights after a step", sum(file[key].size for key in file.files))
    still = [key for key, array in found.items() if torch.equal(array, golden.tree[key])]
    assert len(still) == len(found) - 3


def test_five_steps_of_adamw(golden: Golden, count: Count) -> None:
    """Its newest trainer: the schedule begins at 0 and ends at a hundredth, so the rates are its own here."""
    said, model, batch = golden.said["adamw_5_steps_attention_only"], golden.model(), golden.batch(3)
    choose(model, "attention_only")
    optimizer = make_optimizer(model, replace(paligemma_xvr(), weight_decay=said["weight_decay"]))
    steps, warmup, peak = said["total_steps"], int(said["total_steps"] * said["warmup_percent"]), said["lr_peak"]
    losses = []
    for number in range(5):
        progress = max(0, number - warmup) / (steps - warmup)
        shape = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
        losses.append(step(model, batch, optimizer, peak * min(1.0, number / warmup) * shape))
    assert losses == pytest.approx(said["losses"], abs=1e-3)
    found = moved(model, golden.tree)
    for key, distance in said["delta_norm"].items():
        assert found[key] == pytest.approx(distance, rel=1e-2), key
    count("losses", len(losses))
