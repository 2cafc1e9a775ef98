"""Checkpoints of OpenVLA and OpenVLA-OFT as their own code writes and publishes them, read as they lie there.

    config.json, model-*.safetensors + index    the model (982 tensors at 7B); our modules have the same names
    dataset_statistics.json                     else `norm_stats` of config.json
    tokenizer.json, preprocessor_config.json
    action_head--STEP_checkpoint.pt             OFT: torch files of one component each, keys with DDP's `module.`
    proprio_projector--..., noisy_action_projector--..., vision_backbone--...
    lora_adapter/                               what was merged into the model; with `base=DIR`, merged here again

What the folder does not say (which statistics, how many cameras) is an option, or the one thing it can be. A default
is said aloud.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handeye.checkpoints.adapters import adapter_of, merged, read_adapter
from handeye.checkpoints.files import read_pt, read_tensors
from handeye.checkpoints.layouts import openvla_config
from handeye.checkpoints.load import Checkpoint, assign
from handeye.checkpoints.manifest import Manifest, describe
from handeye.console import say
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.published import oft_pipeline, openvla_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, unmeasured
from handeye.errors import UserError, unknown
from handeye.models import openvla, openvla_oft
from handeye.records import read_json

CONFIG, INDEX, SINGLE = "config.json", "model.safetensors.index.json", "model.safetensors"
STATISTICS, TOKENIZER, PREPROCESSOR = "dataset_statistics.json", "tokenizer.json", "preprocessor_config.json"
ADAPTER = "lora_adapter"
COMPONENTS = ("action_head", "proprio_projector", "noisy_action_projector", "vision_backbone")
HEADS: Mapping[str, openvla_oft.Head] = {"model.": "l1", "noise_predictor.mlp_resnet.": "diffusion"}
"""Prefix of the head's keys -> which head it is."""

CAMERA_SIZE = 256
"""At which both render LIBERO (openvla experiments/robot/libero/libero_utils.py:18-25)."""

PROMPT_LENGTH = 64
"""LIBERO's longest question has fewer tokens."""

FAMILIES = {"openvla": openvla, "openvla_oft": openvla_oft}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may follow the folder: `DIR#statistics=libero_goal,cameras=agentview`."""

    statistics: str = ""
    """Which data set's, where the folder has several."""

    cameras: str = ""
    """OFT: `agentview` or `agentview+wrist`; the layout does not say, and most were trained with both."""

    family: str = ""
    """`openvla_oft` for its form without a head (`tokens`), whose folder looks like OpenVLA's."""

    proprio: str = "yes"
    """`no`: OFT with a head that never saw the arm's state. Otherwise its projector must be there."""

    crop: str = "yes"
    """`no`: trained without image augmentation, so that it acts on whole images."""

    precision: str = ""
    """`fp32`, `bf16` or `fp16`: weights are converted; otherwise the type of the language model's weights."""

    denoising_steps: str = "50"
    """Of OFT's diffusion."""

    base: str = ""
    """The folder of the model that `lora_adapter/` was trained on: merge it here, in single precision."""

    def __post_init__(self) -> None:
        choices = {
            "cameras": ("", "agentview", "wrist", "agentview+wrist"),
            "family": ("", *FAMILIES),
            "proprio": ("yes", "no"),
            "crop": ("yes", "no"),
            "precision": ("", *PRECISIONS),
        }
        for name, known in choices.items():
            if (value := getattr(self, name)) not in known:
                raise unknown(f"{name} of a published checkpoint", value, filter(None, known), fix="use one of these")
        if not self.denoising_steps.isdecimal() or not 1 <= int(self.denoising_steps) <= 50:
            raise UserError(f"denoising_steps={self.denoising_steps} is not possible.", fix="use 1 to 50")


PRECISIONS: Mapping[str, openvla.Dtype] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def recognises(folder: Path) -> bool:
    """Also by OFT's own files alone, so that `load` can say what is missing."""
    path = folder / CONFIG
    if not path.is_file():
        return any(any(folder.glob(f"{part}--*_checkpoint.pt")) for part in COMPONENTS)
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(value, dict) and value.get("model_type") == "openvla"


