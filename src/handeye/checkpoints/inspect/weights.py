"""Names, shapes and types of the tensors in any file of weights, without their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye.checkpoints.backbones import stacks
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.inspect import pickles
from handeye.checkpoints.inspect.report import Report
from handeye.checkpoints.inspect.signs import sign
from handeye.checkpoints.npz import read_npz
from handeye.checkpoints.orbax import read_orbax
from handeye.errors import UserError

SAVED = ("model_state_dict", "state_dict", "model")
"""Where training programs put the weights in what they save."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    shapes: Mapping[str, Sequence[int]]
    types: Mapping[str, int]
    code: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    """What else a training program saved beside them."""


def of_safetensors(paths: Sequence[Path]) -> Weights:
    return _weights(read_tensors(paths, device="meta"))


def of_orbax(folder: Path) -> Weights:
    return _weights(read_orbax(folder, device="meta"))


def of_file(path: Path) -> Weights:
    """UserError where it cannot be read, or is none."""
    kind = sign(path)
    if kind == "safetensors":
        return of_safetensors([path])
    if kind == "npz":
        return _weights(read_npz(path))
    content = pickles.pickle_of(path)
    try:
        names = pickles.names_in(content)
        held = pickles.outline(content)
    except Exception as error:  # whatever a torn or hostile pickle can raise here: it has no other effect
        raise UserError(
            f"{path} cannot be read as a torch file.",
            why=str(error) or type(error).__name__,
            fix="fetch or copy it again",
        ) from None
    inner, entries = held, tuple[str, ...]()
    if isinstance(held, dict):
        inner = next((held[name] for name in SAVED if isinstance(held.get(name), dict)), held)
        entries = tuple(str(name) for name in held) if inner is not held else ()
    found = pickles.tensors_in(inner)
    types: Counter[str] = Counter()
    for shape in found.values():
        types[shape.kind] += _count(shape)
    return Weights(shapes=found, types=dict(types), code=tuple(pickles.code_in(names)), entries=entries)


def _weights(tensors: Mapping[str, Any]) -> Weights:
    types: Counter[str] = Counter()
    for tensor in tensors.values():
        types[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return Weights(shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()}, types=dict(types))


def _count(shape: Sequence[int]) -> int:
    number = 1
    for side in shape:
        number *= side
    return number


def described(weights: Weights) -> dict[str, Any]:
    """The fields of a Report that follow from weights alone."""
    return {
        "backbones": backbones(weights.shapes),
        "parameters": sum(map(_count, weights.shapes.values())),
        "tensors": len(weights.shapes),
        "types": dict(weights.types),
        "code": weights.code,
    }


def backbones(shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    return tuple(f"{s.prefix.rstrip('.')}: {s.name} ({s.evidence()})" for s in stacks(shapes))


def unpublished(shapes: Mapping[str, Sequence[int]]) -> tuple[str, ...]:
    """What says VGGT and is none that was published: trained from nothing, or cut."""
    return tuple(
        f"{stack.prefix.rstrip('.')} is {stack.name}: VGGT-1B's weights are not what this began with, or it was cut"
        for stack in stacks(shapes)
        if (stack.kind == "alternating" or "aggregator." in stack.prefix) and not stack.published
    )


def report(path: Path) -> Report:
    """Of a single file of weights that is no checkpoint by itself."""
    weights = of_file(path)
    kind = {"safetensors": "safetensors", "npz": "NumPy arrays"}.get(sign(path), "a torch file")
    broken = bool(weights.code)
    name = _guess(weights.shapes)
    return Report(
        path=str(path),
        verdict="broken" if broken else "sound",
        what=f"{kind}: {name}" if name else f"{kind} with {len(weights.shapes)} tensors, of no family here",
        layout=kind,
        notes=(
            *(f"saved with {', '.join(weights.entries)}",) * bool(weights.entries),
            *unpublished(weights.shapes),
        ),
        problems=(f"unpickling it would use {', '.join(weights.code)}",) * broken,
        fix="save its state_dict alone, or convert it to safetensors, where it was made" if broken else "",
        **described(weights),
    )


def _guess(shapes: Mapping[str, Sequence[int]]) -> str:
    marks = {
        "VGGT's weights (aggregator and heads)": ("aggregator.frame_blocks.", "frame_blocks.0."),
        "OpenVLA's weights": ("vision_backbone.featurizer.",),
        "weights of pi0 or pi0.5 in openpi's PyTorch names": ("paligemma_with_expert.",),
        "weights of pi0 or pi0.5 in openpi's JAX names": ("PaliGemma/",),
        "PaliGemma's weights in big_vision's names": ("llm/embedder", "params/llm/", "params/img/", "img/embedding"),
        "AtlasVLA's policy": ("vggt_backbone.",),
        "a LoRA adapter": ("base_model.model.",),
        "PaliGemma's weights in transformers' names": ("language_model.model.layers.", "vision_tower.vision_model."),
        "a language model's weights": ("model.layers.", "layers.0.self_attn."),
    }
    return next((what for what, starts in marks.items() if any(name.startswith(starts) for name in shapes)), "")
