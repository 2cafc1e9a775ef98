"""Parameters by name, what a block keeps by counting it, and what that comes to on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import small_pi05
import torch
from small_openvla import SIZES, batch, small
from torch import Tensor, nn

from handeye.compute.advice import GPUS, Gpu, Memory, advise, count, memory, stacks
from handeye.compute.precision import megabytes, quantise
from handeye.errors import UserError
from handeye.models import openvla, openvla_oft, pi05
from handeye.models.vit import DINO, SIGLIP
from handeye.train import lora
from handeye.train.config import TrainConfig
from handeye.train.families import openvla as recipes


def test_known_counts() -> None:
    """openvla7b_keys.json has 7,541,237,184 numbers, and the reference's adapters at rank 32 110,828,288 (openvla
    vla-scripts/finetune.py prints them); the head and the projection of OFT have 151,117,831 and 16,818,176."""
    base, oft = count("openvla"), count("openvla_oft")
    assert (base.total, base.stored, base.adapters) == (7_541_237_184, 2 * 7_541_237_184, 110_828_288)
    assert base.roundable == 32 * (4 * 4096**2 + 3 * 4096 * 11008) and base.beside == 0
    assert (oft.total - base.total, oft.adapters) == (151_117_831 + 16_818_176, 110_828_288)
    assert oft.beside == oft.total - base.total
    assert count("openvla", rank=8).adapters * 4 == base.adapters
    with torch.device("meta"):
        targets = recipes.targets(openvla.Model(openvla.Config()))
    assert len(targets) == 439
    assert count("pi05").stored > 4 * count("pi05").total - 1
    half = count("pi05", replace(pi05.Config(), dtype="bfloat16"))
    assert 2 < half.stored / half.total < 2.1, "norms and what touches actions stay in single precision"
    for family in ("pi0", "pi05", "paligemma", "tiny", "vggt_vla"):
        assert count(family).total > 0 and memory(family).total > count(family).stored * 0.99
    with pytest.raises(UserError, match="Did you mean 'openvla'"):
        count("opnvla")


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_rounded_weights_weigh_what_is_said(kind: Any) -> None:
    pytest.importorskip("bitsandbytes")
    wide = openvla.LanguageConfig(width=512, mlp=1024, layers=2, heads=2, key_value_heads=2)
    config = openvla.Config(**{**SIZES, "language": wide})
    model = small(openvla, language=wide)
    quantise(model, kind)
    said = memory("openvla", config, rounded=kind).weights / 1e6
    assert said == pytest.approx(megabytes(model), rel=2e-3)  # tables of the 4-bit code, a kilobyte a layer
    assert said < 0.9 * memory("openvla", config).weights / 1e6


# ---- what a block keeps ----------------------------------------------------------------------------------------------


def kept(model: Any, given: Mapping[str, Tensor], *, autocast: bool) -> int:
    """Bytes of all tensors that autograd saves for the way back, but for the weights."""
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    seen: dict[int, tuple[int, Tensor]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes(), tensor  # kept, or another would get its address
        return tensor

    types = torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), types:
        model.loss(given)
    return sum(size for size, _ in seen.values())


def with_adapters(model: nn.Module, part: str) -> nn.Module:
    model.requires_grad_(False)
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and part in n and n[:7] != "vision."]
    lora.add(model, names, TrainConfig(data=Path("x"), out=Path("x"), lora_rank=2))
    return model


def llama(module: Any, depth: int, *, adapters: bool, width: int = 128, mlp: int = 320) -> tuple[Any, int]:
    language = openvla.LanguageConfig(width=width, mlp=mlp, layers=depth, heads=2, key_value_heads=2)
    model = small(module, language=language, dtype="bfloat16").train()
    if adapters:
        with_adapters(model, "model.layers.")
    given = batch(module, lengths=(40, 40))
    (stack,) = [each for each in stacks(module.__name__.rpartition(".")[2], model.config) if each.kind == "llama"]
    return stack, kept(model, given, autocast=adapters)


def tower(which: int, depth: int, *, adapters: bool) -> tuple[Any, int]:
    towers = [replace(each, width=16, depth=3, heads=2, mlp=16, image_size=84) for each in (DINO, SIGLIP)]  # 36 patches
    towers[which] = replace(towers[which], width=128, mlp=320, depth=depth + 1)
    model = small(openvla, towers=tuple(towers), dtype="bfloat16").train()
    if adapters:
        with_adapters(model, ".blocks.")
    given = batch(openvla, lengths=(5, 5), towers=tuple(towers))
    return stacks("openvla", model.config)[which], kept(model, given, autocast=adapters)


def gemma(depth: int, *, adapters: bool) -> tuple[Any, int]:
    model: Any = small_pi05.policy()
    both = {
        name: replace(getattr(model.config, name), depth=depth, width=128, mlp=320) for name in ("language", "expert")
    }
    model = pi05.Model(replace(model.config, dtype="bfloat16", **both)).train()
    model.initialise(torch.Generator().manual_seed(0))
    if adapters:
        with_adapters(model, ".layers.")
    given = small_pi05.observations()
    given = {**given, "actions": torch.randn(2, model.config.chunk, model.config.action_width)}
    tokens = sum(int(given[f"image_mask.{name}"].any()) * model.config.vision.tokens for name in model.config.cameras)
    _, read, act = stacks("pi05", model.config)
    together = replace(read, tokens=tokens + given["prompt"].shape[1] + act.tokens)
    return together, kept(model, given, autocast=adapters)


MEASURED: dict[str, Callable[..., tuple[Any, int]]] = {
    "Llama, looking back": lambda depth, adapters: llama(openvla, depth, adapters=adapters),
    "Llama, looking ahead": lambda depth, adapters: llama(openvla_oft, depth, adapters=adapters),
    "DINOv2": lambda depth, adapters: tower(0, depth, adapters=adapters),
    "SigLIP": lambda depth, adapters: tower(1, depth, adapters=adapters),
    "both Gemmas": lambda depth, adapters: gemma(depth, adapters=adapters),
}


@pytest.mark.parametrize("what", MEASURED)
@pytest.mark.parametrize("adapters", [False, True])
def test_what_a_block_keeps(what: str, adapters: bool) -> None:
    """Two examples, four blocks against two: what is more is two blocks'."""
    (stack, more), (_, less) = (MEASURED[what](depth, adapters) for depth in (4, 2))
    block = (more - less) / 2 / 2
    assert stack.kept(adapters=adapters) == pytest.approx(block, rel=0.2), (
        f"{stack.kept(adapters=adapters) / block:.3f}"
    )


