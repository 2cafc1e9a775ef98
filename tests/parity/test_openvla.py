"""OpenVLA against the reference's own numbers, in single precision; tolerances are those of the data's README."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from openvla_goldens import arrays, cases, error, gradient_error, model, pixels, prompts
from torch import Tensor, nn

from handeye.conventions import libero
from handeye.data.pipeline.published import openvla_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics
from handeye.models.openvla import additive, insert, sequence
from handeye.records import read_json

pytestmark = pytest.mark.goldens


@pytest.fixture(scope="module")
def found(goldens: Path) -> dict[str, np.ndarray]:
    return arrays(goldens / "openvla" / "openvla_tiny.npz")


@pytest.fixture(scope="module")
def policy(goldens: Path) -> nn.Module:
    return model(goldens / "openvla" / "openvla_tiny")


def asked(found: dict[str, np.ndarray], which: list[int]) -> dict[str, Tensor]:
    ids = prompts([found[f"prompt_ids_{i}"] for i in which])
    return {"image.agentview": pixels(found["images"][which]), **ids}


def taught(found: dict[str, np.ndarray], which: list[int]) -> dict[str, Tensor]:
    """The reference's training batch: its ids behind the prompt are the action's, then </s>."""
    labels = found["batch_labels"][which]
    actions = np.stack([row[row > 2] for row in labels])[:, None]
    return {**asked(found, which), "actions": torch.from_numpy(actions), "valid": torch.ones(len(which), 1).bool()}


@torch.no_grad()
def test_what_is_seen(policy: nn.Module, found: dict[str, np.ndarray], record_property) -> None:
    for i in cases(found):
        image_1HW6 = asked(found, [i])["image.agentview"]
        levels_HW6 = image_1HW6[0].numpy()
        np.testing.assert_allclose(levels_HW6[::8, ::8].transpose(2, 0, 1), found["pixel_values_s8"][i], atol=2e-6)
        every = len(levels_HW6) ** 2 // 14**2 // len(found[f"projector_{i}"])
        towers = policy.vision_backbone
        for name, tower, channels in (
            ("dino_features", towers.featurizer, slice(0, 3)),
            ("siglip_features", towers.fused_featurizer, slice(3, 6)),
        ):
            seen = tower(image_1HW6[..., channels].permute(0, 3, 1, 2))[0]
            assert error(seen[::every], found[f"{name}_{i}"]) < 1e-4
            record_property("OpenVLA: features", found[f"{name}_{i}"].size)
        assert error(policy.see(asked(found, [i]))[0][::every], found[f"projector_{i}"]) < 1e-4
        record_property("OpenVLA: projected features", found[f"projector_{i}"].size)


@torch.no_grad()
def test_states_and_logits(policy: nn.Module, found: dict[str, np.ndarray], record_property) -> None:
    """At the last positions of the training text, each sample alone."""
    llama = policy.language_model
    for i in cases(found):
        batch = taught(found, [i])
        tail = torch.nn.functional.pad(batch["actions"].flatten(1), (0, 1), value=2)
        ids, mask, _ = sequence(batch["prompt"], batch["prompt_mask"], tail)
        words = found["batch_attention_mask"][i]
        np.testing.assert_array_equal(ids[0], found["batch_input_ids"][i][words])
        x, mask = insert(llama.model.embed_tokens(ids), mask, policy.see(batch))
        attention = additive(mask, x, causal=True)
        out = llama.model(inputs_embeds=x, attention_mask=attention, output_hidden_states=True)
        count = found["last16_hidden_states"].shape[2]
        states = torch.stack(out.hidden_states)[:, 0, -count:]
        assert error(states, found["last16_hidden_states"][i]) < 3e-4
        logits = llama.lm_head(out.last_hidden_state[0, -count:])
        assert error(logits.logsumexp(-1), found["last16_logsumexp"][i]) < 6e-4
        assert error(logits[:, found["logit_columns"]], found["last16_columns"][i]) < 6e-4
        top = torch.from_numpy(found["last16_top_ids"][i])
        assert error(logits.gather(1, top), found["last16_top_values"][i]) < 6e-4
        record_property("OpenVLA: states", states.numel())
        record_property("OpenVLA: logits", found["last16_columns"][i].size + top.numel() + count)


def test_actions(policy: nn.Module, found: dict[str, np.ndarray], goldens: Path, record_property) -> None:
    """Greedy ids, one by one and all at once behind padding, and what the robot is told."""
    everything = list(cases(found))
    together = policy.sample_actions(asked(found, everything))
    np.testing.assert_array_equal(together[:, 0], found["generated_ids"])
    for i in everything:
        np.testing.assert_array_equal(policy.sample_actions(asked(found, [i])), together[i : i + 1])
    record_property("OpenVLA: greedy ids", 2 * found["generated_ids"].size)
    folder = goldens / "openvla" / "openvla_tiny"
    for key, value in read_json(folder / "dataset_statistics.json", what="statistics").items():
        pipeline = openvla_pipeline(
            libero.specs(camera_size=256), Statistics.from_json(value), Vocabulary.of(folder / "tokenizer.json")
        )
        actions: np.ndarray = together[:, 0].numpy()
        for step in pipeline.decode_steps[:2]:  # before the gripper is turned
            actions = step(actions, None)
        np.testing.assert_allclose(actions, found[f"actions_{key}"], atol=1e-12)
        record_property("OpenVLA: actions", actions.size)


def test_loss_and_gradients(goldens: Path, found: dict[str, np.ndarray], record_property) -> None:
    everything = list(cases(found))
    policy = model(goldens / "openvla" / "openvla_tiny").train().requires_grad_(True)
    loss, metrics = policy.loss(taught(found, everything))
    assert abs(loss.item() - float(found["loss_batch"])) < 5e-5
    assert float(metrics["token_accuracy"]) == pytest.approx(float(found["train_accuracy"]), abs=1e-6)
    assert float(metrics["action_l1"]) == pytest.approx(float(found["train_l1"]), abs=1e-6)
    for i in everything:
        assert abs(policy.loss(taught(found, [i]))[0].item() - found["loss_single"][i]) < 5e-5
    loss.backward()
    grads = {name: parameter.grad for name, parameter in policy.named_parameters()}
    assert gradient_error(grads, found["grad_names"], found["grad_norms"]) < 1e-3
    idle = {id(p) for tower in policy.vision_backbone.children() for p in tower.idle()}
    still = {name for name, parameter in policy.named_parameters() if id(parameter) in idle}
    assert still & set(found["grad_names"]) == set(found["grad_names"][found["grad_norms"] == 0]) != set()
    record_property("OpenVLA: losses", 1 + len(everything))
    record_property("OpenVLA: gradients", len(found["grad_names"]))
