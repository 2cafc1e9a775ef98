"""What a model computes in: a type for all of it, or whole numbers of 8 or 4 bits for most of the language model.

Quantised are the Linear layers inside the language model's blocks, 6.5 of OpenVLA's 7.5 billion numbers. Everything
else keeps its type, on purpose: `lm_head` chooses among words whose logits lie close together, and is 2 % of the
weights; the towers' and the projector's features are what all else is computed from; the action heads' numbers *are*
the answer, and were never trained against rounding.

What it costs is measured, not promised: the same fixed input before and after, states and answers compared.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from handeye.compute.attention import relative_error, short_states
from handeye.compute.config import Precision as Wanted
from handeye.errors import UserError

Kind = Literal["int8", "nf4"]

Batch = Mapping[str, Tensor]
"""As a model takes it."""

DTYPES: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
NAMES: Mapping[torch.dtype, str] = {dtype: name for name, dtype in DTYPES.items()}

OUTLIERS = 6.0
"""int8: columns of the input with larger numbers are multiplied in half precision (Dettmers et al. 2022, LLM.int8)."""

BFLOAT_CAPABILITY = (8, 0)
"""Of the GPU: older ones (T4, V100) have no bfloat16 arithmetic."""

HEADROOM = 1.2
"""Of the weights' size: what must be free on the GPU to measure the model there before it is quantised."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The same input, before and after."""

    states: float | None
    """Difference of the language model's states, relative to their norm. None: the family has none to compare."""

    tokens: float | None = None
    """Share of action tokens that are the same, of a family that speaks them."""

    chunk_l1: float | None = None
    """Mean difference of the normalised actions, of the others."""

    examples: int = 0

    def __str__(self) -> str:
        parts = [] if self.states is None else [f"states differ by {self.states:.2%}"]
        if self.tokens is not None:
            parts.append(f"{self.tokens:.1%} of action tokens are the same")
        if self.chunk_l1 is not None:
            parts.append(f"normalised actions differ by {self.chunk_l1:.2g} on average")
        return f"{', '.join(parts)} (measured on {self.examples} fixed examples)"


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a model computes in now."""

    name: str
    """`bf16`, `fp16`, `fp32`, `int8`, `nf4`."""

    rest: str
    """Type of what is not quantised."""

    why: str
    megabytes_before: float
    megabytes: float
    """Of the weights, 1e6 bytes."""

    quantised: int = 0
    """Linear layers."""

    vanished: int = 0
    """Numbers that are 0 now and were not: too small for the type."""

    agreement: Agreement | None = None
    """None: nothing was changed."""

    @property
    def alone(self) -> bool:
        """Rows must be computed one by one: which columns int8 takes for outliers depends on every row."""
        return self.name == "int8"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        rest = f", the rest in {self.rest}" if self.quantised else ""
        size = f"{self.megabytes:,.0f} MB of weights"
        if self.agreement is None:
            return f"precision: {self.name}{rest}, {size} ({self.why})"
        lost = f"; {self.vanished:,} numbers became 0" if self.vanished else ""
        size += f", were {self.megabytes_before:,.0f}"
        return f"precision: {self.name}{rest}, {size} ({self.why}): {self.agreement}{lost}"


def apply(model: Any, wanted: Wanted, device: str | torch.device, fixed: Callable[[], Batch]) -> Applied:
    """Move `model` to `device` in this precision. `fixed` makes the batch, always the same, on which a change is
    measured. On a GPU without room for the model as it is, that is measured on the CPU."""
    device = torch.device(device)
    before = megabytes(model)
    own = own_dtype(model)
    target, why = _target(model, wanted, device, own)
    kind: Kind | None = wanted if wanted in ("int8", "nf4") else None
    if kind is None and target == own:
        model.to(device)
        return Applied(name=NAMES[own], rest=NAMES[own], why=why, megabytes_before=before, megabytes=before)
    if kind is not None:
        _require_quantisable(model)
        bitsandbytes()
    model.to(_where(model, kind, device))
    batch = fixed()
    reference = _measure(model, batch)
    vanished = cast(model, target) if target != own else 0
    quantised = quantise(model, kind, device) if kind is not None else 0
    model.to(device)
    found = _measure(model, batch)
    return Applied(
        name=kind or NAMES[target],
        rest=NAMES[target],
        why=why,
        megabytes_before=before,
        megabytes=megabytes(model),
        quantised=quantised,
        vanished=vanished,
        agreement=_agreement(reference, found),
    )


def own_dtype(model: nn.Module) -> torch.dtype:
    """The type that most of a model's numbers have."""
    counts: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point():
            counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
    return max(counts, key=lambda dtype: counts[dtype])


def _target(model: Any, wanted: Wanted, device: torch.device, own: torch.dtype) -> tuple[torch.dtype, str]:
    """The type of what is not quantised, and why it is that."""
    if wanted in DTYPES:
        _require_castable(model, wanted)
        return DTYPES[wanted], "asked for"
    why = "as it is stored" if wanted == "auto" else "asked for"
    if own == torch.bfloat16 and device.type == "cuda" and torch.cuda.get_device_capability(device) < BFLOAT_CAPABILITY:
        gpu = torch.cuda.get_device_name(device)
        if torch.float16 in getattr(model, "types", ()):
            return torch.float16, f"{gpu} has no bfloat16"
        return torch.float32, f"{gpu} has no bfloat16, and the family does not compute in float16"
    return own, why


