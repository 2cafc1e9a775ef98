"""Attention is tried, measured and proven; what is wrong is refused with its reason."""

from __future__ import annotations

from typing import Any

import fake_flash
import pytest
import torch
from small_openvla import small

from handeye.compute import attention
from handeye.compute.attention import Choice, choose, relative_error
from handeye.errors import UserError
from handeye.models import openvla, openvla_oft, tiny


def whys(choice: Choice) -> dict[str, tuple[bool, str]]:
    return {each.name: (each.taken, each.why) for each in choice.tried}


def test_tried_in_order_with_reasons() -> None:
    for module, ahead in ((openvla, False), (openvla_oft, True)):
        model = small(module)
        choice = choose(model)
        assert [each.name for each in choice.tried] == ["flash", "sdpa", "eager"]
        said = whys(choice)
        assert said["flash"][0] is False and ("look ahead" if ahead else "this is cpu") in said["flash"][1]
        assert said["sdpa"][0] and "agrees with eager" in said["sdpa"][1]
        assert said["eager"] == (False, "sdpa is quicker")
        assert (choice.taken, choice.looks_ahead) == ("sdpa", ahead)
        assert choice.error is not None and choice.error < 1e-5
        assert model.language_model.config._attn_implementation == "sdpa"
        assert "sdpa taken" in str(choice) and choice.to_json()["taken"] == "sdpa"


def test_what_is_asked_for_is_taken_or_refused() -> None:
    model = small(openvla_oft)
    choice = choose(model, "eager")
    assert (choice.taken, choice.error, choice.looks_ahead) == ("eager", 0.0, True)
    assert whys(choice)["sdpa"] == (False, "eager was asked for")
    assert model.language_model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match=r"openvla_oft cannot compute with --attention flash(.|\n)*look ahead"):
        choose(model, "flash")
    with pytest.raises(UserError, match=r"openvla cannot compute with --attention flash(.|\n)*this is cpu"):
        choose(small(openvla), "flash")
    with pytest.raises(ValueError, match="look ahead"):
        model.attend_with("flash_attention_2")


def test_a_family_without_a_choice_says_so() -> None:
    model = tiny.Model(tiny.Config())
    assert choose(model) == Choice(taken=None, why="tiny computes in one way and leaves nothing to choose")
    with pytest.raises(UserError, match="tiny takes no --attention sdpa"):
        choose(model, "sdpa")


def test_flash_is_compared_with_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernels are written in torch here; a mistake in them is found."""
    fake_flash.install(monkeypatch)
    monkeypatch.setattr(attention, "_obstacle", lambda *_: "")
    choice = choose(small(openvla))
    assert choice.taken == "flash" and choice.error is not None and choice.error < 1e-5
    real = fake_flash._attend
    monkeypatch.setattr(fake_flash, "_attend", lambda *x, causal, scale: real(*x, causal=causal, scale=2 * scale))
    choice = choose(small(openvla))
    assert choice.taken == "sdpa" and "differ from eager" in whys(choice)["flash"][1]
    monkeypatch.setattr(fake_flash, "_attend", lambda *x, causal, scale: real(*x, causal=False, scale=scale))
    assert choose(small(openvla)).taken == "sdpa"


@pytest.mark.parametrize("module", [openvla, openvla_oft])
def test_looking_the_wrong_way_is_found(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every backend agrees with every other one, and all are wrong: an ordinary transformers under OFT's weights."""
    model = small(module)

    def read(self: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        wrong = openvla.additive(mask, x, causal=self.looks_ahead)
        return self.language_model.model(inputs_embeds=x, attention_mask=wrong, use_cache=False).last_hidden_state

    monkeypatch.setattr(type(model), "read", read)
    said = "does not move every" if module is openvla_oft else "moves an"
    with pytest.raises(UserError, match=rf"sdpa: changing a later token {said} earlier state; eager: changing"):
        choose(model)


def test_a_backend_that_does_not_run_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(openvla)
    attend_with = type(model).attend_with

    def broken(self: Any, backend: str) -> None:
        if backend == "sdpa":
            raise RuntimeError("no kernel image is available\nmore")
        attend_with(self, backend)

    monkeypatch.setattr(type(model), "attend_with", broken)
    choice = choose(model)
    assert choice.taken == "eager"
    assert whys(choice)["sdpa"] == (False, "it does not run: no kernel image is available")


def test_relative_error() -> None:
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 5.0])) == pytest.approx(10**0.5 / 5)
