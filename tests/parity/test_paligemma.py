"""PaliGemma against big_vision's own numbers: logits, losses and greedy answers, with one picture and with three."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from handeye.checkpoints.layouts import openpi_names
from handeye.checkpoints.npz import read_npz
from handeye.models import paligemma

pytestmark = pytest.mark.goldens
Count = Callable[[str, int], None]


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@dataclass(frozen=True)
class Golden:
    folder: Path
    said: dict
    model: paligemma.Model
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    def batch(
        self, pictures: str, *, prompt: bool = False, frames: bool = True, cut: bool = False
    ) -> dict[str, Tensor]:
        """`pictures`: 1, 3 or 3_full. `frames` False: as if every frame were there. `cut`: without the last token, as
        in training."""
        given, prefix = self.inputs, "prompt_" if prompt else ""
        images = torch.from_numpy(given[f"image{pictures}_u8"]).float() / 127.5 - 1
        images = images if images.ndim == 5 else images[:, None]
        count = torch.full((len(images),), images.shape[1])
        if pictures == "3":
            there = torch.from_numpy(given["num_images"]).long()
            images = images * (torch.arange(3) < there[:, None])[:, :, None, None, None]
            count = there if frames else count
        rows = {
            "text": torch.from_numpy(given[f"{prefix}text"]).long(),
            "mask_ar": torch.from_numpy(given[f"{prefix}mask_ar"]),
            "mask_input": torch.from_numpy(given[f"{prefix}mask_input"]).bool(),
        }
        if cut:
            rows = {name: value[:, :-1] for name, value in rows.items()}
        return {"images": images, "num_images": count, "mask_loss": torch.from_numpy(given["mask_loss"]), **rows}

    def counting_all(self) -> paligemma.Model:
        """Positions as big_vision's trainer has them."""
        model = paligemma.Model(replace(self.model.config, count="all"))
        model.load_state_dict(self.model.state_dict())
        return model.eval()


@pytest.fixture(scope="module")
def golden(goldens: Path) -> Golden:
    folder = goldens / "pi05" / "paligemma_tiny"
    said = json.loads((folder / "config.json").read_text())
    tree = {name.removeprefix("params/"): array for name, array in read_npz(folder / "paligemma_tiny.npz").items()}
    config = openpi_names.config_of(tree, what="paligemma_tiny")
    llm, img = said["llm"], said["img"]
    assert (config.language.width, config.language.depth, config.language.mlp) == (
        llm["width"],
        llm["depth"],
        llm["mlp_dim"],
    )
    assert (config.language.heads, config.language.kv_heads, config.language.head_dim) == (
        llm["num_heads"],
        llm["num_kv_heads"],
        llm["head_dim"],
    )
    assert (config.vision.width, config.vision.depth, config.vision.heads, config.vision.patch) == (
        img["width"],
        img["depth"],
        img["num_heads"],
        img["patch_size"][0],
    )
    model = paligemma.Model(config)
    model.load_state_dict(openpi_names.from_tree(tree, config, what="paligemma_tiny"))
    return Golden(folder, said, model.eval(), load(folder / "inputs.npz"), load(folder / "outputs.npz"))


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    return lambda what, number: record_property(f"{what} of PaliGemma", int(number))


def close(ours: Tensor, theirs: np.ndarray, atol: float) -> int:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=0, atol=atol)
    return theirs.size


@torch.no_grad()
def test_pictures(golden: Golden, count: Count) -> None:
    tokens, _ = golden.model.look(golden.batch("1"))
    count("activations", close(tokens[:, ::29], golden.outputs["zimg_1_rows"], 2e-5))


@torch.no_grad()
@pytest.mark.parametrize(
    ("pictures", "name", "all_there", "all_counted"),
    [
        ("1", "logits_1", False, False),
        ("3", "logits_3_compact", False, False),
        ("3", "logits_3", False, True),
        ("3", "logits_3_no_num_images", True, False),
    ],
)
def test_logits(golden: Golden, count: Count, pictures: str, name: str, all_there: bool, all_counted: bool) -> None:
    """On rows that predict a token; elsewhere the reference looks at padding."""
    model = golden.counting_all() if all_counted else golden.model
    ours = model.logits(golden.batch(pictures, frames=not all_there, cut=True))
    predicts = golden.inputs["mask_input"][:, 1:].astype(bool)
    count("logits", close(ours[predicts], golden.outputs[name][predicts], 5e-5))
    if name == "logits_1":
        np.testing.assert_array_equal(ours.argmax(-1)[predicts], golden.outputs["argmax_1"][predicts])
        logp = ours.log_softmax(-1).gather(-1, torch.from_numpy(golden.inputs["text"][:, 1:, None]).long())[..., 0]
        count("logits", close(logp[predicts], golden.outputs["target_logp_1"][predicts], 1e-4))