def load(
    folder: Path,
    options: Mapping[str, str],
    *,
    device: str = "cpu",
    quiet: bool = False,
    apart: bool = False,
    to_fine_tune: bool = False,
) -> Checkpoint:
    """All or nothing, like our own: what is missing, unexpected or of another shape is listed, and nothing is used.
    `quiet`: what was chosen is not said. `apart`: with `base`, its adapter is not merged yet. `to_fine_tune`: as in
    checkpoints/published.py."""
    chosen = _options(options)
    if not (folder / CONFIG).is_file():
        raise UserError(
            f"{folder} is incomplete.",
            why=f"it has files of OpenVLA-OFT's and no {CONFIG}, which says what the model is",
            fix="download the checkpoint again, with all its files",
        )
    raw = read_json(folder / CONFIG, what="a model's configuration")
    openvla_config.check_preprocessor(folder / PREPROCESSOR)
    parts = components(folder)
    _require_whole(folder, parts, chosen)
    if to_fine_tune and not chosen.statistics:
        key, statistics = "", unmeasured(libero.ACTION.width, libero.PROPRIO.width)
    else:
        key, statistics = _statistics(folder, raw, chosen.statistics)
    tensors, files, base = _weights(folder, chosen, device, apart=apart)
    family = chosen.family or ("openvla_oft" if parts else "openvla")
    if parts and family == "openvla":
        raise UserError(
            f"{folder} is no OpenVLA checkpoint.",
            why=f"it has {', '.join(path.name for path in parts.values())}, which are OpenVLA-OFT's",
            fix="leave out family=openvla",
        )
    dtype = _dtype(tensors, chosen, str(folder))
    tensors, head = _with_components(tensors, parts, getattr(torch, dtype), device)
    config = _config(family, raw, tensors, head, chosen, dtype, folder)
    pipeline = _pipeline(family, config, statistics, Vocabulary.of(folder / TOKENIZER), crop=chosen.crop == "yes")
    with torch.device("meta"):
        model: nn.Module = FAMILIES[family].Model(config)
    assign(model, tensors, what=str(folder))
    manifest = Manifest(
        family=family,
        config=to_plain(config),
        files=describe(folder, [*files, *(path.name for path in parts.values()), TOKENIZER], digests=device != "meta"),
        tensors=len(tensors),
        specs=libero.specs(camera_size=CAMERA_SIZE, cameras=config.cameras),
        pipeline=pipeline,
        statistics=statistics,
        merged=(folder / ADAPTER).is_dir() and not apart,
        step=_step(parts),
        provenance={"layout": "openvla", "statistics": key, **base},
    )
    if not quiet:
        _tell(folder, family, config, key, chosen)
        if rounded := [path.name for path in parts.values() if _wider(path, getattr(torch, dtype))]:
            say(f"{', '.join(rounded)}: rounded to {dtype}, as the reference does to act")
    return Checkpoint(manifest=manifest, model=model.eval().requires_grad_(False))


def _options(options: Mapping[str, str]) -> Options:
    known = [field.name for field in fields(Options)]
    for name in options:
        if name not in known:
            raise unknown("option of a published OpenVLA checkpoint", name, known, fix="use one of these")
    return Options(**options)


# ---- weights ---------------------------------------------------------------------------------------------------------


def _weights(
    folder: Path, chosen: Options, device: str, *, apart: bool
) -> tuple[dict[str, Tensor], list[str], dict[str, Any]]:
    """Tensors, the files that they come from, and what is to be recorded of a base."""
    if not chosen.base:
        names = shards(folder)
        return _typed(read_shards(folder, names, device=device), chosen, folder), names, {}
    base, adapter = Path(chosen.base), folder / ADAPTER
    if not adapter.is_dir():
        raise UserError(
            f"{folder} has no {ADAPTER} to merge.", fix="leave out base=, or give the folder that the run saved"
        )
    names = shards(base)
    tensors = _typed(read_shards(base, names, device=device), chosen, base)
    files = [f"{ADAPTER}/{path.name}" for path in sorted(adapter.iterdir()) if path.is_file()]
    recorded = {name: to_plain(file) for name, file in describe(base, names, digests=device != "meta").items()}
    if not apart:
        tensors = merged(tensors, _on(device, adapter), what=str(adapter))
    return tensors, files, {"base": recorded}


