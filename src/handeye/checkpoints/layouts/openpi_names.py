"""The names and shapes of openpi's and big_vision's weights, and ours, in both directions.

Three layouts hold the same numbers:

    tree     JAX: one array per parameter with all layers stacked. big_vision's `.npz` and openpi's Orbax directories.
    torch    openpi's PyTorch `model.safetensors`: a tensor per layer, as ours, under other names.
    ours     the state dict of `handeye.models.pi05` or `handeye.models.paligemma`.

A tree is a flat mapping from paths (`PaliGemma/llm/layers/mlp/linear`) to tensors; the reading half alone starts at
`img/` and `llm/`. Every conversion checks names, shapes and types both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from handeye.checkpoints.load import check_keys
from handeye.errors import UserError
from handeye.models import paligemma, pi05
from handeye.models.gemma import Dtype, GemmaConfig
from handeye.models.siglip import SiglipConfig

Config = paligemma.Config | pi05.Config
Tree = Mapping[str, Tensor]
VLM = "PaliGemma/"
"""Where the reading half is in a tree of pi0 or pi0.5. The action expert is there too: see `of_expert`."""

DEAD = "paligemma_with_expert.gemma_expert.lm_head.weight"
"""openpi's PyTorch model has this output head and never uses it: random numbers (openpi gemma_pytorch.py:57-58)."""

TABLE = "paligemma_with_expert.paligemma.lm_head.weight"
TABLE_TOO = "paligemma_with_expert.paligemma.model.language_model.embed_tokens.weight"
"""The table of tokens has two names there and is stored once, under the first."""


def of_expert(key: str) -> bool:
    """Whether a key of a tree is the action expert's: below llm/, with a component that ends in `_1`. SigLIP has such
    components as well (LayerNorm_1)."""
    parts = key.removeprefix(VLM).split("/")
    return parts[0] == "llm" and any(part.endswith("_1") for part in parts)


# ---- tree <-> ours ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Form:
    """How one layer's part of an array becomes one of our tensors, and back. `heads` is only needed on the way back."""

    into: Callable[[Tensor], Tensor]
    back: Callable[[Tensor, int], Tensor]


SAME = Form(lambda x: x, lambda x, _: x)
DENSE = Form(lambda x: x.T, lambda x, _: x.T)  # (in, out)
HEADS = Form(  # (heads, in, head width)
    lambda x: x.transpose(1, 2).flatten(0, 1), lambda x, heads: x.reshape(heads, -1, x.shape[1]).transpose(1, 2)
)
INNER_HEADS = Form(  # (in, heads, head width)
    lambda x: x.flatten(1).T, lambda x, heads: x.T.reshape(x.shape[1], heads, -1)
)
OUT = Form(  # (heads, head width, out)
    lambda x: x.flatten(0, 1).T, lambda x, heads: x.T.reshape(heads, -1, x.shape[0])
)
HEAD_BIAS = Form(lambda x: x.flatten(), lambda x, heads: x.reshape(heads, -1))  # (heads, head width)
CONVOLUTION = Form(lambda x: x.permute(3, 2, 0, 1), lambda x, _: x.permute(2, 3, 1, 0))  # (H, W, in, out)
POSITION = Form(lambda x: x[0], lambda x, _: x[None])


@dataclass(frozen=True)
class Rule:
    """One array of a tree and our tensors in it."""

    key: str
    names: tuple[str, ...]
    """Several: the array is stacked once more, after the layers. With `{}` for the layer where layers are stacked."""

    form: Form
    heads: int = 0
    layers: int = 0
    """Stacked on the first axis; 0: not stacked."""


