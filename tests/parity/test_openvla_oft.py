"""OpenVLA-OFT against the reference's own numbers, in single precision; tolerances are those of the reference data's
README. Gradients of its adapters follow from those of the weights that they are added to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from openvla_goldens import arrays, cases, error, gradient_error, model, pixels, prompts, published
from torch import Tensor, nn

from handeye.checkpoints import adapters
from handeye.checkpoints.files import read_pt
from handeye.checkpoints.layouts.openvla import read_shards, shards
from handeye.conventions import action_tokens
from handeye.models.oft_heads import Ddim, step_embedding

pytestmark = pytest.mark.goldens
Found = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def folders(goldens: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("published")
    names = ("oft_tiny", "oft_tiny_diffusion", "oft_tiny_film")
    return {name: published(goldens / "openvla", name, out) for name in names}


@pytest.fixture(scope="module")
def base(goldens: Path) -> str:
    return str(goldens / "openvla" / "openvla_tiny")


@pytest.fixture(scope="module")
def oft(goldens: Path) -> Found:
    return arrays(goldens / "openvla" / "oft_tiny.npz")


def asked(oft: Found, which: list[int]) -> dict[str, Tensor]:
    ids = [np.append(oft[f"input_ids_{i}"], action_tokens.SPACE) for i in which]
    return {
        "image.agentview": pixels(oft["images"][which, 0]),
        "image.wrist": pixels(oft["images"][which, 1]),
        "proprio": torch.from_numpy(oft["proprio_normalized"][which]).float(),
        **prompts(ids),
    }


def taught(oft: Found) -> dict[str, Tensor]:
    order = oft["train_order"].tolist()
    actions = torch.from_numpy(oft["train_actions"])
    batch = {**asked(oft, order), "actions": actions, "valid": torch.ones(actions.shape[:2]).bool()}
    lengths = (oft["train_labels"] != -100).argmax(1)
    np.testing.assert_array_equal(batch["prompt_mask"].sum(1), lengths)
    return batch


@torch.no_grad()
def test_states_and_chunks(folders: dict[str, Path], oft: Found, record_property) -> None:
    policy = model(folders["oft_tiny"])
    for i in cases(oft):
        batch = asked(oft, [i])
        look = policy.look(batch, batch["prompt"], batch["prompt_mask"])
        entered, mask = policy.enter(look)
        assert error(entered[0].norm(dim=-1), oft[f"embeds_norm_{i}"]) < 5e-4
        assert error(entered[0, :, :4], oft[f"embeds_first4_{i}"]) < 5e-4
        if f"embeds_{i}" in oft:
            assert error(entered[0], oft[f"embeds_{i}"]) < 5e-4
        states = policy.states(look, entered, mask, count=oft["hidden_states"].shape[1])
        assert error(states[0], oft["hidden_states"][i]) < 3e-4
        assert error(policy.sample_actions(batch)[0], oft["normalized_chunk"][i]) < 1e-4
        record_property("OFT: embeddings", 5 * len(entered[0]))
        record_property("OFT: states", states.numel())
        record_property("OFT: chunks", oft["normalized_chunk"][i].size)
    together = policy.sample_actions(asked(oft, list(cases(oft))))
    assert error(together, oft["normalized_chunk"]) < 1e-4


@torch.no_grad()
def test_other_forms(folders: dict[str, Path], oft: Found, record_property) -> None:
    """One camera without proprioception; no head; half precision."""
    policy = model(without(folders["oft_tiny"], "proprio_projector"), cameras="agentview", proprio="no")
    batch = asked(oft, [0])
    look = policy.look(batch, batch["prompt"], batch["prompt_mask"])
    states = policy.states(look, *policy.enter(look), count=len(oft["one_image_hidden_states"]))
    assert error(states[0], oft["one_image_hidden_states"]) < 3e-4
    assert error(policy.sample_actions(batch)[0], oft["one_image_normalized_chunk"]) < 1e-4

    policy = model(without(folders["oft_tiny"], "proprio_projector", "action_head"), family="openvla_oft")
    assert policy.config.head == "tokens"
    spoken = policy.sample_actions(asked(oft, list(cases(oft))))
    np.testing.assert_array_equal(spoken.flatten(1), oft["discrete_ids"])
    for i in cases(oft):
        np.testing.assert_array_equal(policy.sample_actions(asked(oft, [i])).flatten(), oft["discrete_ids"][i])
    batch = taught(oft)
    ids = action_tokens.encode(oft["train_actions"])
    rows, columns = np.nonzero(oft["train_labels"] > action_tokens.STOP)
    np.testing.assert_array_equal(ids.flatten(), oft["train_labels"][rows, columns])
    loss, metrics = policy.loss({**batch, "actions": torch.from_numpy(ids)})
    assert abs(loss.item() - float(oft["train_discrete_loss"])) < 5e-5
    order = ("first_token_accuracy", "first_l1", "others_token_accuracy", "others_l1")
    np.testing.assert_allclose([metrics[name].item() for name in order], oft["train_discrete_metrics"], atol=1e-6)
    record_property("OFT: discrete ids", 2 * spoken.numel())

    policy = model(folders["oft_tiny"], precision="bf16")
    chunk = policy.sample_actions(asked(oft, list(cases(oft))))
    assert error(chunk, oft["bf16_normalized_chunk"]) < 0.2
    record_property("OFT: chunks in half precision", chunk.numel())


def without(folder: Path, *parts: str) -> Path:
    """A copy that lacks these components."""
    copy = folder.with_name(f"{folder.name}-without-{'-'.join(parts)}")
    copy.mkdir()
    for path in folder.iterdir():
        if not path.name.startswith(parts):
            (copy / path.name).symlink_to(path)
    return copy


def test_l1_training(folders: dict[str, Path], oft: Found, base: str, record_property) -> None:
    """The reference trained an adapter on top of OpenVLA: `base` puts the two together here, in single precision."""
    merged = model(folders["oft_tiny"])
    with torch.no_grad():
        batch = taught(oft)
        look = merged.look(batch, batch["prompt"], batch["prompt_mask"])
        assert error(merged.answer(look), oft["train_merged_predicted"]) < 1e-4
        assert abs(merged.loss(batch)[0].item() - float(oft["train_merged_loss"])) < 5e-5
        for row, i in enumerate(oft["train_order"].tolist()):
            single = merged.sample_actions(asked(oft, [i]))
            assert error(single[0], oft["train_merged_predicted_single"][row]) < 1e-4

    policy = model(folders["oft_tiny"], base=base).train().requires_grad_(True)
    loss, metrics = policy.loss(taught(oft))
    assert abs(loss.item() - float(oft["train_loss"])) < 5e-5
    np.testing.assert_allclose(
        [metrics[f"{part}_l1"].item() for part in ("first", "others")], oft["train_metrics"], atol=5e-5
    )
    loss.backward()
    grads = gradients(policy, lora(folders["oft_tiny"]))
    assert gradient_error(grads, oft["train_grad_names"], oft["train_grad_norms"]) < 1e-3
    whole = {
        "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.default.weight": "q_proj_lora_A_layer0",
        "base_model.model.vision_backbone.featurizer.patch_embed.proj.lora_B.default.weight": "dino_patch_embed_lora_B",
        "action_head.model.fc2.weight": "head_fc2",
        "proprio_projector.fc1.weight": "proprio_fc1",
    }
    for name, key in whole.items():
        theirs = oft[f"train_grad_{key}"]
        assert error(grads[name], theirs) < 1e-3 * np.abs(theirs).max()
        record_property("OFT: gradients, value by value", theirs.size)
    record_property("OFT: gradients", len(oft["train_grad_names"]))
    record_property("OFT: losses and metrics", 4)


def test_adapter(folders: dict[str, Path], base: str, record_property) -> None:
    """Added to its base it is the merged checkpoint: to the bit in the reference's half precision, to a rounding or two
    in ours. Taken away again, it leaves the base."""
    adapter = lora(folders["oft_tiny"])
    weights = read_shards(Path(base), shards(Path(base)), device="cpu")
    theirs = read_shards(folders["oft_tiny"], shards(folders["oft_tiny"]), device="cpu")
    half = {name: tensor.bfloat16() for name, tensor in weights.items()}
    ours, exact = (adapters.merged(each, adapter, what="the adapter") for each in (half, weights))
    assert ours.keys() == theirs.keys()
    equal = values = 0
    for name, tensor in theirs.items():
        module = name.removesuffix(".weight")
        if module not in adapter.down:
            assert torch.equal(ours[name], tensor)
            continue
        down, up = adapter.down[module].flatten(1), adapter.up[module].flatten(1)
        as_upstream = half[name] + (up @ down).view_as(tensor) * adapter.scale[module]
        assert torch.equal(as_upstream, tensor)
        assert (ours[name].float() - tensor.float()).abs().max() <= 2**-7 * tensor.float().abs().max()
        equal, values = equal + int((ours[name] == tensor).sum()), values + tensor.numel()
        back = exact[name] - adapters.change(adapter.down[module], adapter.up[module], adapter.scale[module])
        torch.testing.assert_close(back, weights[name], atol=1e-6, rtol=0)
    assert equal / values > 0.75
    record_property("OFT: merged weights", values)


def test_diffusion(folders: dict[str, Path], oft: Found, goldens: Path, base: str, record_property) -> None:
    found = arrays(goldens / "openvla" / "oft_tiny_diffusion.npz")
    np.testing.assert_allclose(Ddim(len(found["alphas_cumprod"])).kept, found["alphas_cumprod"], atol=1e-7)
    with torch.no_grad():
        for i in cases(oft):
            steps = found[f"case{i}_timesteps"]
            policy = model(folders["oft_tiny_diffusion"], denoising_steps=str(len(steps)))
            assert policy.ddim.schedule(len(steps)) == steps.tolist()
            batch = asked(oft, [i])
            look = policy.look(batch, batch["prompt"], batch["prompt_mask"])
            stored = torch.from_numpy(found[f"case{i}_trajectory"])[:, None]
            for k, step in enumerate(steps.tolist()):
                entered, mask = policy.enter(look, stored[k], torch.tensor([step]))
                if k == 0:
                    assert error(entered[0].norm(dim=-1), found[f"case{i}_first_step_embeds_norm"]) < 5e-4
                    assert error(entered[0, :, :4], found[f"case{i}_first_step_embeds_first4"]) < 5e-4
                states = policy.states(look, entered, mask, count=policy.config.slots)
                noise = policy.action_head(states)
                assert error(noise[0], found[f"case{i}_noise_pred"][k]) < 4e-4
                given = torch.from_numpy(found[f"case{i}_noise_pred"][k])[None]
                assert error(policy.ddim.less_noisy(stored[k], given, step, len(steps)), stored[k + 1].numpy()) < 1e-5
            assert error(states[0], found[f"case{i}_final_hidden_states"]) < 4e-4
            walked = torch.cat(policy.denoise(look, stored[0]))
            assert error(walked, found[f"case{i}_trajectory"]) < 2e-3
            assert error(walked[-1], found[f"case{i}_normalized_chunk"]) < 2e-3
            record_property("OFT: predicted noise", found[f"case{i}_noise_pred"].size)
            record_property("OFT: trajectories", walked.numel())

    policy = model(folders["oft_tiny_diffusion"], base=base).train().requires_grad_(True)
    batch, steps = taught(oft), torch.from_numpy(found["train_timesteps"])
    noise = torch.from_numpy(found["train_noise"])
    noisy = policy.ddim.noisy(batch["actions"], noise, steps)
    assert error(noisy, found["train_noisy_actions"]) < 1e-6
    width = found["train_timestep_embeddings"].shape[-1]
    assert error(step_embedding(steps, width)[:, None], found["train_timestep_embeddings"]) < 1e-5
    look = policy.look(batch, batch["prompt"], batch["prompt_mask"])
    assert error(policy.answer(look, noisy, steps), found["train_noise_pred"]) < 4e-4
    loss, _ = policy.denoising_loss(batch, noise, steps)
    assert abs(loss.item() - float(found["train_loss"])) < 5e-5
    loss.backward()
    grads = gradients(policy, lora(folders["oft_tiny_diffusion"]))
    assert gradient_error(grads, found["train_grad_names"], found["train_grad_norms"]) < 1e-3
    record_property("OFT: gradients", len(found["train_grad_names"]))


def test_film(folders: dict[str, Path], oft: Found, goldens: Path, record_property) -> None:
    found = arrays(goldens / "openvla" / "oft_tiny_film.npz")
    policy = model(folders["oft_tiny_film"])
    with torch.no_grad():
        for i in cases(oft):
            batch = asked(oft, [i])
            look = policy.look(batch, batch["prompt"], batch["prompt_mask"])
            language = policy.sentence(look.ids, look.mask, look.start)
            assert error(language[0], found["average_language_embedding"][i]) < 1e-5
            seen = torch.cat(
                [policy.vision_backbone(batch[f"image.{name}"], language) for name in policy.config.cameras], dim=1
            )
            assert (
                error(seen[0, :: seen.shape[1] // found["patch_features_s16"].shape[1]], found["patch_features_s16"][i])
                < 3e-4
            )
            entered, mask = policy.enter(look)
            assert error(entered[0].norm(dim=-1), found[f"embeds_norm_{i}"]) < 5e-4
            assert error(entered[0, :, :4], found[f"embeds_first4_{i}"]) < 5e-4
            states = policy.states(look, entered, mask, count=policy.config.slots)
            assert error(states[0], found["hidden_states"][i]) < 3e-4
            assert error(policy.sample_actions(batch)[0], found["normalized_chunk"][i]) < 1e-4
            record_property("OFT: steered features", found["patch_features_s16"][i].size)
            record_property("OFT: chunks", found["normalized_chunk"][i].size)
        together = policy.sample_actions(asked(oft, list(cases(oft))))
        assert error(together, found["normalized_chunk"]) < 1e-4

    object.__setattr__(policy.config, "film_averages_padding", True)
    policy.train().requires_grad_(True)
    batch = taught(oft)
    look = policy.look(batch, batch["prompt"], batch["prompt_mask"])
    language = policy.sentence(look.ids, look.mask, look.start)
    assert error(language, found["train_average_language_embedding"]) < 1e-5
    assert error(policy.answer(look), found["train_predicted"]) < 1e-4
    loss, _ = policy.loss(batch)
    assert abs(loss.item() - float(found["train_loss"])) < 5e-5
    loss.backward()
    # Its names carry both the file's prefix and the wrapped blocks'.
    file = read_pt(next(folders["oft_tiny_film"].glob("vision_backbone--*")))
    sides = {name: t.float() for name, t in file.items() if ".lora_" in name}
    rank = next(t.shape[0] for name, t in sides.items() if ".lora_A." in name)
    adapter = adapters.adapter_of(sides, min(rank, 16) / rank, what="FiLM's")
    grads = gradients(policy, adapter, prefix="vision_backbone.", inside=lambda name: name.replace(".block.", "."))
    steered = {f"vision_backbone.{name}": grads[name] for name in list(grads) if ".scale." in name or ".shift." in name}
    assert gradient_error(grads | steered, found["train_grad_names"], found["train_grad_norms"]) < 1e-3
    record_property("OFT: gradients", len(found["train_grad_names"]))


def lora(folder: Path) -> adapters.Adapter:
    return adapters.read_adapter(folder / "lora_adapter")


def gradients(
    policy: nn.Module, adapter: adapters.Adapter, *, prefix: str = "base_model.model.", inside=lambda name: name
) -> Mapping[str, Tensor | None]:
    """Of every weight, under the reference's names as well as ours, and of the adapter behind it."""
    ours = {name: parameter.grad for name, parameter in policy.named_parameters()}
    grads = dict(ours)
    head = "noise_predictor.mlp_resnet." if policy.config.head == "diffusion" else "model."
    for name, grad in ours.items():
        grads[name.replace("action_head.", f"action_head.{head}")] = grad
    for module, down in adapter.down.items():
        pair = [side.float().requires_grad_() for side in (down, adapter.up[module])]
        whole = ours[f"{inside(module)}.weight"]
        changed = adapters.change(*pair, adapter.scale[module])
        found = [None, None] if whole is None else torch.autograd.grad(changed, pair, whole)
        for side, grad in zip("AB", found, strict=True):
            grads[f"{prefix}{module}.lora_{side}.default.weight"] = grad
    return grads
