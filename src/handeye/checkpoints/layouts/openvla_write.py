"""OpenVLA and OpenVLA-OFT as the reference's own code saves them, so that it can load what was trained here: names,
types, component files, statistics, preprocessor and tokenizer. Its Python files are not written: the reference puts
them beside a checkpoint by itself (OFT), or they are copied from openvla/openvla-7b.

What is written is read back and compared bit for bit before the folder gets its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from handeye.checkpoints.layouts import openvla as layout
from handeye.checkpoints.layouts import openvla_config
from handeye.checkpoints.load import Checkpoint
from handeye.console import warn
from handeye.conventions.spec import ActionSpec
from handeye.data.pipeline.published import DINO_MEAN, DINO_STD, HALF, SIZE
from handeye.data.statistics import Statistics, VectorStatistics
from handeye.errors import UserError
from handeye.models import openvla, openvla_oft
from handeye.models.openvla import PAD, LanguageConfig
from handeye.models.vit import TowerConfig
from handeye.records import write_bytes, write_json

SHARD = 5e9
"""Bytes of a file of weights; what transformers of that time takes."""

FILM_RANK = 32
"""The reference puts fresh adapters of its `lora_rank` around the tower before it reads FiLM's file, so that file must
hold adapters of this rank: zeros, since ours are merged (openvla-oft experiments/robot/openvla_utils.py:311-349)."""

ADAPTED = ("qkv", "proj", "fc1", "fc2", "q", "kv")
"""Modules of a tower that get one (peft 0.11.1's `all-linear`)."""

KEEP = "keep it in our layout: theirs has room for sizes that the reference can build"

CLASSES = {
    "AutoConfig": "configuration_prismatic.OpenVLAConfig",
    "AutoModelForVision2Seq": "modeling_prismatic.OpenVLAForActionPrediction",
}
PROCESSOR = {"AutoProcessor": "processing_prismatic.PrismaticProcessor"}
SPECIAL = {"<unk>": 0, "<s>": 1, "</s>": 2, "<PAD>": PAD}


def write(folder: Path, checkpoint: Checkpoint, *, statistics: str = "") -> None:
    """Into an empty folder. `statistics`: the name under which the reference looks for them, its `unnorm_key`."""
    manifest, model = checkpoint.manifest, checkpoint.model
    if not isinstance(model, openvla.Model | openvla_oft.Model):
        raise UserError(
            f"A {manifest.family} cannot be written in OpenVLA's layout.",
            why="it holds openvla and openvla_oft",
            fix="leave out --to, or choose another",
        )
    key = statistics or str(manifest.provenance.get("statistics", ""))
    if not key:
        raise UserError(
            "The statistics have no name.",
            why="in this layout they are filed under a data set's, which the reference asks for (its unnorm_key)",
            fix="say it: --statistics libero_spatial_no_noops (LIBERO's evaluation takes SUITE or SUITE_no_noops)",
        )
    theirs = manifest.provenance.get("layout") == "openvla"  # read from such a folder, never measured here
    found = manifest.statistics if theirs else published_statistics(manifest.statistics, manifest.specs.action)
    told = {key: found.to_json()}
    config = _config(model.config, told)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    plain, components = _split(state, model.config)
    write_json(folder / layout.CONFIG, config)
    write_json(folder / layout.STATISTICS, told)
    _weights(folder, plain)
    for part, tensors in components.items():
        torch.save(tensors, folder / f"{part}--{manifest.step}_checkpoint.pt")
    (vocabulary,) = manifest.pipeline.vocabularies()
    write_bytes(folder / layout.TOKENIZER, vocabulary.content())
    for name, content in _around().items():
        write_json(folder / name, content)
    _read_back(folder, checkpoint, key)


def published_statistics(statistics: Statistics, action: ActionSpec) -> Statistics:
    """As the reference's: the gripper from 0 (closed) to 1 (open) and left out of the normalisation (openvla-oft
    rlds/oxe/transforms.py:827-841, materialize.py:35-39). Published statistics, which have a mask, are so already."""
    if statistics.action.mask is not None:
        return statistics
    grip, vector = action.gripper_index, statistics.action
    span = action.high - action.low

    def opened(row: tuple[float, ...] | None, other: tuple[float, ...] | None = None) -> tuple[float, ...] | None:
        """+1 closes here and 0 is closed there, so the lower end becomes the upper one."""
        if row is None or (source := other or row) is None:
            return None
        turned = (action.high - source[grip]) / span
        return tuple(turned if index == grip else value for index, value in enumerate(row))

    def required(row: tuple[float, ...] | None) -> tuple[float, ...]:
        assert row is not None
        return row

    turned = VectorStatistics(
        mean=required(opened(vector.mean)),
        std=tuple(value / span if index == grip else value for index, value in enumerate(vector.std)),
        min=opened(vector.min, vector.max),
        max=opened(vector.max, vector.min),
        q01=opened(vector.q01, vector.q99),
        q99=opened(vector.q99, vector.q01),
        mask=tuple(index != grip for index in range(vector.width)),
    )
    return replace(statistics, action=turned)


# ---- weights ---------------------------------------------------------------------------------------------------------


def _split(state: Mapping[str, Tensor], config: Any) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    """The model's own tensors, and a state dict for each component file, with DDP's prefix as upstream saves it."""
    plain = dict(state)
    components: dict[str, dict[str, Tensor]] = {}
    head = {"l1": "model.", "diffusion": "noise_predictor.mlp_resnet."}.get(getattr(config, "head", ""), "")
    for part, inner in (("action_head", head), ("proprio_projector", ""), ("noisy_action_projector", "")):
        own = {name: plain.pop(name) for name in list(plain) if name.startswith(f"{part}.")}
        if own:
            components[part] = {f"module.{inner}{n.removeprefix(f'{part}.')}": _own(t) for n, t in own.items()}
    if getattr(config, "film", False):
        tower = {name: tensor for name, tensor in plain.items() if name.startswith("vision_backbone.")}
        components["vision_backbone"] = _film(tower)
        plain = {name: t for name, t in plain.items() if not (".scale." in name or ".shift." in name)}
    return plain, components


def _film(tower: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Blocks are wrapped (`blocks.0.block.attn`), but for FiLM's own layers; adapters that change nothing."""
    made: dict[str, Tensor] = {}
    for name, tensor in tower.items():
        module, _, kind = name.rpartition(".")
        head, found, rest = module.partition(".blocks.")
        number, _, inner = rest.partition(".")
        steers = inner in ("scale", "shift")
        wrapped = f"{head}.blocks.{number}.block.{inner}" if found and not steers else module
        if module.rpartition(".")[2] not in ADAPTED:
            made[f"{wrapped}.{kind}" if wrapped else kind] = _own(tensor)
            continue
        made[f"{wrapped}.base_layer.{kind}"] = _own(tensor)
        if kind == "weight":
            out, *given = tensor.shape
            made[f"{wrapped}.lora_A.default.weight"] = tensor.new_zeros((FILM_RANK, *given))
            made[f"{wrapped}.lora_B.default.weight"] = tensor.new_zeros((out, FILM_RANK, *[1] * (len(given) - 1)))
    return made


def _own(tensor: Tensor) -> Tensor:
    """On the CPU, and no view of something larger, which would be saved with it."""
    return tensor.detach().cpu().contiguous().clone()


def _weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """One file, or shards of at most 5 GB with their index."""
    parts: list[list[str]] = [[]]
    size = 0.0
    for name, tensor in tensors.items():
        own = tensor.numel() * tensor.element_size()
        if parts[-1] and size + own > SHARD:
            parts.append([])
            size = 0.0
        parts[-1].append(name)
        size += own
    names = [f"model-{n:05d}-of-{len(parts):05d}.safetensors" for n in range(1, len(parts) + 1)]
    if len(parts) == 1:
        names = [layout.SINGLE]
    for file, part in zip(names, parts, strict=True):
        mapped = {name: tensors[name].cpu().contiguous() for name in part}
        save_file(mapped, folder / file, metadata={"format": "pt"})
    if len(parts) > 1:
        total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        where = {name: file for file, part in zip(names, parts, strict=True) for name in part}
        write_json(folder / layout.INDEX, {"metadata": {"total_size": total}, "weight_map": where})


# ---- config.json and what stands around it ---------------------------------------------------------------------------


def _config(config: Any, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Fields and values of openvla prismatic/extern/hf/configuration_prismatic.py:72-140, as they are serialised."""
    language, default = config.language, LanguageConfig()
    sizes = {
        theirs: getattr(language, ours)
        for theirs, ours in openvla_config.LANGUAGE.items()
        if getattr(language, ours) != getattr(default, ours) or ours == "vocabulary"
    }
    if "num_attention_heads" in sizes:  # transformers takes as many for keys as for queries, unless it is told
        sizes["num_key_value_heads"] = language.key_value_heads
    reduced = [_tower(id_, tower) for id_, tower in zip(openvla_config.TOWERS, config.towers, strict=True)]
    return {
        "architectures": ["OpenVLAForActionPrediction"],
        "auto_map": CLASSES,
        "hf_llm_id": "meta-llama/Llama-2-7b-hf",
        "llm_backbone_id": "llama2-7b-pure",
        "llm_max_length": default.context,
        "model_type": "openvla",
        "norm_stats": dict(statistics),
        **openvla_config.EXPECTED,
        "text_config": {"model_type": "llama", "pad_token_id": PAD, "torch_dtype": config.dtype, **sizes},
        **({"timm_model_kwargs": reduced} if any(reduced) else {}),
        "torch_dtype": config.dtype,
        "transformers_version": "4.40.1",
        "vision_backbone_id": "dinosiglip-vit-so-224px",
    }


def _tower(name: str, tower: TowerConfig) -> dict[str, Any]:
    """What timm must be told for a tower that is not the published one; nothing for that."""
    published = openvla_config.TOWERS[name]
    if tower == published:
        return {}
    told: dict[str, Any] = {"embed_dim": tower.width, "depth": tower.depth, "num_heads": tower.heads}
    if tower.prefix:
        told["reg_tokens"] = tower.prefix - 1
    if int(tower.width * openvla_config.MLP_RATIO[name]) != tower.mlp:
        told["mlp_ratio"] = tower.mlp / tower.width
    if tower.patch_size != published.patch_size:
        told["patch_size"] = tower.patch_size
    return told


def _around() -> dict[str, Any]:
    """Files that are the same in every checkpoint (processing_prismatic.py:70-145; transformers 4.40's tokenizer)."""
    means, deviations = [list(DINO_MEAN), list(HALF)], [list(DINO_STD), list(HALF)]
    single = [[[float(torch.tensor(x)) for x in row] for row in rows] for rows in (means, deviations)]
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    roles = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<PAD>"}
    return {
        layout.PREPROCESSOR: {
            "auto_map": {"AutoImageProcessor": "processing_prismatic.PrismaticImageProcessor", **PROCESSOR},
            "image_processor_type": "PrismaticImageProcessor",
            "image_resize_strategy": "resize-naive",
            "input_sizes": [[3, SIZE, SIZE]] * 2,
            "interpolations": ["bicubic"] * 2,
            "means": means,
            "processor_class": "PrismaticProcessor",
            "stds": deviations,
            "tvf_crop_params": [{"output_size": [SIZE, SIZE]}] * 2,
            "tvf_do_letterbox": False,
            "tvf_letterbox_fill": None,
            "tvf_normalize_params": [
                {"inplace": False, "mean": mean, "std": deviation} for mean, deviation in zip(*single, strict=True)
            ],
            "tvf_resize_params": [{"antialias": True, "interpolation": 3, "max_size": None, "size": [SIZE, SIZE]}] * 2,
            "use_fused_vision_backbone": True,
        },
        "processor_config.json": {"auto_map": PROCESSOR, "processor_class": "PrismaticProcessor"},
        "generation_config.json": {
            "_from_model_config": True,
            "bos_token_id": SPECIAL["<s>"],
            "eos_token_id": SPECIAL["</s>"],
            "pad_token_id": PAD,
            "transformers_version": "4.40.1",
        },
        "added_tokens.json": {"<PAD>": PAD},
        "special_tokens_map.json": {role: {"content": token, **plain} for role, token in roles.items()},
        "tokenizer_config.json": {
            "add_bos_token": True,
            "add_eos_token": False,
            "added_tokens_decoder": {
                str(number): {"content": token, **plain, "special": True} for token, number in SPECIAL.items()
            },
            "auto_map": PROCESSOR,
            "clean_up_tokenization_spaces": False,
            "legacy": False,
            "model_max_length": LanguageConfig().context,
            "padding_side": "right",
            "processor_class": "PrismaticProcessor",
            "sp_model_kwargs": {},
            "spaces_between_special_tokens": False,
            "tokenizer_class": "LlamaTokenizer",
            "use_default_system_prompt": False,
            **roles,
        },
    }


# ---- proof -----------------------------------------------------------------------------------------------------------


def _read_back(folder: Path, checkpoint: Checkpoint, key: str) -> None:
    """As the reader of published folders sees it: the same sizes, the same bits. UserError where the layout has no room
    for what this model is; a warning where the reference would prepare its inputs in another way."""
    manifest, config = checkpoint.manifest, checkpoint.model.config
    options = {"statistics": key, "family": manifest.family}
    if manifest.family == "openvla_oft":
        assert isinstance(config, openvla_oft.Config)
        options |= {"cameras": "+".join(config.cameras), "denoising_steps": str(config.denoising_steps)}
        options["proprio"] = "no" if config.proprio_width is None else "yes"
    options["crop"] = "yes" if manifest.pipeline.still_steps else "no"
    try:
        again = layout.load(folder, options, quiet=True)
    except UserError as error:
        raise UserError(
            f"This {manifest.family} does not fit OpenVLA's layout.", why=f"{error.what} {error.why}", fix=KEEP
        ) from None
    if again.model.config != config:
        theirs, ours = vars(again.model.config), vars(config)
        raise UserError(
            f"This {manifest.family} does not fit OpenVLA's layout.",
            why="; ".join(f"{n} is {v}, the layout can say {theirs[n]}" for n, v in ours.items() if v != theirs[n]),
            fix=KEEP,
        )
    found, wanted = again.model.state_dict(), checkpoint.model.state_dict()
    if differing := [name for name, tensor in wanted.items() if not torch.equal(tensor.cpu(), found[name])]:
        raise RuntimeError(f"{differing[0]} was written with other bits")
    theirs, ours = (_read_by_pipeline(each.pipeline.to_json()) for each in (again.manifest, manifest))
    if other := [name for name in ours if ours[name] != theirs.get(name)]:
        warn(
            f"the reference will not treat {', '.join(other)} as this checkpoint's pipeline does, which was made for "
            "other data; act with it through handeye"
        )


def _read_by_pipeline(value: Any) -> Any:
    """A pipeline's JSON without the ends of dimensions that its normalisations leave alone: they say nothing."""
    if isinstance(value, list):
        return [_read_by_pipeline(each) for each in value]
    if not isinstance(value, dict):
        return value
    mask = value.get("mask") if "low" in value else None
    return {
        name: [x for x, used in zip(part, mask, strict=True) if used]
        if mask and name in ("low", "high", "constant")
        else _read_by_pipeline(part)
        for name, part in value.items()
    }