def rules(config: Config) -> Iterator[Rule]:
    """Every array of a model's tree, with the prefixes that its kind of tree has."""
    if isinstance(config, paligemma.Config):
        yield from _vision_rules("", config.vision)
        yield from _gemma_rules("", "", "language", config.language, adaptive=False)
        yield Rule("llm/embedder/input_embedding", ("language.embedding.weight",), SAME)
        return
    yield from _vision_rules(VLM, config.vision)
    yield from _gemma_rules(VLM, "", "language", config.language, adaptive=False)
    yield Rule(f"{VLM}llm/embedder/input_embedding", ("language.embedding.weight",), SAME)
    yield from _gemma_rules(VLM, "_1", "expert", config.expert, adaptive=config.kind == "pi05")
    own = {"pi05": ("time_mlp_in", "time_mlp_out"), "pi0": ("state_proj", "action_time_mlp_in", "action_time_mlp_out")}
    for name in ("action_in_proj", "action_out_proj", *own[config.kind]):
        yield Rule(f"{name}/kernel", (f"{name}.weight",), DENSE)
        yield Rule(f"{name}/bias", (f"{name}.bias",), SAME)


def _vision_rules(prefix: str, vision: SiglipConfig) -> Iterator[Rule]:
    img, ours = f"{prefix}img", "vision"
    yield Rule(f"{img}/embedding/kernel", (f"{ours}.patch.weight",), CONVOLUTION)
    yield Rule(f"{img}/embedding/bias", (f"{ours}.patch.bias",), SAME)
    yield Rule(f"{img}/pos_embedding", (f"{ours}.position",), POSITION)
    yield Rule(f"{img}/Transformer/encoder_norm/scale", (f"{ours}.norm.weight",), SAME)
    yield Rule(f"{img}/Transformer/encoder_norm/bias", (f"{ours}.norm.bias",), SAME)
    yield Rule(f"{img}/head/kernel", (f"{ours}.head.weight",), DENSE)
    yield Rule(f"{img}/head/bias", (f"{ours}.head.bias",), SAME)
    block, layer = f"{img}/Transformer/encoderblock", f"{ours}.layers.{{}}"
    attention = f"{block}/MultiHeadDotProductAttention_0"
    parts = [
        (f"{block}/LayerNorm_0/scale", "norm1.weight", SAME),
        (f"{block}/LayerNorm_0/bias", "norm1.bias", SAME),
        (f"{block}/LayerNorm_1/scale", "norm2.weight", SAME),
        (f"{block}/LayerNorm_1/bias", "norm2.bias", SAME),
        (f"{block}/MlpBlock_0/Dense_0/kernel", "up.weight", DENSE),
        (f"{block}/MlpBlock_0/Dense_0/bias", "up.bias", SAME),
        (f"{block}/MlpBlock_0/Dense_1/kernel", "down.weight", DENSE),
        (f"{block}/MlpBlock_0/Dense_1/bias", "down.bias", SAME),
        (f"{attention}/out/kernel", "out.weight", OUT),
        (f"{attention}/out/bias", "out.bias", SAME),
    ]
    for name in ("query", "key", "value"):
        parts.append((f"{attention}/{name}/kernel", f"{name}.weight", INNER_HEADS))
        parts.append((f"{attention}/{name}/bias", f"{name}.bias", HEAD_BIAS))
    for key, name, form in parts:
        yield Rule(key, (f"{layer}.{name}",), form, vision.heads, vision.depth)


def _gemma_rules(prefix: str, mark: str, ours: str, stack: GemmaConfig, *, adaptive: bool) -> Iterator[Rule]:
    """`mark` tells the stacks of one tree apart: nothing, then `_1`."""
    llm, layer, depth = f"{prefix}llm", f"{ours}.layers.{{}}", stack.depth
    attention, mlp = f"{llm}/layers/attn", f"{llm}/layers/mlp{mark}"
    yield Rule(f"{attention}/q_einsum{mark}/w", (f"{layer}.query.weight",), HEADS, stack.heads, depth)
    pair = (f"{layer}.key.weight", f"{layer}.value.weight")
    yield Rule(f"{attention}/kv_einsum{mark}/w", pair, HEADS, stack.kv_heads, depth)
    yield Rule(f"{attention}/attn_vec_einsum{mark}/w", (f"{layer}.out.weight",), OUT, stack.heads, depth)
    yield Rule(f"{mlp}/gating_einsum", (f"{layer}.gate.weight", f"{layer}.up.weight"), DENSE, 0, depth)
    yield Rule(f"{mlp}/linear", (f"{layer}.down.weight",), DENSE, 0, depth)
    norms = [
        (f"{llm}/layers/pre_attention_norm{mark}", f"{layer}.attention_norm", depth),
        (f"{llm}/layers/pre_ffw_norm{mark}", f"{layer}.mlp_norm", depth),
        (f"{llm}/final_norm{mark}", f"{ours}.norm", 0),
    ]
    for key, name, layers in norms:
        if adaptive:
            yield Rule(f"{key}/Dense_0/kernel", (f"{name}.modulation.weight",), DENSE, 0, layers)
            yield Rule(f"{key}/Dense_0/bias", (f"{name}.modulation.bias",), SAME, 0, layers)
        else:
            yield Rule(f"{key}/scale", (f"{name}.scale",), SAME, 0, layers)