@torch.no_grad()
def test_loss(golden: Golden, count: Count) -> None:
    for pictures, model in (("1", golden.model), ("3", golden.counting_all())):
        batch = golden.batch(pictures)
        each = model.loss_per_example(batch)
        count("losses", close(each, golden.outputs[f"loss_{pictures}_per_example"], 2e-5))
        count("losses", close(model.loss(batch)[0], golden.outputs[f"loss_{pictures}"], 2e-5))


@pytest.mark.parametrize("pictures", ["1", "3"])
def test_gradients(golden: Golden, count: Count, pictures: str) -> None:
    model = golden.model if pictures == "1" else golden.counting_all()
    model.zero_grad(set_to_none=True)
    model.loss(golden.batch(pictures))[0].backward()
    said = json.loads((golden.folder / "training.json").read_text())[f"grad_norms_{pictures}"]
    ours = openpi_names.to_tree({name: p.grad for name, p in model.named_parameters()}, model.config)
    model.zero_grad(set_to_none=True)
    assert set(ours) == set(said["per_array"])
    for key, norm in said["per_array"].items():
        assert ours[key].double().norm().item() == pytest.approx(norm, rel=1e-4, abs=2e-7), key
    total = sum(x.double().square().sum().item() for x in ours.values()) ** 0.5
    assert total == pytest.approx(said["global_norm"], rel=1e-4)
    count("gradient norms", len(ours) + 1)


@pytest.mark.parametrize(
    ("pictures", "name", "all_there"),
    [
        ("1", "decode_1", False),
        ("3_full", "decode_3_full", False),
        ("3", "decode_3_compact", False),
        ("3", "decode_3_unmasked_padding", True),
    ],
)
def test_answers(golden: Golden, count: Count, pictures: str, name: str, all_there: bool) -> None:
    ids, logits = golden.model.answer(
        golden.batch(pictures, prompt=True, frames=not all_there),
        length=golden.said["max_decode_len"],
        end=golden.said["eos"],
    )
    np.testing.assert_array_equal(ids, golden.outputs[name])
    count("answered tokens", ids.numel())
    if name == "decode_1":
        said = torch.from_numpy(golden.outputs[name]) != 0
        count("logits", close(logits[said], golden.outputs["decode_step_logits_1"][said], 1e-4))


def test_answers_with_the_training_mask(golden: Golden, count: Count) -> None:
    ids, logits = golden.counting_all().answer(
        golden.batch("3", prompt=True), length=golden.said["max_decode_len"], end=golden.said["eos"]
    )
    np.testing.assert_array_equal(ids, golden.outputs["decode_3_masked"])
    count("answered tokens", ids.numel())
    count("logits", close(logits, golden.outputs["decode_step_logits_3_masked"], 1e-4))


def test_an_answer_ends(golden: Golden, count: Count) -> None:
    """One sample that says the end after a few tokens: zeros follow."""
    said = json.loads((golden.folder / "training.json").read_text())["early_stop"]
    one = {name: value[:1] for name, value in golden.batch("1", prompt=True).items()}
    ids, _ = golden.model.answer(one, length=golden.said["max_decode_len"], end=said["eos_token"])
    np.testing.assert_array_equal(ids, golden.outputs["decode_early_stop"])
    assert ids[0, said["first_index"]] == said["eos_token"] and not ids[0, said["first_index"] + 1 :].any()
    count("answered tokens", ids.numel())


@torch.no_grad()
def test_frames_that_are_absent_change_nothing(golden: Golden) -> None:
    """Whatever is in them, in training and in decoding."""
    batch = golden.batch("3")
    absent = torch.arange(3) >= batch["num_images"][:, None]
    other = {**batch, "images": torch.where(absent[:, :, None, None, None], 0.7, batch["images"])}
    assert not torch.equal(batch["images"], other["images"])
    torch.testing.assert_close(golden.model.loss_per_example(other), golden.model.loss_per_example(batch))