def _on(device: str, folder: Path) -> Any:
    adapter = read_adapter(folder)
    sides = ({name: tensor.to(device) for name, tensor in side.items()} for side in (adapter.down, adapter.up))
    return type(adapter)(adapter.scale, *sides)


def shards(folder: Path) -> list[str]:
    """The names of the files with the model's weights."""
    index = folder / INDEX
    if index.is_file():
        return sorted(set(_index(index).values()))
    if (folder / SINGLE).is_file():
        return [SINGLE]
    raise UserError(
        f"{folder} has no weights.",
        why=f"neither {INDEX} nor {SINGLE}"
        + (f", only {ADAPTER}/, what was learned on top of another model" if (folder / ADAPTER).is_dir() else ""),
        fix=f"give the model it was trained on: {folder}#base=DIR"
        if (folder / ADAPTER).is_dir()
        else "download the checkpoint again, with all its files",
    )


def read_shards(folder: Path, names: list[str], *, device: str) -> dict[str, Tensor]:
    """Memory-mapped on a CPU. Each tensor lies in the file that the index says."""
    if absent := [name for name in names if not (folder / name).is_file()]:
        raise UserError(
            f"{folder} is incomplete.",
            why=f"missing: {', '.join(absent)}",
            fix="download the checkpoint again, with all its files",
        )
    tensors = read_tensors([folder / name for name in names], device=device)
    if (folder / INDEX).is_file():
        told = set(_index(folder / INDEX))
        if differing := sorted(told ^ set(tensors)):
            raise UserError(
                f"{folder / INDEX} and the weights disagree on {len(differing)} tensors.",
                why=", ".join(f"{n} ({'only the index' if n in told else 'only a file'} has it)" for n in differing),
                fix="download the checkpoint again, with all its files",
            )
    return tensors


def _index(path: Path) -> dict[str, str]:
    value = read_json(path, what="an index of weights")
    found = value.get("weight_map") if isinstance(value, dict) else None
    plain = isinstance(found, dict) and found and all(isinstance(n, str) and n == Path(n).name for n in found.values())
    if not plain:
        raise UserError(
            f"{path} is no index of weights.",
            why="it should map each tensor to a plain file name under 'weight_map'",
            fix="download the checkpoint again",
        )
    return dict(found or {})


def _typed(tensors: Mapping[str, Tensor], chosen: Options, folder: Path) -> dict[str, Tensor]:
    """All in one type, before anything is merged into them. Those that have it already are not copied."""
    if found := [name for name in tensors if ".lora_" in name or ".base_layer." in name]:
        raise UserError(
            f"{folder} holds a model with its adapter still apart.",
            why=f"{len(found)} tensors such as {found[0]}",
            fix="save the adapter alone, as peft does, and give its model with #base=DIR",
        )
    to = getattr(torch, _dtype(tensors, chosen, str(folder)))
    return {name: t.to(to) if t.is_floating_point() else t for name, t in tensors.items()}


# ---- components ------------------------------------------------------------------------------------------------------


def components(folder: Path) -> dict[str, Path]:
    """As the reference looks for them: the one file with the component's name and "checkpoint" in its own."""
    found = {}
    for part in COMPONENTS:
        paths = sorted(path for path in folder.glob("*checkpoint*") if part in path.name and path.is_file())
        if len(paths) > 1:
            raise UserError(
                f"{folder} has several files for {part}.",
                why=", ".join(path.name for path in paths),
                fix="keep the one that belongs to these weights",
            )
        if paths:
            found[part] = paths[0]
    return found


