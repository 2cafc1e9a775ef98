"""What is trained, how fast, and by which rule."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small_vqa import model

from handeye.errors import UserError
from handeye.train.vqa_config import VqaConfig
from handeye.train.vqa_optimizer import choose, learning_rate, make_optimizer, steps_of
from handeye.train.vqa_presets import PRESETS_VQA, paligemma_xvr

STEPS = 40


def config(**changes: object) -> VqaConfig:
    return replace(paligemma_xvr(), learning_rate=0.5, **changes)


def test_what_is_trained() -> None:
    made = model()
    everything = [name for name, _ in made.named_parameters()]
    attention = choose(made, "attention_only")
    assert len(attention) == 2 * 4  # two layers: query, key, value, out, which are the reference's three arrays
    assert all(name.startswith("language.layers.") for name in attention)
    language = choose(made, "full_llm")
    assert set(language) == {name for name in everything if name.startswith("language.")}
    assert "language.embedding.weight" in language
    assert choose(made, "all") == everything
    choose(made, "attention_only")
    assert [name for name, p in made.named_parameters() if p.requires_grad] == attention  # and back again


def big_vision(step: int, kind: str) -> float:
    """Its schedule, from its description: progress after the warm-up, of one step more than there are."""
    total, warmup = STEPS + 1, int(STEPS * 0.1)
    progress = min(max((step - warmup) / float(total - warmup), 0.0), 1.0)
    rate = {"cosine": 0.5 * 0.5 * (1.0 + math.cos(math.pi * progress)), "linear": 0.5 * (1.0 - progress)}
    return rate.get(kind, 0.5) * min(1.0, step / warmup)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedules(kind: str) -> None:
    rates = [learning_rate(step, STEPS, config(schedule=kind)) for step in range(1, STEPS + 1)]
    assert rates == pytest.approx([big_vision(step, kind) for step in range(1, STEPS + 1)])
    assert rates[3] == max(rates) and 0 < rates[0] < rates[1]
    assert rates[-1] == 0.5 if kind == "constant" else 0 < rates[-1] < 0.02
    assert learning_rate(1, STEPS, config(schedule=kind, warmup=0.0)) > 0.48


def test_all_parts_of_a_step_count_as_seen() -> None:
    assert steps_of(config(epochs=3, batch=4, accumulate=8), 320) == 30
    assert steps_of(config(epochs=1, batch=4, accumulate=8), 321) == 11  # the last few wrap into the next epoch
    assert steps_of(config(epochs=1, batch=32, accumulate=1), 320) == 10
    assert steps_of(config(steps=7), 320) == 7


def test_sgd_is_plain() -> None:
    made = model()
    choose(made, "attention_only")
    weight = made.language.layers[0].query.weight
    optimizer, before = make_optimizer(made, config(optimizer="sgd")), weight.detach().clone()
    for _ in range(2):  # a momentum would show in the second step
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), before - 2 * 0.5)
    assert not any(optimizer.state.values())


def test_decay_is_on_trained_matrices_alone() -> None:
    made = model()
    choose(made, "full_llm")
    before = {name: p.detach().clone() for name, p in made.named_parameters()}
    optimizer = make_optimizer(made, config(weight_decay=0.1))
    for parameter in made.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    optimizer.step()
    decayed = {name for name, p in made.named_parameters() if not torch.equal(p, before[name])}
    assert decayed == {n for n, p in before.items() if n.startswith("language.layers") and p.ndim == 2}
    assert len(optimizer.state) == sum(p.requires_grad for p in made.parameters())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch": 0}, "--batch 0"),
        ({"warmup": 10.0}, "--warmup 10.0"),
        ({"steps": 0}, "--steps 0"),
        ({"optimizer": "sgd", "weight_decay": 0.1}, "--weight-decay"),
        ({"proof": 0.9, "valid": ""}, "--proof"),
        ({"proof": 95.0}, "--proof 95.0"),
    ],
)
def test_what_makes_no_sense(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        replace(paligemma_xvr(), **changes)


def test_sizes_belong_to_random_weights() -> None:
    sizes = replace(paligemma_xvr().sizes, width=64)
    with pytest.raises(UserError, match="cannot be chosen"):
        replace(paligemma_xvr(), sizes=sizes)
    replace(paligemma_xvr(), sizes=sizes, start="random")
    with pytest.raises(UserError, match="--start-heads has no effect"):
        replace(paligemma_xvr(), start="random", start_heads=(4, 4))


def test_presets_know_their_names() -> None:
    for name, preset in PRESETS_VQA.items():
        assert preset().preset == name
