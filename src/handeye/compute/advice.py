"""How much memory a model takes, to act and to learn, and what to do on a GPU of some size. From its configuration
alone: parameters are counted on the meta device, name by name; what is kept of a batch follows from widths and tokens.

A weight, in bytes:
    acting          as it is stored; rounded ones 1 + 4 a row (int8) or 0.5 + 1/64 + 4/16384 (nf4: a scale of one byte
                    for 64 numbers, one of four bytes for 256 scales)
    learning        4 itself, 2 its bfloat16 copy under autocast, 4 its gradient, 8 AdamW's averages: 18
    frozen beside   2 in bfloat16, or rounded as above; an adapter's own numbers are learnt: rank x (in + out) x 18

What one token of one transformer block keeps for the way back, in bytes (bfloat16; D width, M hidden width of the MLP,
H all query heads side by side; fused attention, which keeps no matrix of weights):
    ViT             16 D + 4 M, with layer scales 20 D + 4 M
    Llama           16 D + 8 M + 8 H; with adapters 20 D + 8 M + 8 H
    Gemma           20 D + 8 M + 8 H; with adapters as much
These are counted in a test, by hooks on every tensor that autograd saves. With checkpointing a block keeps its input,
2 D, and one block at a time is whole. Acting, one block at a time is whole, and the cache of keys and values stays.

Not in it: the allocator's fragments and CUDA's own memory (`RESERVED` of a GPU), and kernels that hold whole attention
matrices, as attention in single precision does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

import torch
from torch import nn

from handeye.errors import unknown
from handeye.models import FAMILIES

Way = Literal["act", "full", "lora", "qlora"]
Rounded = Literal["int8", "nf4"]

LEARNT = 18.0
RANK = 32
TEXT = 40
"""Tokens of a question of LIBERO's, the longest up to a few."""

RESERVED = 0.08
"""Share of a GPU's memory that is left alone. Assumed: CUDA's context takes 0.5 GB, and the allocator some per cent."""

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A class of them."""

    name: str
    gib: float
    bfloat16: bool
    """Whether it has arithmetic of it."""

    @property
    def room(self) -> float:
        """Bytes that a model may take."""
        return self.gib * GIB * (1 - RESERVED)


GPUS = {
    "T4": Gpu(name="T4 16 GB", gib=15.0, bfloat16=False),  # nvidia-smi of a T4: 15360 MiB
    "24": Gpu(name="24 GB (RTX 4090, L4, A10)", gib=24.0, bfloat16=True),
    "40": Gpu(name="40 GB (A100)", gib=40.0, bfloat16=True),
    "48": Gpu(name="48 GB (L40S, A6000)", gib=48.0, bfloat16=True),
    "80": Gpu(name="80 GB (A100, H100)", gib=80.0, bfloat16=True),
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Transformer blocks of one kind, and how many tokens go through them for one example."""

    kind: Literal["vit", "llama", "gemma"]
    tokens: int
    width: int
    mlp: int
    depth: int
    heads: int
    """Width of all query heads together."""

    cached: int = 0
    """Numbers of keys and values that a token leaves in a layer's cache while acting; 0: nothing is cached."""

    scaled: bool = False
    """Blocks end in layer scales."""

    adapted: bool = True
    """Adapters sit in it, where there are adapters."""

    def kept(self, *, adapters: bool) -> int:
        """Bytes that one block keeps of one example."""
        stream = {"vit": 20 if self.scaled else 16, "llama": 16, "gemma": 20}[self.kind]
        if adapters and self.adapted:
            stream = 20
        gated = self.kind != "vit"
        return self.tokens * (stream * self.width + (8 if gated else 4) * self.mlp + (8 if gated else 0) * self.heads)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Of a model's numbers."""

    stored: float
    """Bytes of all weights as they are stored."""

    total: int
    roundable: int
    """In Linear layers that may be rounded."""

    rows: int
    """Of these layers' weights together."""

    adapters: int
    """Of all adapters together."""

    beside: int
    """Learnt whole beside adapters: parts that have none."""

    largest_head: int
    """Logits of one example."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes."""

    weights: float
    learning: float
    """Copies, gradients and averages of what is learnt, beyond its weights."""

    activations: float
    cache: float

    @property
    def total(self) -> float:
        return self.weights + self.learning + self.activations + self.cache

    def to_json(self) -> dict[str, float]:
        return {**{name: round(value / 1e9, 3) for name, value in asdict(self).items()}, "total": self.total / 1e9}


@dataclass(frozen=True)
class Plan:
    """One way to use a model on a GPU."""

    way: Way
    precision: str
    checkpointing: bool
    batch: int
    memory: Memory

    def __str__(self) -> str:
        again = ", activations computed again" if self.checkpointing else ""
        return f"{self.way} in {self.precision}, {self.batch} at once{again}: {self.memory.total / 1e9:.1f} GB"