def _require_whole(folder: Path, parts: Mapping[str, Path], chosen: Options) -> None:
    """Of OFT's files none is optional by itself: a folder that lacks one would be read as another form of the model."""
    head, state = "action_head" in parts, "proprio_projector" in parts
    again = "download the checkpoint again, with all its files"
    if parts and not head and chosen.family != "openvla_oft":
        raise UserError(
            f"{folder} is incomplete.",
            why=f"it has {', '.join(path.name for path in parts.values())}, and no action_head--*_checkpoint.pt",
            fix=f"{again}; or, if it was trained to speak its actions, {folder}#family=openvla_oft",
        )
    if head and not state and chosen.proprio == "yes":
        raise UserError(
            f"{folder} is incomplete.",
            why=f"it has {parts['action_head'].name}, and no proprio_projector--*_checkpoint.pt",
            fix=f"{again}; or, if it was trained without the arm's state, {folder}#proprio=no",
        )
    if state and chosen.proprio == "no":
        raise UserError(
            f"{folder} was trained with the arm's state.",
            why=f"it has {parts['proprio_projector'].name}",
            fix="leave out proprio=no",
        )


def _with_components(
    tensors: dict[str, Tensor], parts: Mapping[str, Path], dtype: torch.dtype, device: str
) -> tuple[dict[str, Tensor], openvla_oft.Head]:
    """Each under its own prefix. FiLM's file is the whole vision tower, and takes the place of the model's."""
    head: openvla_oft.Head = "tokens"
    for part, path in parts.items():
        found = {name: t.to(device, dtype) for name, t in _state(path).items()}
        if part == "vision_backbone":
            tensors = {name: t for name, t in tensors.items() if not name.startswith("vision_backbone.")}
            tensors |= _film(found, path)
            continue
        if part == "action_head":
            prefix = next((p for p in HEADS if all(name.startswith(p) for name in found)), None)
            if prefix is None:
                raise _foreign(path, f"its keys are {', '.join(sorted(found)[:4])}, ...; known: {', '.join(HEADS)}*")
            head = HEADS[prefix]
            found = {name.removeprefix(prefix): t for name, t in found.items()}
        tensors = tensors | {f"{part}.{name}": t for name, t in found.items()}
    return tensors, head


