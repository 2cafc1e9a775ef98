"""Adapters: where they are, what they change, and that merging them changes no answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_openvla import FAMILIES, batch, small
from torch import nn

from handeye.checkpoints.adapters import merged, read_adapter
from handeye.errors import UserError
from handeye.models import openvla
from handeye.train import lora
from handeye.train.families.config import OftConfig
from handeye.train.families.openvla import targets


def config(**changes: object) -> OftConfig:
    settings = {"data": Path("d"), "out": Path("o"), "sizes": "small", "lora_rank": 3}
    return OftConfig(**{**settings, **changes})


def adapted(form: str = "l1", **changes: object) -> tuple[nn.Module, OftConfig, list[str]]:
    """With adapters that do something."""
    module, settings = FAMILIES[form]
    model, asked = small(module, **settings), config(**changes)
    names = lora.chosen(model, targets(model), asked)
    lora.add(model, names, asked)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.1, generator=generator)
    return model, asked, names


@pytest.mark.parametrize(("form", "own"), [*((form, {}) for form in FAMILIES), ("l1", {"language_model.": 5})])
def test_merged_it_answers_as_before(form: str, own: dict[str, int]) -> None:
    model, asked, _ = adapted(form, lora_rank_of=own)
    module, settings = FAMILIES[form]
    question = batch(module, **settings)
    plain = small(module, **settings)
    before = plain.sample_actions(question)
    plain.load_state_dict(lora.merge(model.state_dict(), asked))
    torch.testing.assert_close(plain.sample_actions(question), model.sample_actions(question), rtol=2e-4, atol=2e-4)
    assert not torch.equal(plain.sample_actions(question), before)


def test_new_adapters_change_nothing_and_depend_on_the_seed_alone() -> None:
    asked = config()
    models = [small(FAMILIES["l1"][0]) for _ in range(3)]
    for model, seed in zip(models[1:], (0, 0), strict=True):
        torch.manual_seed(torch.seed())
        lora.add(model, targets(model), replace(asked, seed=seed))
    question = batch(FAMILIES["l1"][0])
    assert torch.equal(models[0].sample_actions(question), models[1].sample_actions(question))
    one, two = (model.state_dict() for model in models[1:])
    assert all(torch.equal(one[name], two[name]) for name in one)
    drawn = torch.cat([t.flatten() for n, t in one.items() if ".lora_A." in n])
    assert drawn.std().item() == pytest.approx(1 / asked.lora_rank, rel=0.1)


def test_adapters_are_single_precision_beside_bfloat16() -> None:
    model = small(FAMILIES["l1"][0]).bfloat16()
    lora.add(model, targets(model), config())
    kinds = {".lora_" in name: parameter.dtype for name, parameter in model.named_parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}


def test_a_target_that_is_nowhere_is_an_error() -> None:
    model = small(FAMILIES["l1"][0])
    with pytest.raises(UserError, match="--lora-targets k_porj names no module"):
        lora.chosen(model, targets(model), config(lora_targets=("q_proj", "k_porj")))
    some = lora.chosen(model, targets(model), config(lora_targets=("q_proj", "projector.fc1")))
    assert some == ["projector.fc1", *(f"language_model.model.layers.{n}.self_attn.q_proj" for n in range(2))]


OWN_RANKS = {"language_model.": 6, "language_model.model.layers.1.": 2}


def test_modules_with_a_rank_of_their_own() -> None:
    """The longest beginning counts, and alpha / rank is the same for all."""
    from peft.tuners.lora import LoraLayer

    model, asked, names = adapted(lora_rank_of=OWN_RANKS)
    found = {
        name.partition(".lora_A")[0]: len(tensor) for name, tensor in model.state_dict().items() if ".lora_A." in name
    }
    assert found == lora.ranks(names, asked) and set(found.values()) == {2, 3, 6}
    assert found["language_model.model.layers.1.self_attn.q_proj"] == 2
    assert found["language_model.model.layers.0.self_attn.q_proj"] == 6
    scales = {module.scaling["default"] for module in model.modules() if isinstance(module, LoraLayer)}
    assert scales == {lora.alpha(asked) / asked.lora_rank}
    with pytest.raises(UserError, match=r"--lora-rank-of expert\. is the beginning of no module"):
        lora.ranks(names, replace(asked, lora_rank_of={"expert.": 6}))
    with pytest.raises(UserError, match="--lora-rank-of says what happens beside them"):
        config(lora_rank=0, lora_rank_of=OWN_RANKS)
    with pytest.raises(UserError, match="makes no sense"):
        config(lora_rank_of={"language_model.": 0})


@pytest.mark.parametrize("own", [{}, OWN_RANKS], ids=["one rank", "own ranks"])
def test_the_saved_adapter_is_read_like_any_other(own: dict[str, int], tmp_path: Path) -> None:
    model, asked, names = adapted(lora_rank_of=own)
    lora.save(tmp_path / "adapter", model.state_dict(), names, asked)
    base, _ = lora.split(model.state_dict())
    ours = lora.merge(model.state_dict(), asked)
    theirs = merged(base, read_adapter(tmp_path / "adapter"), what="it")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    # And by peft itself.
    from peft import inject_adapter_in_model, load_peft_weights, set_peft_model_state_dict
    from peft.config import PeftConfig

    plain = small(FAMILIES["l1"][0])
    plain.load_state_dict(base)
    inject_adapter_in_model(PeftConfig.from_pretrained(str(tmp_path / "adapter")), plain, adapter_name="default")
    told = set_peft_model_state_dict(plain, load_peft_weights(str(tmp_path / "adapter"), device="cpu"))
    assert not told.unexpected_keys
    question = batch(FAMILIES["l1"][0])
    torch.testing.assert_close(plain.sample_actions(question), model.sample_actions(question))


@pytest.mark.goldens
def test_the_reference_adapts_the_same_modules_of_the_true_model(goldens: Path) -> None:
    told = json.loads((goldens / "openvla" / "lora_targets.json").read_bytes())
    with torch.device("meta"):
        model = openvla.Model(openvla.Config())
    found = targets(model)
    assert set(found) == set(told["modules"]) and len(found) == told["num_modules"] == 439
    lora.add(model, found, config(lora_rank=told["r"]))
    learns = sum(p.numel() for name, p in model.named_parameters() if ".lora_" in name)
    assert learns == told["trainable_params"]