def _require_castable(model: Any, wanted: str) -> None:
    family = type(model).__module__.rpartition(".")[2]
    types = getattr(model, "types", (torch.float32,))
    if DTYPES[wanted] not in types:
        raise UserError(
            f"{family} does not compute in {wanted}.",
            why=f"it does in {', '.join(NAMES[dtype] for dtype in types)}",
            fix=f"use --precision {NAMES[types[0]]}, or leave it out",
        )


def _require_quantisable(model: Any) -> None:
    if not hasattr(model, "quantisable"):
        family = type(model).__module__.rpartition(".")[2]
        raise UserError(
            f"{family} cannot be quantised.",
            why="its language model is not made of plain Linear layers, or it is so small that nothing is gained",
            fix="use --precision bf16, or leave it out",
        )


def _where(model: nn.Module, kind: Kind | None, device: torch.device) -> torch.device:
    """Where the model as it is can be measured."""
    if kind is None or device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if free > HEADROOM * 1e6 * megabytes(model) else torch.device("cpu")


# ---- casting ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def cast(model: Any, dtype: torch.dtype) -> int:
    """The whole model, as its family does it. UserError, before anything is changed, where a number is too large for
    the type. Returns how many became 0."""
    vanished = check_range(model.state_dict(), dtype)
    model.compute_in(str(dtype).removeprefix("torch."))
    return vanished


@torch.no_grad()
def check_range(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> int:
    """Every finite number stays finite in `dtype`. Returns how many numbers become 0."""
    most, vanished = torch.finfo(dtype).max, 0
    over = []
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or tensor.dtype == dtype or not tensor.numel():
            continue
        become = tensor.to(dtype)
        if bool((become.isinf() & tensor.isfinite()).any()):
            over.append(f"{name} ({float(tensor.abs().max()):.3g})")
        vanished += int(tensor.count_nonzero()) - int(become.count_nonzero())
    if over:
        raise UserError(
            f"{len(over)} tensors hold numbers that are too large for {NAMES[dtype]}.",
            why=f"it ends at {most:.5g}: {', '.join(over)}",
            fix="use --precision bf16 (as large as float32), or int8 or nf4 with a bf16 rest",
        )
    return vanished


# ---- quantising ------------------------------------------------------------------------------------------------------


def bitsandbytes() -> ModuleType:
    # It says in every layer that int8 casts its input to float16 (so does docs/models/openvla.md, once), and that it
    # found no quicker kernel on the hub, from where nothing is wanted.
    for name in ("autograd._functions", "backends.cpu.ops"):
        logging.getLogger(f"bitsandbytes.{name}").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, on what the package imports
            import bitsandbytes
    except ImportError as error:
        raise UserError(
            "Weights of 8 or 4 bits need one more package.", why=str(error), fix="pip install 'handeye[quant]'"
        ) from None
    found: ModuleType = bitsandbytes
    return found


def quantise(model: Any, kind: Kind, device: str | torch.device = "cpu") -> int:
    """Replace the language model's Linear layers, one after the other, by frozen ones on `device`; the rest stays where
    it is. Gradients go through them to what is trained beside them (QLoRA). Returns how many."""
    _require_quantisable(model)
    package = bitsandbytes()
    found = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(model.quantisable)
    ]
    for name in found:
        parent, _, last = name.rpartition(".")
        home = model.get_submodule(parent)
        linear = getattr(home, last)
        if kind == "int8":
            check_range({f"{name}.weight": linear.weight}, torch.float16)  # what it is rounded from
        setattr(home, last, _quantised(package, linear, kind).to(device))
    return len(found)


def _quantised(package: ModuleType, linear: nn.Linear, kind: Kind) -> nn.Module:
    """Rounded when it is moved to its device."""
    weight = linear.weight.detach()
    shape = {"input_features": linear.in_features, "output_features": linear.out_features}
    layer: Any
    with torch.device("meta"):
        if kind == "nf4":
            layer = package.nn.Linear4bit(
                **shape, bias=linear.bias is not None, compute_dtype=weight.dtype, quant_type="nf4"
            )
        else:
            layer = package.nn.Linear8bitLt(
                **shape, bias=linear.bias is not None, has_fp16_weights=False, threshold=OUTLIERS
            )
    if kind == "nf4":
        # Where the CPU has bfloat16 instructions the package packs weights for inference, and then has no gradients.
        layer.support_avx512bf16_for_cpu = False
        layer.weight = package.nn.Params4bit(weight, requires_grad=False, quant_type="nf4", module=layer)
    else:
        layer.weight = package.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
    if linear.bias is not None:
        layer.bias = nn.Parameter(linear.bias.detach(), requires_grad=False)
    return layer.train(linear.training)


def megabytes(model: nn.Module) -> float:
    """Of all weights as they are kept now, what 4-bit blocks need beside them included."""
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            total += sum(part.numel() * part.element_size() for part in state.as_dict(packed=True).values())
        elif (scales := getattr(parameter, "SCB", None)) is not None:
            total += scales.numel() * scales.element_size()
    return total / 1e6


# ---- measuring -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def _measure(model: Any, batch: Batch) -> tuple[Tensor | None, Tensor]:
    """(states of the short input, answers to the batch), on the CPU."""
    device = next(model.parameters()).device
    answers = model.sample_actions({name: value.to(device) for name, value in batch.items()})
    return short_states(model, device), answers.cpu()


def _agreement(before: tuple[Tensor | None, Tensor], after: tuple[Tensor | None, Tensor]) -> Agreement:
    (old_states, old), (new_states, new) = before, after
    states = None if old_states is None or new_states is None else relative_error(new_states, old_states)
    if old.is_floating_point():
        return Agreement(states=states, chunk_l1=float((new.float() - old.float()).abs().mean()), examples=len(old))
    return Agreement(states=states, tokens=float((new == old).float().mean()), examples=len(old))