@dataclass(frozen=True)
class Advice:
    """For one family on one GPU."""

    gpu: Gpu
    act: Plan | None
    """The most exact precision that fits. None: none does."""

    train: tuple[Plan, ...]
    """Ways that fit, the one that changes most first; each with the largest batch that fits, up to `MOST`."""

    notes: tuple[str, ...]


MOST = 64
"""Examples at once; more are accumulated."""


@lru_cache(maxsize=32)
def count(family: str, config: Any = None, *, rank: int = RANK) -> Counts:
    """By name, on the meta device: nothing is allocated."""
    module = _module(family)
    with torch.device("meta"):
        model: Any = module.Model(module.Config() if config is None else config)
    begins = getattr(model, "quantisable", None)
    roundable = rows = adapters = 0
    adapted: set[str] = set()
    for name, part in model.named_modules():
        if not isinstance(part, nn.Linear | nn.Conv2d):
            continue
        if begins is not None and isinstance(part, nn.Linear) and name.startswith(begins):
            roundable, rows = roundable + part.weight.numel(), rows + part.weight.shape[0]
        if _is_adapted(family, name):
            adapted.add(name)
            out, *inner = part.weight.shape
            adapters += rank * (out + math.prod(inner))
    beside = sum(p.numel() for name, p in model.named_parameters() if _is_whole(family, name))
    return Counts(
        stored=float(sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())),
        total=sum(parameter.numel() for parameter in model.parameters()),
        roundable=roundable,
        rows=rows,
        adapters=adapters,
        beside=beside,
        largest_head=_logits(family, model.config),
    )


def memory(
    family: str,
    config: Any = None,
    *,
    way: Way = "act",
    rounded: Rounded | None = None,
    batch: int = 1,
    checkpointing: bool = False,
    rank: int = RANK,
) -> Memory:
    """Of a batch of `batch`. `rounded` while acting; `qlora` rounds to nf4 by itself. What is frozen while others learn
    is in bfloat16, where the family can compute in it."""
    if way in ("lora", "qlora"):
        config = _in(family, config, "bfloat16")
    counted, blocks = count(family, config, rank=rank), stacks(family, config)
    rounded = "nf4" if way == "qlora" else rounded
    own = counted.stored / counted.total  # mean bytes of a number
    if way in ("lora", "qlora") and config is not None and not hasattr(config, "dtype") and "bf16" in _types(family):
        own = 2.0  # its configuration names no type, and it computes in this one
    stored = counted.total * own
    base = stored - (0 if rounded is None else counted.roundable * own - _rounded(counted, rounded))
    if way == "act":
        whole = max((stack.kept(adapters=False) for stack in blocks), default=0)
        cache = float(batch) * sum(2 * stack.tokens * stack.cached * stack.depth for stack in blocks)
        activations = float(batch) * (whole + 4 * counted.largest_head)
        return Memory(weights=base, learning=0.0, activations=activations, cache=cache)
    learnt = counted.total if way == "full" else counted.adapters + counted.beside
    frozen = 0.0 if way == "full" else base - counted.beside * own
    adapters = way != "full"
    per_block = [(stack, stack.kept(adapters=adapters)) for stack in blocks]
    if checkpointing:
        kept = sum(2.0 * stack.tokens * stack.width * stack.depth for stack in blocks)
        kept += max((block for _, block in per_block), default=0)
    else:
        kept = sum(block * stack.depth for stack, block in per_block)
    return Memory(
        weights=frozen + 4.0 * learnt,
        learning=(LEARNT - 4.0) * learnt,
        activations=float(batch) * (kept + 12 * counted.largest_head),  # logits, their log-softmax and its gradient
        cache=0.0,
    )


def advise(family: str, gpu: Gpu | str, config: Any = None) -> Advice:
    """What fits: acting, in the most exact precision; learning, with the largest batch."""
    if isinstance(gpu, str):
        if gpu not in GPUS:
            raise unknown("class of GPU", gpu, GPUS, fix="use one of these")
        gpu = GPUS[gpu]
    stored = _stored_as(family, config)
    types = [stored, *(name for name in _types(family) if name != "fp32")]
    types = [name for name in types if gpu.bfloat16 or name != "bf16"] or ["fp32"]
    choices: list[tuple[str, Rounded | None]] = [(name, None) for name in dict.fromkeys(types)]
    if count(family, config).roundable:
        choices += [("int8", "int8"), ("nf4", "nf4")]
    act = next(
        (
            Plan("act", name, False, 1, need)
            for name, rounded in choices
            if (need := memory(family, _in(family, config, LONG.get(name)), rounded=rounded)).total < gpu.room
        ),
        None,
    )
    train = tuple(plan for way in _ways(family, config) if (plan := _largest(family, config, way, gpu)) is not None)
    return Advice(gpu, act, train, _notes(family, gpu, act, train))