def from_tree(tree: dict[str, Tensor], config: Config, *, what: str) -> dict[str, Tensor]:
    """Our state dict. Arrays leave `tree` as they are converted, so memory is needed once and for one array twice."""
    check_keys({k: str(s) for k, s in tree_shapes(config).items()}, _shapes(tree), what=what)
    state = {}
    for rule in rules(config):
        array = tree.pop(rule.key)
        layers = list(array) if rule.layers else [array]
        for index, layer in enumerate(layers):
            for name, part in zip(rule.names, layer if len(rule.names) > 1 else [layer], strict=True):
                state[name.format(index)] = rule.form.into(part).contiguous()
    return state


def to_tree(state: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """The tree of a state dict of ours, gradients included if that is what it holds."""

    def one(rule: Rule, index: int) -> Tensor:
        parts = [rule.form.back(state[name.format(index)], rule.heads) for name in rule.names]
        return torch.stack(parts) if len(parts) > 1 else parts[0]

    return {
        rule.key: torch.stack([one(rule, index) for index in range(rule.layers)]) if rule.layers else one(rule, 0)
        for rule in rules(config)
    }


def tree_shapes(config: Config) -> dict[str, list[int]]:
    """What a tree of this configuration holds."""
    return {key: list(array.shape) for key, array in to_tree(skeleton(config).state_dict(), config).items()}


def skeleton(config: Config) -> nn.Module:
    """The model without its weights."""
    with torch.device("meta"):
        return paligemma.Model(config) if isinstance(config, paligemma.Config) else pi05.Model(config)


# ---- what a tree says of itself --------------------------------------------------------------------------------------


def config_of(tree: Tree, *, what: str, chunk: int | None = None, dtype: Dtype = "float32") -> Config:
    """Every size is in the shapes, but for the number of actions in an answer: give `chunk` for pi0 and pi0.5."""
    whole = any(key.startswith(VLM) for key in tree)
    prefix = VLM if whole else ""
    try:
        vision = _vision_of(tree, f"{prefix}img")
        language = _gemma_of(tree, f"{prefix}llm", "")
        vocabulary = tree[f"{prefix}llm/embedder/input_embedding"].shape[0]
        if not whole:
            return paligemma.Config(vision=vision, language=language, vocabulary=vocabulary, dtype=dtype)
        if chunk is None:
            raise ValueError(f"{what}: pi0 and pi0.5 need the number of actions in an answer")
        return pi05.Config(
            kind="pi0" if "state_proj/kernel" in tree else "pi05",
            vision=vision,
            language=language,
            expert=_gemma_of(tree, f"{prefix}llm", "_1"),
            vocabulary=vocabulary,
            action_width=tree["action_in_proj/kernel"].shape[0],
            chunk=chunk,
            dtype=dtype,
        )
    except KeyError as error:
        known = ", ".join(sorted({"/".join(key.split("/")[:2]) for key in tree})[:8]) or "nothing"
        raise UserError(
            f"{what} is not a model of openpi's or big_vision's.",
            why=f"it has no {error.args[0]}; its names begin with {known}",
            fix="give PaliGemma's .npz, or an openpi checkpoint with params/ or model.safetensors",
        ) from None


def _vision_of(tree: Tree, img: str) -> SiglipConfig:
    block = f"{img}/Transformer/encoderblock"
    depth, width, heads, _ = _axes(tree, f"{block}/MultiHeadDotProductAttention_0/query/kernel", 4)
    patch = _axes(tree, f"{img}/embedding/kernel", 4)[0]
    side = math.isqrt(_axes(tree, f"{img}/pos_embedding", 3)[1])
    mlp = _axes(tree, f"{block}/MlpBlock_0/Dense_0/kernel", 3)[2]
    return SiglipConfig(image_size=side * patch, patch=patch, width=width, depth=depth, mlp=mlp, heads=heads)


def _gemma_of(tree: Tree, llm: str, mark: str) -> GemmaConfig:
    depth, heads, width, head_dim = _axes(tree, f"{llm}/layers/attn/q_einsum{mark}/w", 4)
    kv_heads = _axes(tree, f"{llm}/layers/attn/kv_einsum{mark}/w", 5)[2]
    mlp = _axes(tree, f"{llm}/layers/mlp{mark}/linear", 3)[1]
    return GemmaConfig(width=width, depth=depth, mlp=mlp, heads=heads, kv_heads=kv_heads, head_dim=head_dim)


def _axes(tree: Tree, key: str, count: int) -> list[int]:
    shape = list(tree[key].shape)
    if len(shape) != count:
        raise UserError(
            f"{key} has the shape {shape}.", why=f"it should have {count} axes", fix="this is another model's file"
        )
    return shape


# ---- torch <-> ours --------------------------------------------------------------------------------------------------

_P = "paligemma_with_expert.paligemma.model"
_E = "paligemma_with_expert.gemma_expert.model"
_VISION = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "up": "mlp.fc1", "down": "mlp.fc2", "query": "self_attn.q_proj",
    "key": "self_attn.k_proj", "value": "self_attn.v_proj", "out": "self_attn.out_proj",
}  # fmt: skip
_GEMMA = {
    "attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm", "query": "self_attn.q_proj",
    "key": "self_attn.k_proj", "value": "self_attn.v_proj", "out": "self_attn.o_proj", "gate": "mlp.gate_proj",
    "up": "mlp.up_proj", "down": "mlp.down_proj",
}  # fmt: skip
_LAST = {"scale": "weight", "modulation": "dense"}


