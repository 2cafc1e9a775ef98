"""pi0 and pi0.5 against openpi's own numbers, part by part in the order in which one would debug."""

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
from handeye.models import pi05
from handeye.models.gemma import attend, blocks, positions

pytestmark = pytest.mark.goldens
Count = Callable[[str, int], None]


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@dataclass(frozen=True)
class Golden:
    folder: Path
    said: dict
    model: pi05.Model
    batch: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=["pi05_tiny", "pi0_tiny", "pi05_gqa_tiny"])
def golden(goldens: Path, request: pytest.FixtureRequest) -> Golden:
    folder = goldens / "pi05" / request.param
    said = json.loads((folder / "config.json").read_text())
    tree = read_npz(folder / "params.npz")
    config = openpi_names.config_of(tree, what=request.param, chunk=said["action_horizon"])
    _same_sizes(config, said)
    model = pi05.Model(config)
    model.load_state_dict(openpi_names.from_tree(tree, config, what=request.param))
    inputs = {name: torch.from_numpy(value) for name, value in load(folder / "inputs.npz").items()}
    batch = {
        "prompt": inputs["tokenized_prompt"].long(),
        "prompt_mask": inputs["tokenized_prompt_mask"],
        "proprio": inputs["state"],
        "actions": inputs["actions"],
    }
    for camera, key in zip(config.cameras, said["image_keys"], strict=True):
        batch[f"image.{camera}"] = inputs[f"image/{key}"].float() / 255 * 2 - 1
        batch[f"image_mask.{camera}"] = inputs[f"image_mask/{key}"]
    return Golden(folder, said, model.eval(), batch, inputs, load(folder / "outputs.npz"))


def _same_sizes(config: pi05.Config, said: dict) -> None:
    """What was read from the shapes is what the reference was configured with."""
    assert config.kind == ("pi05" if said["pi05"] else "pi0")
    for stack, name in ((config.language, "paligemma"), (config.expert, "action_expert")):
        theirs = said[name]
        assert (stack.width, stack.depth, stack.mlp, stack.heads, stack.kv_heads, stack.head_dim) == (
            *(theirs[key] for key in ("width", "depth", "mlp_dim", "num_heads", "num_kv_heads", "head_dim")),
        )
    vision = config.vision
    assert (vision.width, vision.depth, vision.mlp, vision.heads, vision.patch, vision.image_size, vision.tokens) == (
        *(said["siglip"][key] for key in ("width", "depth", "mlp_dim", "num_heads")),
        said["siglip"]["patch_size"][0],
        said["image_size"],
        said["tokens_per_image"],
    )
    assert (config.vocabulary, config.action_width) == (said["vocab_size"], said["action_dim"])


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    return lambda what, number: record_property(f"{what} of pi0 and pi0.5", int(number))


def close(ours: Tensor | np.ndarray, theirs: np.ndarray, atol: float) -> int:
    ours = ours.detach().float().numpy() if isinstance(ours, Tensor) else ours
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)
    return theirs.size


@torch.no_grad()
def test_siglip(golden: Golden, count: Count) -> None:
    rows, vision = golden.outputs["siglip_patch_rows"], golden.model.vision
    image = golden.batch["image.agentview"]
    for name, ours in (("with_posemb", vision.embed), ("encoded", vision.encode), ("head", vision)):
        count("activations", close(ours(image)[:, rows], golden.outputs[f"siglip_{name}"], 2e-5))


@torch.no_grad()
def test_prefix_and_mask(golden: Golden, count: Count) -> None:
    out, prefix = golden.outputs, golden.model.prefix(golden.batch)
    count("activations", close(prefix.tokens[:, out["prefix_rows"]], out["prefix_tokens_rows"], 2e-5))
    count("activations", close(prefix.tokens.norm(dim=-1), out["prefix_tokens_l2"], 2e-5))
    suffix = golden.model.suffix(golden.batch["proprio"], golden.inputs["loss_noise"], golden.inputs["loss_time"])
    np.testing.assert_array_equal(prefix.there, out["prefix_mask"])
    np.testing.assert_array_equal(suffix.starts[0], out["suffix_ar_mask"])
    assert not out["prefix_ar_mask"].any()
    there = torch.cat([prefix.there, torch.ones_like(suffix.starts)], dim=1)
    np.testing.assert_array_equal(positions(there), out["positions"])
    starts = torch.cat([torch.zeros_like(prefix.there), suffix.starts], dim=1)
    mask = np.unpackbits(out["attn_mask_packed"], axis=-1, count=out["attn_mask_shape"][-1]).astype(bool)
    np.testing.assert_array_equal(blocks(starts, there), mask)
    count("places and permissions to look", mask.size + there.numel())


@torch.no_grad()
def test_time_and_suffix(golden: Golden, count: Count) -> None:
    out, model, given = golden.outputs, golden.model, golden.inputs
    width = model.config.expert.width
    for time, name in ((torch.from_numpy(out["posemb_probe_t"]), "posemb_probe"), (given["loss_time"], "posemb")):
        count("activations", close(pi05.time_code(time, width), out[name], 2e-4))
    suffix = model.suffix(golden.batch["proprio"], torch.from_numpy(out["loss_x_t"]), given["loss_time"])
    count("activations", close(suffix.tokens, out["suffix_tokens"], 2e-4))
    if "adarms_cond" in out:
        count("activations", close(suffix.condition, out["adarms_cond"], 2e-4))
    else:
        assert suffix.condition is None