def _largest(family: str, config: Any, way: Way, gpu: Gpu) -> Plan | None:
    """Without computing activations again if that leaves room for four examples; else with."""
    precision = {"full": "bf16", "lora": "bf16", "qlora": "nf4"}.get(way, "bf16")
    found: list[Plan] = []
    for again in (False, True):
        one, two = (memory(family, config, way=way, batch=n, checkpointing=again).total for n in (1, 2))
        fits = int((gpu.room - one) // max(two - one, 1.0)) + 1
        if fits >= 1:
            batch = min(MOST, 2 ** int(math.log2(fits)))
            need = memory(family, config, way=way, batch=batch, checkpointing=again)
            found.append(Plan(way, precision, again, batch, need))
    plain = next((plan for plan in found if not plan.checkpointing), None)
    return plain if plain is not None and plain.batch >= 4 else next(reversed(found), None)


def _notes(family: str, gpu: Gpu, act: Plan | None, train: tuple[Plan, ...]) -> tuple[str, ...]:
    notes = []
    if not gpu.bfloat16:
        notes.append("no bfloat16 arithmetic: training in bf16 is emulated there, and several times slower")
    if act is None:
        notes.append("does not fit, not even rounded")
    if not train:
        notes.append("no way to train it fits")
    elif train[0].way != "full" and family not in ("tiny",):
        notes.append("full fine-tuning does not fit: spread it over several GPUs (--sharing fsdp)")
    return tuple(notes)


# ---- what a family is made of ----------------------------------------------------------------------------------------


def stacks(family: str, config: Any = None) -> tuple[Stack, ...]:
    """Blocks and tokens of one example, as LIBERO asks."""
    given = _module(family).Config() if config is None else config
    found: tuple[Stack, ...] = _STACKS[_kind(family)](given)
    return found


def _openvla(config: Any) -> tuple[Stack, ...]:
    cameras, chunked = len(config.cameras), hasattr(config, "head")
    towers = [
        Stack(
            kind="vit", tokens=cameras * (tower.prefix + tower.patches), width=tower.width, mlp=tower.mlp,
            depth=tower.depth - 1, heads=tower.width, scaled=tower.layer_scale,
        )
        for tower in config.towers
    ]  # fmt: skip
    seen = cameras * config.towers[0].patches + bool(getattr(config, "proprio_width", None))
    seen += getattr(config, "head", "") == "diffusion"
    spoken = config.chunk * config.action_width
    language = config.language
    share = language.key_value_heads / language.heads
    llama = Stack(
        kind="llama", tokens=seen + TEXT + spoken + 1, width=language.width, mlp=language.mlp, depth=language.layers,
        heads=language.width, cached=0 if chunked else int(2 * share * language.width),
    )  # fmt: skip
    return (*towers, llama)


def _siglip(config: Any, images: int, *, adapted: bool) -> Stack:
    return Stack(
        kind="vit", tokens=images * config.tokens, width=config.width, mlp=config.mlp, depth=config.depth,
        heads=config.width, adapted=adapted,
    )  # fmt: skip


def _gemma(config: Any, tokens: int) -> Stack:
    return Stack(
        kind="gemma", tokens=tokens, width=config.width, mlp=config.mlp, depth=config.depth,
        heads=config.heads * config.head_dim, cached=2 * config.kv_heads * config.head_dim,
    )  # fmt: skip


def _pi(config: Any) -> tuple[Stack, ...]:
    """LIBERO has two of the three cameras; prompts are padded to 48 or 200 tokens (openpi models/pi0_config.py)."""
    prompt = 48 if config.kind == "pi0" else 200
    cameras = min(2, len(config.cameras))
    return (
        _siglip(config.vision, cameras, adapted=False),
        _gemma(config.language, cameras * config.vision.tokens + prompt),
        _gemma(config.expert, config.chunk + (config.kind == "pi0")),
    )


def _paligemma(config: Any) -> tuple[Stack, ...]:
    """One picture and a question."""
    return _siglip(config.vision, 1, adapted=False), _gemma(config.language, config.vision.tokens + TEXT)


def _vggt(config: Any) -> tuple[Stack, ...]:
    vggt, views, language = config.aggregator, len(config.cameras), config.language
    patches = (config.image_size // vggt.patch_size) ** 2
    one: dict[str, Any] = {"kind": "vit", "width": vggt.width, "mlp": 4 * vggt.width, "heads": vggt.width,
                           "scaled": True}  # fmt: skip
    tokens = views * (1 + vggt.registers + patches)
    found = [Stack(tokens=tokens + TEXT, depth=2 * vggt.depth, **one)]
    if vggt.embedding == "dinov2":
        found.insert(0, Stack(tokens=tokens, depth=vggt.vision_depth, **one))
    qwen = Stack(
        kind="llama", tokens=TEXT, width=language.width, mlp=language.mlp, depth=language.layers,
        heads=language.heads * language.head_width,
    )  # fmt: skip
    return (*found, qwen)


def _none(_: Any) -> tuple[Stack, ...]:
    """`tiny` has no transformer: its activations are megabytes."""
    return ()


_STACKS: Mapping[str, Callable[[Any], tuple[Stack, ...]]] = {
    "openvla": _openvla,
    "openvla_oft": _openvla,
    "pi05": _pi,
    "paligemma": _paligemma,
    "vggt_vla": _vggt,
    "tiny": _none,
}

_ADAPTED: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "openvla": (
        ("vision_backbone.", "projector.", "language_model."),
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head", "qkv", "proj", "fc1",
         "fc2", "fc3", "q", "kv"),
    ),
    "pi05": (
        ("language.layers.", "expert.layers."), ("query", "key", "value", "out", "gate", "up", "down"),
    ),
    "vggt_vla": (
        ("aggregator.frame_blocks.", "aggregator.global_blocks.", "vggt_backbone.vggt.aggregator."),
        ("qkv", "proj", "fc1", "fc2"),
    ),
}  # fmt: skip
"""Where names of modules begin, and end, that get an adapter: as in the references (peft 0.11.1's `all-linear`; openpi
models/gemma.py:58-109; AtlasVLA vggt_vla/models/vggt_adapter.py)."""

