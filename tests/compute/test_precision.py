"""Casting and quantising: what is changed, what is not, what it costs, and that gradients go through."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_openvla import FAMILIES, batch, small
from small_pi05 import observations, policy
from torch import nn

from handeye.compute.precision import Applied, apply, cast, check_range, megabytes, own_dtype, quantise
from handeye.errors import UserError
from handeye.models import openvla, openvla_oft, tiny

WIDE = openvla.LanguageConfig(width=128, mlp=192, layers=2, heads=2, key_value_heads=2)
"""Wide enough for the package's blocks of 64 numbers to be whole rows."""


def applied(model: nn.Module, wanted: str, form: str = "l1") -> Applied:
    module, config = FAMILIES[form]
    return apply(model, wanted, "cpu", lambda: batch(module, **config))  # type: ignore[arg-type]


def wide(form: str, **config: Any) -> nn.Module:
    module, given = FAMILIES[form]
    model = small(module, language=WIDE, **given, **config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("language_model.model.layers.") and "norm" not in name:
                parameter.mul_(0.5)
    return model


def kinds(model: nn.Module) -> dict[str, type]:
    return {name: type(module) for name, module in model.named_modules() if not list(module.children())}


def test_auto_changes_nothing() -> None:
    model = small(openvla_oft)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    done = apply(model, "auto", "cpu", lambda: pytest.fail("nothing to measure"))
    assert (done.name, done.rest, done.agreement) == ("fp32", "fp32", None)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert applied(small(openvla_oft), "fp32").agreement is None
    assert "as it is stored" in str(done)


@pytest.mark.parametrize(("wanted", "dtype", "most"), [("bf16", torch.bfloat16, 0.03), ("fp16", torch.float16, 3e-3)])
def test_casting_is_measured(wanted: str, dtype: torch.dtype, most: float) -> None:
    model = small(openvla_oft)
    done = applied(model, wanted)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {dtype}
    assert model.config.dtype == str(dtype).removeprefix("torch.")
    assert model.language_model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert done.megabytes == pytest.approx(done.megabytes_before / 2, rel=1e-3)
    assert done.agreement is not None and done.agreement.states is not None and done.agreement.chunk_l1 is not None
    assert 0 < done.agreement.states < most and 0 < done.agreement.chunk_l1 < most * 10
    assert done.agreement.examples == 3 and "fixed examples" in str(done)


def test_tokens_that_agree_are_counted() -> None:
    done = applied(small(openvla), "bf16", "openvla")
    assert done.agreement is not None and done.agreement.tokens is not None
    assert 0 <= done.agreement.tokens <= 1 and done.agreement.chunk_l1 is None


def test_too_large_for_half_precision() -> None:
    model = small(openvla, dtype="bfloat16")
    with torch.no_grad():
        model.projector.fc2.weight[0, 0] = -7e4
        model.projector.fc1.bias[0] = 1e-9
    before = model.projector.fc1.weight.clone()
    with pytest.raises(UserError, match=r"1 tensors(.|\n)*65504: projector.fc2.weight \(7.01e\+04\)") as raised:
        applied(model, "fp16", "openvla")
    assert "--precision bf16" in str(raised.value)
    assert torch.equal(model.projector.fc1.weight, before), "nothing was changed"
    assert applied(model, "int8", "openvla").quantised == 14, "the projector keeps its type"
    with torch.no_grad():
        model.projector.fc2.weight[0, 0] = 0
    assert cast(model, torch.float16) == 1, "one number became 0"
    assert check_range({"x": torch.tensor([1e38, float("inf")])}, torch.bfloat16) == 0, "what is infinite stays so"


@pytest.mark.parametrize("form", ["openvla", "l1", "film"])
@pytest.mark.parametrize(("kind", "most"), [("int8", 0.06), ("nf4", 0.4)])
def test_quantising_is_measured(form: str, kind: str, most: float) -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = wide(form)
    before = kinds(model)
    done = applied(model, kind, form)
    layer = bitsandbytes.nn.Linear4bit if kind == "nf4" else bitsandbytes.nn.Linear8bitLt
    changed = {name for name, type_ in kinds(model).items() if type_ is not before[name]}
    assert {type(model.get_submodule(name)) for name in changed} == {layer}
    assert len(changed) == done.quantised == 2 * 7
    assert all(name.startswith("language_model.model.layers.") for name in changed)
    assert model.language_model.lm_head.weight.dtype == torch.float32
    assert done.agreement is not None and done.agreement.states is not None
    assert 1e-3 < done.agreement.states < most
    assert done.alone == (kind == "int8")
    linear = sum(m.weight.numel() for m in wide(form).language_model.model.layers.modules() if isinstance(m, nn.Linear))
    saved = (done.megabytes_before - done.megabytes) * 1e6 / linear
    assert saved == pytest.approx(4 - (0.53 if kind == "nf4" else 1.0), abs=0.06), "bytes per number"
    assert megabytes(model) == done.megabytes


@pytest.mark.parametrize("kind", ["int8", "nf4"])
@pytest.mark.parametrize("evaluated_before", [False, True])
def test_gradients_go_through_a_rounded_base(kind: str, evaluated_before: bool) -> None:
    """QLoRA: as large as the gradients that the same rounded numbers would give unrounded layers, whether or not the
    model has answered before."""
    pytest.importorskip("bitsandbytes")
    model, given = wide("l1"), batch(openvla_oft)
    quantise(model, kind)  # type: ignore[arg-type]
    model.requires_grad_(False)
    if evaluated_before:
        model.eval().sample_actions(given)
    model.train()
    lora = Lora(model.language_model.model.layers[0].self_attn.q_proj, rank=4)
    model.language_model.model.layers[0].self_attn.q_proj = lora
    loss, _ = model.loss(given)
    loss.backward()
    assert lora.up.grad is not None and bool(lora.up.grad.isfinite().all()) and float(lora.up.grad.norm()) > 0
    exact = wide("l1").train()
    exact.requires_grad_(False)
    other = Lora(exact.language_model.model.layers[0].self_attn.q_proj, rank=4)
    exact.language_model.model.layers[0].self_attn.q_proj = other
    exact.loss(given)[0].backward()
    assert other.up.grad is not None
    alike = torch.nn.functional.cosine_similarity(lora.up.grad.flatten(), other.up.grad.flatten(), dim=0)
    assert alike > (0.95 if kind == "int8" else 0.5)
    assert lora.base.weight.dtype in (torch.int8, torch.uint8) and lora.base.weight.grad is None


class Lora(nn.Module):
    def __init__(self, base: nn.Module, rank: int) -> None:
        super().__init__()
        self.base = base
        random = torch.Generator().manual_seed(3)
        self.down = nn.Parameter(torch.randn(rank, base.in_features, generator=random) * 0.1)
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def test_families_that_cannot_say_so() -> None:
    model = tiny.Model(tiny.Config())
    for wanted, said in (("bf16", "tiny does not compute in bf16"), ("nf4", "tiny cannot be quantised")):
        with pytest.raises(UserError, match=said):
            applied(model, wanted)
    assert applied(model, "auto").name == "fp32"
    with pytest.raises(UserError, match=r"pi05 does not compute in fp16(.|\n)*fp32, bf16"):
        apply(policy(), "fp16", "cpu", observations)


def test_pi05_keeps_what_is_precise_in_single_precision() -> None:
    model = policy()
    cast(model, torch.bfloat16)
    assert model.language.layers[0].query.weight.dtype == torch.bfloat16 == own_dtype(model)
    assert model.action_in_proj.weight.dtype == torch.float32
    assert model.config.dtype == "bfloat16"


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=r"handeye\[quant\]"):
        applied(small(openvla), "nf4", "openvla")