def torch_name(name: str) -> str:
    """openpi's PyTorch name of a tensor of ours. Shapes and order of axes are the same."""
    tower, *rest = name.split(".")
    if tower == "vision":
        return f"{_P}.{_siglip_name(rest)}"
    if tower in ("language", "expert"):
        if rest[0] == "embedding":
            return TABLE
        return f"{_P}.language_model.{_gemma_name(rest)}" if tower == "language" else f"{_E}.{_gemma_name(rest)}"
    return name


def _siglip_name(rest: list[str]) -> str:
    inside = "vision_tower.vision_model"
    if rest[0] == "layers":
        _, layer, part, kind = rest
        return f"{inside}.encoder.layers.{layer}.{_VISION[part]}.{kind}"
    if rest[0] == "position":
        return f"{inside}.embeddings.position_embedding.weight"
    outside = {"patch": f"{inside}.embeddings.patch_embedding", "norm": f"{inside}.post_layernorm"}
    return f"{outside.get(rest[0], 'multi_modal_projector.linear')}.{rest[1]}"


def _gemma_name(rest: list[str]) -> str:
    parts = ["layers", rest[1], _GEMMA[rest[2]], *rest[3:]] if rest[0] == "layers" else rest
    return ".".join(_LAST.get(part, part) for part in parts)


def from_torch(tensors: Mapping[str, Tensor], config: pi05.Config, *, what: str) -> dict[str, Tensor]:
    """Our state dict. openpi's unused head is left out; the table may have either of its names."""
    wanted = {torch_name(name): name for name in skeleton(config).state_dict()}
    shapes = {torch_name(name): str(list(x.shape)) for name, x in skeleton(config).state_dict().items()}
    found = dict(tensors)
    if TABLE_TOO in found:
        other = found.pop(TABLE_TOO)
        if TABLE in found and not torch.equal(found[TABLE], other):
            raise UserError(
                f"{what} has two tables of tokens.",
                why=f"{TABLE} and {TABLE_TOO} differ, and the model has one",
                fix="find out which one was trained, and remove the other",
            )
        found[TABLE] = other
    found.pop(DEAD, None)
    check_keys(shapes, _shapes(found), what=what)
    return {wanted[name]: tensor for name, tensor in found.items()}