@torch.no_grad()
def test_both_stacks(golden: Golden, count: Count) -> None:
    """Keys, values and outputs of the pass that training makes, where a token is."""
    out, model = golden.outputs, golden.model
    prefix = model.prefix(golden.batch)
    suffix = model.suffix(golden.batch["proprio"], torch.from_numpy(out["loss_x_t"]), golden.inputs["loss_time"])
    there = torch.cat([prefix.there, torch.ones_like(suffix.starts)], dim=1)
    (read, acted), cache = attend(
        (model.language, model.expert),
        (prefix.tokens, suffix.tokens),
        positions_BT=positions(there),
        visible_BTS=blocks(torch.cat([torch.zeros_like(prefix.there), suffix.starts], dim=1), there),
        conditions=(None, suffix.condition),
    )
    rows, length = out["prefix_rows"], prefix.there.shape[1]
    all_rows = [*rows, *range(length, there.shape[1])]
    valid = there[:, all_rows].numpy()
    for index, name in enumerate(("k_cache_rows", "v_cache_rows")):
        ours = np.stack([layer[index][:, all_rows].numpy() for layer in cache])
        count("activations", close(ours[:, valid], out[name][:, valid], 1e-4))
    valid = prefix.there[:, rows].numpy()
    count("activations", close(read[:, rows][valid], out["prefix_out_rows"][valid], 2e-4))
    valid = prefix.there.numpy()
    count("activations", close(read.norm(dim=-1)[valid], out["prefix_out_l2"][valid], 2e-4))
    count("activations", close(acted, out["suffix_out"], 2e-4))


@torch.no_grad()
def test_loss_and_velocity(golden: Golden, count: Count) -> None:
    out, model, batch, given = golden.outputs, golden.model, golden.batch, golden.inputs
    noise, time = given["loss_noise"], given["loss_time"]
    noisy = time[:, None, None] * noise + (1 - time[:, None, None]) * batch["actions"]
    count("velocities and losses", close(noisy, out["loss_x_t"], 1e-6))
    count("velocities and losses", close(noise - batch["actions"], out["loss_u_t"], 1e-6))
    count("velocities and losses", close(model.velocity(batch, noisy, time), out["loss_v_t"], 2e-4))
    count("velocities and losses", close(model.loss_per_step(batch, noise_BTA=noise, time_B=time), out["loss"], 2e-4))
    loss, _ = model.loss(batch, noise_BTA=noise, time_B=time)
    count("velocities and losses", close(loss, out["loss_mean"], 2e-4))
    for when in ("1.0", "0.5", "0.001"):
        time = torch.full((len(noise),), float(when))
        ours = model.velocity(batch, given["sample_noise"], time)
        count("velocities and losses", close(ours, out[f"v_at_t{when}"], 2e-4))


@torch.no_grad()
def test_sampling(golden: Golden, count: Count, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step, with the cached prefix; the velocity at each of them without it. Pictures are looked at once."""
    out, model, batch = golden.outputs, golden.model, golden.batch
    prefix = model.prefix(batch)
    monkeypatch.setattr(model, "prefix", lambda _: prefix)
    noise, steps = golden.inputs["sample_noise"], golden.said["num_steps"]
    for ours, theirs in zip(model.denoise(batch, noise, steps), out["sample_x"], strict=True):
        count("sampled values", close(ours, theirs, 2e-4))
    for step, (time, x, v) in enumerate(zip(out["sample_time"], out["sample_x"][:-1], out["sample_v"], strict=True)):
        assert time == pytest.approx(1 - step / steps, abs=1e-6)
        ours = model.velocity(batch, torch.from_numpy(x), torch.full((len(x),), float(time)))
        count("velocities and losses", close(ours, v, 2e-4))
    count("sampled values", close(model.sample_actions(batch, noise_BTA=noise), out["actions"], 2e-4))
    five = model.sample_actions(batch, noise_BTA=noise, steps=5)
    count("sampled values", close(five, out["actions_5_steps"], 2e-4))


def test_gradients(golden: Golden, count: Count) -> None:
    model, given = golden.model, golden.inputs
    model.zero_grad(set_to_none=True)
    loss, _ = model.loss(golden.batch, noise_BTA=given["loss_noise"], time_B=given["loss_time"])
    loss.backward()
    state = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    ours = openpi_names.to_tree(state, model.config)
    said = json.loads((golden.folder / "grad_norms.json").read_text())
    assert set(ours) == set(said["per_array"])
    total = sum(x.double().square().sum().item() for x in ours.values()) ** 0.5
    assert total == pytest.approx(said["global_norm"], rel=1e-4)
    for key, norm in said["per_array"].items():  # a key bias of SigLIP has no effect, so no gradient but rounding
        assert ours[key].double().norm().item() == pytest.approx(norm, rel=1e-4, abs=2e-7), key
    assert not ours["PaliGemma/llm/final_norm/scale"].any()
    count("gradient norms", len(said["per_array"]) + 1)
    for key, gradient in load(golden.folder / "grads_small.npz").items():
        largest = float(np.abs(gradient).max())
        count("gradients", close(ours[key], gradient, 1e-4 * largest + 2e-7))


@torch.no_grad()
def test_bfloat16_is_near(golden: Golden, count: Count) -> None:
    """Not equal: the reference's own two precisions differ by as much."""
    model = pi05.Model(replace(golden.model.config, dtype="bfloat16"))
    model.load_state_dict(golden.model.state_dict())
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    assert set(kinds.values()) == {torch.bfloat16, torch.float32}
    given, batch = golden.inputs, golden.batch
    count(
        "bfloat16 values",
        close(model.sample_actions(batch, noise_BTA=given["sample_noise"]), golden.outputs["bf16_actions"], 0.1),
    )
    ours = model.loss_per_step(batch, noise_BTA=given["loss_noise"], time_B=given["loss_time"])
    count("bfloat16 values", close(ours, golden.outputs["bf16_loss"], 0.1))
