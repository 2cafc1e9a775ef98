"""Which published model a set of tensors is, proven from names and shapes: what a file says of itself may be wrong.

A policy trained on Qwen3-0.6B was loaded with Qwen2-0.5B because a library was too old for the first, and nothing said
so. The two differ in every layer: width, heads, and norms where the other has biases.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Shapes = Mapping[str, Sequence[int]]

PUBLISHED: Mapping[tuple[str, int, int, int, int, int], str] = {
    ("qwen3", 1024, 28, 2048, 1024, 3072): "Qwen3-0.6B",
    ("qwen3", 2048, 28, 2048, 1024, 6144): "Qwen3-1.7B",
    ("qwen2", 896, 24, 896, 128, 4864): "Qwen2-0.5B (or Qwen2.5-0.5B)",
    ("qwen2", 1536, 28, 1536, 256, 8960): "Qwen2-1.5B (or Qwen2.5-1.5B)",
    ("gated", 4096, 32, 4096, 4096, 11008): "Llama-2-7B",
    ("gated", 2048, 18, 2048, 256, 16384): "Gemma-2B",
    ("gated", 1024, 18, 2048, 256, 4096): "Gemma-300M (the action expert of pi0 and pi0.5)",
    ("vit", 1024, 24, 1024, 1024, 4096): "DINOv2 ViT-L/14",
    ("vit", 1152, 27, 1152, 1152, 4304): "SigLIP-So400m/14",
    ("vit", 768, 12, 768, 768, 3072): "a ViT-B",
    ("alternating", 1024, 24, 1024, 1024, 4096): "VGGT-1B",
}
"""Kind, width, layers, rows of the queries, rows of the keys, width of the MLP -> name. From each model's published
config.json; Qwen2.5's small models have Qwen2's sizes, and no shape tells them apart."""

KINDS = {
    "qwen3": "norms on queries and keys, no biases",
    "qwen2": "biases on queries, keys and values, no norms",
    "gated": "a gated MLP, no biases, no norms on queries and keys",
    "vit": "a vision transformer",
    "alternating": "VGGT's frame or global blocks",
}


TITLES = {"qwen3": "a Qwen3", "qwen2": "a Qwen2", "vit": "a vision transformer", "alternating": "a VGGT"}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Equal layers, one after the other."""

    prefix: str
    """Of their names, without the number."""

    kind: str
    width: int
    layers: int
    query: int
    key_value: int
    mlp: int
    biases: bool
    """On queries."""

    norms: bool
    """On queries and keys."""

    head_width: int | None
    """None: no shape says."""

    vocabulary: int | None = None

    @property
    def published(self) -> str | None:
        return PUBLISHED.get((self.kind, self.width, self.layers, self.query, self.key_value, self.mlp))

    @property
    def name(self) -> str:
        """What is published with these sizes."""
        return self.published or f"{TITLES.get(self.kind, 'a transformer')} of no published size"

    def evidence(self) -> str:
        said = [f"{self.width} wide", f"{self.layers} layers", f"queries of {self.query}, keys of {self.key_value}"]
        said += [f"heads of {self.head_width}"] * (self.head_width is not None) + [f"MLP of {self.mlp}"]
        said.append({(True, False): "biases", (False, True): "norms"}.get((self.biases, self.norms), KINDS[self.kind]))
        return ", ".join(said)


LAYER = re.compile(r"^(?P<prefix>.*?)(?P<stack>layers|blocks|frame_blocks|global_blocks)\.0\.")
SEPARATE = ("self_attn.q_proj.weight",)
JOINED = ("attn.qkv.weight",)
UP = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.fc1.weight")


def stacks(shapes: Shapes) -> list[Stack]:
    """Every transformer in it, in the order of its names."""
    found = []
    for name in shapes:
        if name.endswith((*SEPARATE, *JOINED)) and (match := LAYER.match(name)):
            prefix = f"{match['prefix']}{match['stack']}."
            if name.removeprefix(prefix).count(".") <= 4 and (stack := _stack(shapes, prefix, match["prefix"])):
                found.append(stack)
    return found


def _stack(shapes: Shapes, prefix: str, above: str) -> Stack | None:
    layer = {name.removeprefix(f"{prefix}0."): list(shape) for name, shape in shapes.items() if name.startswith(prefix)}
    numbers = {name.removeprefix(prefix).partition(".")[0] for name in shapes if name.startswith(prefix)}
    up = next((layer[name] for name in UP if name in layer), None)
    joined = layer.get("attn.qkv.weight")
    query = layer.get("self_attn.q_proj.weight") or joined
    if up is None or query is None or len(query) != 2 or len(up) != 2:
        return None
    rows = query[0] // 3 if joined else query[0]
    key = rows if joined else layer.get("self_attn.k_proj.weight", query)[0]
    norm = layer.get("self_attn.q_norm.weight") or layer.get("attn.q_norm.weight")
    biases = "self_attn.q_proj.bias" in layer or "attn.qkv.bias" in layer
    if joined or "mlp.fc1.weight" in layer:
        kind = "alternating" if prefix.endswith(("frame_blocks.", "global_blocks.")) else "vit"
    else:
        kind = "qwen3" if norm else "qwen2" if biases else "gated"
    table = next((shapes[n] for n in (f"{above}embed_tokens.weight", f"{above}lm_head.weight") if n in shapes), None)
    return Stack(
        prefix=prefix,
        kind=kind,
        width=query[1],
        layers=len(numbers),
        query=rows,
        key_value=key,
        mlp=up[0],
        biases=biases,
        norms=norm is not None,
        head_width=norm[0] if norm else None,
        vocabulary=table[0] if table else None,
    )


def explain(wanted: Shapes, found: Shapes) -> str:
    """Where two sets of tensors hold different models under one name: which ones. "" if they do not."""
    ours, theirs = ({s.prefix: s for s in stacks(shapes)} for shapes in (wanted, found))
    said = [
        f"{prefix.rstrip('.')} is {theirs[prefix].name} in the file ({theirs[prefix].evidence()}), and "
        f"{stack.name} in the configuration ({stack.evidence()})"
        for prefix, stack in ours.items()
        if prefix in theirs and theirs[prefix] != stack
    ]
    return "; ".join(said)