# ---- what follows ----------------------------------------------------------------------------------------------------


def test_beside_what_is_published() -> None:
    """OFT with LoRA of rank 32: 25 GB with one example, 62 GB with eight (openvla-oft LIBERO.md)."""
    one, eight = (memory("openvla_oft", way="lora", batch=n).total / 1e9 for n in (1, 8))
    assert one == pytest.approx(25, rel=0.05) and eight == pytest.approx(62, rel=0.05)


def test_parts_add_up() -> None:
    plain, again = (memory("openvla_oft", way="lora", batch=4, checkpointing=each) for each in (False, True))
    assert again.activations < plain.activations / 8
    assert (again.weights, again.learning) == (plain.weights, plain.learning)
    assert memory("openvla_oft", way="qlora").weights < 0.45 * plain.weights
    full = memory("openvla", way="full")
    assert full.weights == 4 * 7_541_237_184 and full.learning == 14 * 7_541_237_184
    assert memory("openvla").cache > 0 == memory("openvla_oft").cache, "one by one, or at once"
    whole = Memory(weights=1.0, learning=2.0, activations=3.0, cache=4.0)
    assert whole.total == 10.0 and whole.to_json()["total"] == 1e-8
    tokens = {s.kind: s.tokens for s in stacks("openvla_oft")}
    assert tokens["llama"] == 2 * 256 + 1 + 40 + 56 + 1


@pytest.mark.parametrize("family", ["openvla", "openvla_oft", "pi0", "pi05", "paligemma", "tiny", "vggt_vla"])
def test_more_memory_never_allows_less(family: str) -> None:
    found = [advise(family, name) for name in ("24", "40", "48", "80")]
    for less, more in pairwise(found):
        assert len(more.train) >= len(less.train)
        for plan in (*more.train, *([more.act] if more.act else [])):
            assert plan.memory.total < more.gpu.room
    assert all(each.act is not None for each in found)


def test_the_classes_of_gpus() -> None:
    t4 = advise("openvla_oft", "T4")
    assert t4.act is not None and t4.act.precision == "int8", "15.4 GB of weights do not fit into 15 GiB"
    assert [plan.way for plan in t4.train] == ["qlora"] and "no bfloat16" in t4.notes[0]
    assert [plan.way for plan in advise("openvla_oft", "24").train] == ["lora", "qlora"]
    a100 = advise("openvla_oft", "80")
    assert a100.act is not None and a100.act.precision == "bf16"
    assert str(a100.train[0]).startswith("lora in bf16, 8 at once: ")
    tiny = advise("tiny", Gpu(name="a small one", gib=1.0, bfloat16=False))
    assert tiny.act is not None and tiny.act.precision == "fp32" and tiny.train[0].way == "full"
    nothing = advise("openvla", Gpu(name="a small one", gib=1.0, bfloat16=False))
    assert nothing.act is None and not nothing.train and len(nothing.notes) == 3
    with pytest.raises(UserError, match="class of GPU"):
        advise("openvla", "96")
    assert set(GPUS) == {"T4", "24", "40", "48", "80"}