_HALVES = ("aggregator.", "vggt_backbone.vggt.", "language_encoder.language_model.")
"""Of the policy on VGGT: what it brings along, and what stays as it is beside adapters."""


def _is_adapted(family: str, name: str) -> bool:
    begins, ends = _ADAPTED.get(_kind(family).removesuffix("_oft"), ((), ()))
    return name.startswith(begins) and name.rpartition(".")[2] in ends if begins else False


def _is_whole(family: str, name: str) -> bool:
    kind = _kind(family).removesuffix("_oft")
    if kind == "openvla":
        return not name.startswith(_ADAPTED[kind][0]) or ".scale." in name or ".shift." in name
    if kind == "vggt_vla":
        return not name.startswith(_HALVES)
    return kind == "pi05" and not name.startswith(("language.", "expert."))


def _logits(family: str, config: Any) -> int:
    """Numbers: tokens that are asked about, times the vocabulary."""
    kind = _kind(family)
    if kind == "openvla":
        return int((config.action_width + 1) * config.language.vocabulary)
    if kind == "openvla_oft":
        return int((config.slots + 1) * config.language.vocabulary) if config.head == "tokens" else 0
    return int(TEXT * config.vocabulary) if kind == "paligemma" else 0


def _rounded(counted: Counts, kind: Rounded) -> float:
    """Bytes of the rounded layers."""
    if kind == "int8":
        return counted.roundable + 4.0 * counted.rows
    return counted.roundable * (0.5 + 1 / 64 + 4 / (64 * 256))


def _ways(family: str, config: Any) -> tuple[Way, ...]:
    if not _ADAPTED.get(_kind(family).removesuffix("_oft")):
        return ("full",)
    return ("full", "lora", "qlora") if count(family, config).roundable else ("full", "lora")


def _kind(family: str) -> str:
    return "pi05" if family == "pi0" else family


def _module(family: str) -> Any:
    kind = _kind(family)
    if kind not in FAMILIES:
        raise unknown("model family", family, [*FAMILIES, "pi0"], fix="use one of these")
    module: Any = import_module(FAMILIES[kind])
    if family == "pi0":
        return _Pi0(module)
    return module


class _Pi0:
    """pi0 is pi05's module with another kind."""

    def __init__(self, module: Any) -> None:
        self.Model = module.Model
        self.Config = lambda: replace(module.Config(), kind="pi0", chunk=50)


LONG = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def _in(family: str, config: Any, dtype: str | None) -> Any:
    """The configuration with weights of another type, if there is a choice."""
    given = _module(family).Config() if config is None else config
    return given if dtype is None or not hasattr(given, "dtype") else replace(given, dtype=dtype)


def _stored_as(family: str, config: Any) -> str:
    given = _module(family).Config() if config is None else config
    return next(name for name, long in LONG.items() if long == getattr(given, "dtype", "float32"))


def _types(family: str) -> list[str]:
    """That a family computes in."""
    found = getattr(_module(family).Model, "types", (torch.float32,))
    return [name for name, long in LONG.items() if getattr(torch, long) in found]
