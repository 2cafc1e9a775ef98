"""Both families of OpenVLA on the smallest sizes: masks, padding, gradients. The numbers are in tests/parity."""

from __future__ import annotations

from pathlib import Path

import fake_flash
import numpy as np
import pytest
import torch
from small_openvla import FAMILIES, batch, rows, small

from handeye.conventions import action_tokens
from handeye.models import openvla, openvla_oft
from handeye.models.openvla import additive, insert, sequence, spoken_value
from handeye.records import read_json

BACKENDS = ("eager", "sdpa", "flash_attention_2")
"""Flash attention's kernels need a GPU: here they are written in torch (fake_flash.py), the way into them is real."""


@pytest.mark.parametrize("form", FAMILIES)
def test_together_as_one_by_one(form: str) -> None:
    """Behind padding, among others: the same answers."""
    module, config = FAMILIES[form]
    model, asked = small(module, **config), batch(module, **config)
    together = model.sample_actions(asked)
    assert together.shape == (3, model.config.chunk, 7)
    alone = torch.cat([model.sample_actions(rows(asked, slice(i, i + 1))) for i in range(3)])
    if together.is_floating_point():
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    else:
        assert torch.equal(together, alone)
    assert len({tuple(row.flatten().tolist()) for row in together}) == 3
    assert torch.equal(model.sample_actions(asked), together)


@pytest.mark.parametrize("form", FAMILIES)
def test_what_lies_behind_the_mask_is_not_read(form: str) -> None:
    module, config = FAMILIES[form]
    model, asked = small(module, **config), batch(module, **config)
    other = {**asked, "prompt": torch.where(asked["prompt_mask"], asked["prompt"], 77)}
    assert torch.equal(model.sample_actions(other), model.sample_actions(asked))
    torch.manual_seed(0)
    loss = model.loss(asked)[0]
    torch.manual_seed(0)
    assert torch.equal(model.loss(other)[0], loss)


@pytest.mark.parametrize("form", FAMILIES)
def test_training_reaches_everything_but_what_is_carried(form: str) -> None:
    module, config = FAMILIES[form]
    model = small(module, **config).train()
    loss, metrics = model.loss(batch(module, **config))
    assert loss.isfinite() and all(value.isfinite() for value in metrics.values())
    loss.backward()
    idle = {id(p) for tower in model.vision_backbone.children() for p in tower.idle()}
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        unused = id(parameter) in idle or (
            name.startswith("language_model.lm_head") and form in ("l1", "diffusion", "film")
        )
        assert reached != unused, name


