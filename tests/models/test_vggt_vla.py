"""Both forms of the policy on VGGT: what reaches an action, and what must not. The numbers are in tests/parity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small_vggt import OURS, QWEN2, REFERENCE, batch, rows, small
from torch import Tensor

from handeye.errors import UserError
from handeye.models.vggt_vla import QWEN2_05B, QWEN3_06B, Config, Model, sines

FORMS = {"ours": OURS, "qwen2": {**OURS, "language": QWEN2}, "reference": REFERENCE}


@pytest.mark.parametrize("form", FORMS)
def test_together_as_one_by_one(form: str) -> None:
    model = small(FORMS[form])
    asked = batch(model)
    together = model.sample_actions(asked)
    assert together.shape == (3, 4, 7) and together.isfinite().all()
    alone = torch.cat([model.sample_actions(rows(asked, slice(i, i + 1))) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert torch.equal(model.sample_actions(asked), together)


@pytest.mark.parametrize("form", FORMS)
def test_training_reaches_every_weight(form: str) -> None:
    model = small(FORMS[form]).train()
    loss, parts = model.loss(batch(model))
    assert loss.isfinite() and parts and all(part.isfinite() for part in parts.values())
    loss.backward()
    idle = {name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    assert idle <= {"aggregator.patch_embed.mask_token"}, idle


def sensitivity(model: Model, change: Any) -> float:
    """Largest change of an arm's action against the spread of actions over different observations."""
    asked = batch(model)
    before = model.sample_actions(asked)[..., :-1]
    after = model.sample_actions({**asked, **change(asked)})[..., :-1]
    return float((after - before).abs().max())


def padding(asked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"prompt": torch.where(asked["prompt_mask"], asked["prompt"], 33)}


def sentence(asked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"prompt": asked["prompt"].flip(0), "prompt_mask": asked["prompt_mask"].flip(0)}


def views(asked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"image.agentview": asked["image.wrist"], "image.wrist": asked["image.agentview"]}


def picture(asked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"image.wrist": asked["image.wrist"].flip(1)}


def state(asked: dict[str, Tensor]) -> dict[str, Tensor]:
    return {"proprio": asked["proprio"] + 1}


def test_ours_sees_everything_and_no_padding() -> None:
    model = small()
    for change in (sentence, views, picture, state):
        assert sensitivity(model, change) > 1e-2, change.__name__
    assert sensitivity(model, padding) == 0


def test_what_made_the_reference_blind() -> None:
    """Padding reaches its actions, the state does not; and of its pictures a tenth of a mean does."""
    model = small(REFERENCE)
    assert sensitivity(model, padding) > 0 and sensitivity(model, state) == 0
    seen, positions = model.vision_encoder(model._views(batch(model)))
    words, _ = model.language_encoder(batch(model))
    spoken = model.vggt_backbone(seen, words, positions) - model.vggt_backbone.action_queries
    mean = model.vggt_backbone.features(seen, words, positions).mean(1, keepdim=True)
    torch.testing.assert_close(spoken, 0.1 * mean.expand_as(spoken))


def test_bytes_are_pixels() -> None:
    model = small()
    asked = batch(model)
    levels = {n: (x * 255).round().to(torch.uint8) for n, x in asked.items() if n.startswith("image.")}
    same = {n: x.float() / 255 for n, x in levels.items()}
    assert torch.equal(model.sample_actions({**asked, **levels}), model.sample_actions({**asked, **same}))


def test_a_prompt_may_come_without_a_mask() -> None:
    model = small()
    asked = batch(model)
    without = {name: value for name, value in asked.items() if name != "prompt_mask"}
    assert torch.equal(model.sample_actions(without), model.sample_actions(asked))


def test_steps_past_the_end_do_not_teach() -> None:
    model = small()
    asked = batch(model)
    valid = asked["valid"].clone()
    valid[:, 2:] = False
    other = {**asked, "actions": torch.where(valid[..., None], asked["actions"], -asked["actions"])}
    assert torch.equal(model.loss({**asked, "valid": valid})[0], model.loss({**other, "valid": valid})[0])


def test_made_on_meta_it_starts_as_if_made_here() -> None:
    """Angles are computed, not loaded: `to_empty` must not leave noise in them."""
    with torch.device("meta"):
        model = Model(Config(**OURS))
    model.to_empty(device="cpu")
    model.initialise(torch.Generator().manual_seed(0))
    here = Model(Config(**OURS))
    here.initialise(torch.Generator().manual_seed(0))
    asked = batch(here)
    assert torch.equal(model.eval().sample_actions(asked), here.eval().sample_actions(asked))


@pytest.mark.parametrize("form", FORMS)
def test_bfloat16_is_near(form: str) -> None:
    model = small(FORMS[form])
    asked = batch(model)
    exact = model.sample_actions(asked)
    model.compute_in("bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    near = model.sample_actions(asked)
    assert near.dtype == torch.float32
    assert float((near - exact)[..., :-1].abs().mean() / exact[..., :-1].std()) < 0.2


def test_a_published_name_has_the_published_sizes() -> None:
    with pytest.raises(UserError, match=r"not Qwen3-0\.6B") as error:
        replace(QWEN2_05B, name="Qwen3-0.6B")
    assert "qwen2 896 wide, 24 layers" in str(error.value) and "qwen3 1024 wide, 28 layers" in str(error.value)
    assert replace(QWEN3_06B, name="mine").width == 1024


def test_every_place_has_its_own_code() -> None:
    places = torch.cartesian_prod(torch.arange(20), torch.arange(20))
    codes = sines(places, 32)
    assert codes.shape == (400, 32)
    assert torch.cdist(codes, codes).fill_diagonal_(9).min() > 0.1