def _state(path: Path) -> dict[str, Tensor]:
    """A state dict, without the prefix that DDP gives to every key."""
    value = read_pt(path)
    if not isinstance(value, dict) or not value or not all(isinstance(t, Tensor) for t in value.values()):
        raise _foreign(path, "it is no dict of tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in value.items()}


def _wider(path: Path, dtype: torch.dtype) -> bool:
    """Whether a file holds numbers that `dtype` must round."""
    return any(torch.promote_types(tensor.dtype, dtype) != dtype for tensor in _state(path).values())


FILM_ALPHA = 16
"""The reference's alpha is min(rank, 16), and no file says which it was (openvla-oft vla-scripts/finetune.py:846)."""


def _film(found: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Its blocks are wrapped (`blocks.0.block.attn`), its adapter was never merged."""
    names = {name: _unwrapped(name) for name in found}
    lora = {names[name]: tensor for name, tensor in found.items() if ".lora_" in name}
    weights = {names[name].replace(".base_layer.", "."): t for name, t in found.items() if ".lora_" not in name}
    if not lora:
        return weights
    ranks = {tensor.shape[0] for name, tensor in lora.items() if ".lora_A." in name}
    if len(ranks) != 1:
        raise _foreign(path, f"its adapter has the ranks {sorted(ranks)}")
    (rank,) = ranks
    return merged(weights, adapter_of(lora, min(rank, FILM_ALPHA) / rank, what=str(path)), what=str(path))


def _unwrapped(name: str) -> str:
    head, found, rest = name.partition(".blocks.")
    if not found:
        return name
    number, _, inner = rest.partition(".")
    return f"{head}.blocks.{number}.{inner.removeprefix('block.')}"


def _step(parts: Mapping[str, Path]) -> int:
    """Of `action_head--150000_checkpoint.pt`. 0: no file says."""
    written = [path.name.partition("--")[2].partition("_")[0] for path in parts.values()]
    return next((int(each) for each in written if each.isdecimal()), 0)


def _foreign(path: Path, why: str) -> UserError:
    return UserError(f"{path} is no component of OpenVLA-OFT.", why=why, fix="use the file that its training saved")


# ---- what it all means -----------------------------------------------------------------------------------------------


def _statistics(folder: Path, raw: Mapping[str, Any], wanted: str) -> tuple[str, Statistics]:
    path = folder / STATISTICS
    found = read_json(path, what="the dataset statistics") if path.is_file() else raw.get("norm_stats")
    where = str(path if path.is_file() else folder / CONFIG)
    if not isinstance(found, dict) or not found:
        raise UserError(
            f"{folder} has no statistics.",
            why=f"no {STATISTICS}, and no norm_stats in {CONFIG}: its actions cannot be given in the robot's units",
            fix="copy dataset_statistics.json from the run that trained it",
        )
    if wanted and wanted not in found:
        raise unknown(f"data set in {where}", wanted, found, fix="use one of these")
    if not wanted and len(found) > 1:
        raise UserError(
            f"{folder} has the statistics of {len(found)} data sets.",
            why=f"in {where}: {', '.join(sorted(found))}",
            fix=f"say which one: {folder}#statistics=NAME",
        )
    key = wanted or next(iter(found))
    return key, Statistics.from_json(found[key], what=f"{where}: {key}")


def _dtype(tensors: Mapping[str, Tensor], chosen: Options, folder: str) -> openvla.Dtype:
    if chosen.precision:
        return PRECISIONS[chosen.precision]
    head = tensors.get("language_model.lm_head.weight")
    name = str(head.dtype).removeprefix("torch.") if head is not None else "float32"  # assign says what is missing
    if name not in PRECISIONS.values():
        raise UserError(
            f"{folder} holds weights of type {name}.", fix=f"say what to compute with: {folder}#precision=bf16"
        )
    return next(dtype for dtype in PRECISIONS.values() if dtype == name)


def _config(
    family: str,
    raw: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    head: openvla_oft.Head,
    chosen: Options,
    dtype: openvla.Dtype,
    folder: Path,
) -> Any:
    towers, language = openvla_config.sizes(raw, what=str(folder / CONFIG))
    cameras = tuple(chosen.cameras.split("+")) if chosen.cameras else None
    if family == "openvla":
        return openvla.Config(cameras=cameras or ("agentview",), towers=towers, language=language, dtype=dtype)
    config = openvla_oft.Config(
        cameras=cameras or libero.CAMERAS,
        head=head,
        proprio_width=libero.PROPRIO.width if any(n.startswith("proprio_projector.") for n in tensors) else None,
        film=any(".blocks.0.scale." in name for name in tensors),
        denoising_steps=int(chosen.denoising_steps),
        towers=towers,
        language=language,
        dtype=dtype,
    )
    for name, width in (("action_head.fc2.bias", config.action_width), ("proprio_projector.fc1.weight", 8)):
        if name in tensors and tensors[name].shape[-1] != width:
            raise UserError(
                f"{folder} was trained on another robot than LIBERO's.",
                why=f"{name} is for {tensors[name].shape[-1]} numbers, LIBERO has {width}",
                fix="use a checkpoint that was fine-tuned on LIBERO",
            )
    return config


def _pipeline(family: str, config: Any, statistics: Statistics, vocabulary: Vocabulary, *, crop: bool) -> Any:
    specs = libero.specs(camera_size=CAMERA_SIZE, cameras=config.cameras)
    if family == "openvla":
        return openvla_pipeline(specs, statistics, vocabulary, prompt_length=PROMPT_LENGTH, augment=crop)
    return oft_pipeline(
        specs,
        statistics,
        vocabulary,
        cameras=config.cameras,
        prompt_length=PROMPT_LENGTH,
        augment=crop,
        tokens=config.head == "tokens",
    )


def _tell(folder: Path, family: str, config: Any, key: str, chosen: Options) -> None:
    """What was chosen, above all where nobody chose it."""
    said = [f"{folder.name} is {family}", f"statistics of {key or 'what it will be fine-tuned on'}", config.dtype]
    if family == "openvla_oft":
        guessed = "" if chosen.cameras else " (the layout does not say; else #cameras=agentview)"
        said += [f"head {config.head}", f"cameras {' and '.join(config.cameras)}{guessed}"]
        said += ["no proprioception"] * (config.proprio_width is None) + ["FiLM"] * config.film
    if chosen.crop == "yes":
        said.append("acts on the middle crop, as trained with image augmentation")
    say("; ".join(said))