@pytest.mark.parametrize("form", [form for form in FAMILIES if form != "openvla"])
def test_steps_past_an_episodes_end_teach_nothing(form: str) -> None:
    module, config = FAMILIES[form]
    model, given = small(module, **config), batch(module, **config)
    given["valid"][0, -1] = given["valid"][1:, -3:] = False
    changed = {**given, "actions": given["actions"].clone()}
    changed["actions"][0, -1] = 31800 if form == "tokens" else 0.5
    losses = []
    for each in (given, changed, {**changed, "valid": torch.ones_like(given["valid"])}):
        torch.manual_seed(0)
        losses.append(model.loss(each)[0])
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_291_against_290(backend: openvla.Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream's `predict_action` makes the ids one longer than their mask, and eager attention dies of it: "The size
    of tensor a (291) must match the size of tensor b (290)". Here both come from one function, for any tail."""
    asked = batch(openvla, lengths=(34,))
    for tail in (0, 1, 7):
        ids, mask, start = sequence(asked["prompt"], asked["prompt_mask"], torch.full((1, tail), 31800))
        assert ids.shape == mask.shape
        assert (start.item(), mask.sum().item()) == (34, 34 + tail)
    fake_flash.install(monkeypatch)
    model, reference = small(openvla), small(openvla)
    model.attend_with(backend)
    assert model.language_model.config._attn_implementation == backend
    for lengths in ((35,), (35, 12)):
        asked = batch(openvla, lengths=lengths)
        assert torch.equal(model.sample_actions(asked), reference.sample_actions(asked))
        torch.testing.assert_close(model.loss(asked)[0], reference.loss(asked)[0])


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_oft_looks_ahead_and_openvla_does_not(backend: openvla.Backend) -> None:
    """A later token changes the state of an earlier one, or not: transformers as it is, without a fork."""
    for module, ahead in ((openvla, False), (openvla_oft, True)):
        model = small(module)
        model.attend_with(backend)
        states = []
        for last in (100, 200):
            ids = torch.tensor([[1, 50, 60, last]])
            x, mask = model.language_model.model.embed_tokens(ids), torch.ones_like(ids).bool()
            attention = additive(mask, x, causal=not ahead)
            states.append(model.language_model.model(inputs_embeds=x, attention_mask=attention).last_hidden_state)
        assert torch.equal(states[0][:, :-1], states[1][:, :-1]) != ahead
        assert not torch.equal(states[0][:, -1], states[1][:, -1])
    oft, asked = small(openvla_oft), batch(openvla_oft, lengths=(6,))
    oft.attend_with(backend)
    look = oft.look(asked, asked["prompt"], asked["prompt_mask"])
    entered, mask = oft.enter(look)
    changed = entered.clone()
    changed[:, look.seen.shape[1] + 6 + oft.config.slots] += 1.0  # the </s> behind all slots
    one, other = (oft.states(look, x, mask, count=oft.config.slots) for x in (entered, changed))
    assert (one - other).abs().amax(-1).min() > 0, "every slot's state sees what comes behind it"


def test_sequence() -> None:
    prompt = torch.tensor([[1, 5, 6, 9], [1, 5, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    ids, whole, start = sequence(prompt, mask, torch.tensor([[7, 8], [7, 8]]))
    assert ids.tolist() == [[1, 5, 6, 9, 7, 8], [1, 5, 7, 8, openvla.PAD, openvla.PAD]]
    assert whole.tolist() == [[True] * 6, [True] * 4 + [False] * 2]
    assert start.tolist() == [4, 2]
    x, longer = insert(ids[..., None].float(), whole, torch.full((2, 3, 1), -1.0))
    assert x[1, :, 0].tolist() == [1, -1, -1, -1, 5, 7, 8, openvla.PAD, openvla.PAD]
    assert longer[1].tolist() == [True] * 7 + [False] * 2


def test_spoken_values_are_the_pipelines() -> None:
    ids = np.array([2, 25461, 31743, 31744, 31872, 31999, 32000, 32063])
    np.testing.assert_allclose(spoken_value(torch.from_numpy(ids)), action_tokens.decode(ids), atol=1e-7)


def test_film_counts_padding_only_when_asked() -> None:
    """In training and nowhere else."""
    config = {"film": True, "film_averages_padding": True}
    asked = batch(openvla_oft)
    means = []
    for model in (small(openvla_oft, **config).eval(), small(openvla_oft, **config).train()):
        look = model.look(asked, asked["prompt"], asked["prompt_mask"])
        means.append(model.sentence(look.ids, look.mask, look.start))
    plain = small(openvla_oft, film=True).train()
    assert torch.equal(means[0], plain.sentence(look.ids, look.mask, look.start))
    assert not torch.equal(means[0], means[1])


def test_noise_is_a_rows_own() -> None:
    model = small(openvla_oft, head="diffusion", denoising_steps=5)
    asked = batch(openvla_oft, head="diffusion", lengths=(5, 5))
    same = {name: value[[0, 0]] for name, value in asked.items()}
    first, second = model.sample_actions({**same, "seed": torch.tensor([3, 4])})
    again, _ = model.sample_actions({**same, "seed": torch.tensor([3, 9])})
    assert not torch.allclose(first, second) and torch.equal(first, again)


def test_one_camera_one_action() -> None:
    with pytest.raises(ValueError, match="openvla_oft"):
        openvla.Model(openvla.Config(cameras=("agentview", "wrist")))


@pytest.mark.goldens
def test_names_and_shapes_of_the_7b(goldens: Path, record_property) -> None:
    """All 982, in the published types, with the default configuration."""
    published = read_json(goldens / "openvla" / "openvla7b_keys.json", what="names")
    with torch.device("meta"):
        state = openvla.Model(openvla.Config()).state_dict()
    ours = {name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")] for name, tensor in state.items()}
    assert ours == {name: [shape, dtype.removeprefix("torch.")] for name, (shape, dtype) in published.items()}
    assert sum(tensor.numel() for tensor in state.values()) == 7_541_237_184
    record_property("OpenVLA-7B: names and shapes", len(ours))


@pytest.mark.goldens
def test_targets_of_the_references_adapters(goldens: Path) -> None:
    """Each module of peft 0.11.1's `all-linear` is one of ours, with the width that its A and B have."""
    told = read_json(goldens / "openvla" / "lora_targets.json", what="targets")
    with torch.device("meta"):
        modules = dict(openvla.Model(openvla.Config()).named_modules())
    assert len(told["modules"]) == told["num_modules"] == 439
    assert all(hasattr(modules[name], "weight") for name in told["modules"])
    assert {name.rpartition(".")[2] for name in told["modules"]} == set(told["resolved_target_modules"])


def test_oft_heads_have_the_published_sizes() -> None:
    """openvla-oft: 151,117,831 in the head, 16,818,176 and 16,789,504 in the projectors, 456,241,920 in FiLM."""
    with torch.device("meta"):
        model = openvla_oft.Model(openvla_oft.Config(head="diffusion", film=True))
    count = lambda part: sum(p.numel() for p in part.parameters())  # noqa: E731
    assert count(model.action_head) == 151_117_831
    assert count(model.proprio_projector) == 16_818_176
    assert count(model.noisy_action_projector) == 16_789_504
    named = model.vision_backbone.named_parameters()
    assert sum(p.numel() for name, p in named if ".scale." in name or ".shift." in name) == 456_241_920