def to_torch(state: Mapping[str, Tensor], config: pi05.Config) -> dict[str, Tensor]:
    """What openpi's loader takes, which insists on the head that it never uses: zeros. The file's metadata must say
    that the table has two names (`TORCH_METADATA`)."""
    tensors = {torch_name(name): tensor for name, tensor in state.items()}
    table = tensors[TABLE]
    return {**tensors, DEAD: torch.zeros(len(table), config.expert.width, dtype=table.dtype)}


TORCH_METADATA = {"format": "pt", TABLE_TOO: TABLE}
"""Of the file: how safetensors says that one tensor has two names."""


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: str(list(tensor.shape)) for name, tensor in tensors.items()}


HEADS_OF = {1152: 16, 2048: 8}
"""Width -> heads of the published sizes: PyTorch's shapes do not tell heads from their width (openpi models/gemma.py,
siglip.py)."""


def config_of_torch(
    tensors: Mapping[str, Tensor],
    *,
    what: str,
    chunk: int,
    heads: int | None = None,
    vision_heads: int | None = None,
    dtype: Dtype = "float32",
) -> pi05.Config:
    """`heads`: of the language model and the expert alike. Only needed for sizes that were not published."""
    try:
        patch = tensors[torch_name("vision.patch.weight")]
        vision_up = tensors[torch_name("vision.layers.0.up.weight")]
        side = math.isqrt(tensors[torch_name("vision.position")].shape[0])
        vision = SiglipConfig(
            image_size=side * patch.shape[-1],
            patch=patch.shape[-1],
            width=patch.shape[0],
            depth=_depth(tensors, "vision"),
            mlp=vision_up.shape[0],
            heads=_known_heads(vision_heads, patch.shape[0], "vision_heads", what),
        )
        table = tensors[TABLE if TABLE in tensors else TABLE_TOO]
        given = _known_heads(heads, table.shape[1], "heads", what)
        return pi05.Config(
            kind="pi0" if "state_proj.weight" in tensors else "pi05",
            vision=vision,
            language=_stack_of(tensors, "language", given, what),
            expert=_stack_of(tensors, "expert", given, what),
            vocabulary=table.shape[0],
            action_width=tensors["action_in_proj.weight"].shape[1],
            chunk=chunk,
            dtype=dtype,
        )
    except KeyError as error:
        raise UserError(
            f"{what} is not openpi's PyTorch model.",
            why=f"it has no {error.args[0]}",
            fix="give a model.safetensors that openpi's converter or PyTorch training wrote",
        ) from None


def _stack_of(tensors: Mapping[str, Tensor], ours: str, heads: int, what: str) -> GemmaConfig:
    query, key, up = (tensors[torch_name(f"{ours}.layers.0.{part}.weight")] for part in ("query", "key", "up"))
    head_dim = query.shape[0] // heads
    if head_dim * heads != query.shape[0] or key.shape[0] % head_dim:
        raise UserError(
            f"{what} has no {heads} heads.",
            why=f"queries of its {ours} model have {query.shape[0]} rows, keys {key.shape[0]}",
            fix="say how many it has: heads=N",
        )
    return GemmaConfig(
        width=query.shape[1],
        depth=_depth(tensors, ours),
        mlp=up.shape[0],
        heads=heads,
        kv_heads=key.shape[0] // head_dim,
        head_dim=head_dim,
    )


def _depth(tensors: Mapping[str, Tensor], ours: str) -> int:
    before, after = torch_name(f"{ours}.layers.#.query.weight").split("#")
    return sum(name.startswith(before) and name.endswith(after) for name in tensors)


def _known_heads(given: int | None, width: int, option: str, what: str) -> int:
    if given is None and width not in HEADS_OF:
        raise UserError(
            f"{what} does not say how many heads its attention has.",
            why=f"its width of {width} is none of the published ones ({', '.join(map(str, HEADS_OF))})",
            fix=f"say it: {option}=N",
        )
    return given or HEADS_OF[width]
