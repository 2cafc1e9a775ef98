"""AtlasVLA's checkpoints, read as its trainer saves them: one `.pt` file (Tingting-Olivia-Du/AtlasVLA, vggt_vla).

    best_model_..._epoch297_step26690_loss0.0017.pt   model_state_dict, config, norm_stats (newer ones), optimizer, ...
    tokenizer.json                                     Qwen's, put there by hand; the reference downloads it every time

`config` is a pickled class of the reference's own. Its fields are read, the class is never looked up. Which language
model the file holds is proven from its tensors: the reference falls back to another without a word, and then saves it
under the first one's name.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from handeye.checkpoints.backbones import Stack, stacks
from handeye.checkpoints.files import Record, read_pt
from handeye.checkpoints.load import Checkpoint, assign
from handeye.checkpoints.manifest import Manifest, describe
from handeye.console import say
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.vggt import NO_INSTRUCTION, atlas_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, VectorStatistics
from handeye.errors import UserError, unknown
from handeye.models import vggt_vla
from handeye.models.vggt import AggregatorConfig
from handeye.models.vggt_vla import QWEN2_05B, SIZES, LanguageConfig, published

MODULE = "configs.model_config"
RECORDS = tuple(
    f"{MODULE}.{name}" for name in ("ModelConfig", "VisionConfig", "LanguageConfig", "VGGTConfig", "ActionHeadConfig")
)
TOKENIZER = "tokenizer.json"
CAMERA_SIZE = 256
"""At which it renders LIBERO (vggt_vla/eval/eval_vla.py)."""

LANGUAGE = "language_encoder.language_model."
AGGREGATOR = "vggt_backbone.vggt.aggregator."
VGGT = "vggt_backbone.vggt."
IDLE = (
    *(f"{VGGT}{head}_head." for head in ("camera", "point", "depth", "track")),
    *(f"{AGGREGATOR}{name}" for name in ("patch_embed.", "camera_token", "register_token")),
)
"""In every checkpoint, and no action depends on them: VGGT's heads, and how VGGT itself looks at pictures."""

MEAN, STD = "action_head.action_mean", "action_head.action_std"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may follow the file: `FILE.pt#cameras=agentview,sentence=constant`."""

    language: str = ""
    """`qwen3` or `qwen2`, where the file names a model that it does not hold: read it as what it is."""

    language_heads: str = ""
    """Of a Qwen2 of no published size; its shapes do not tell."""

    tokenizer: str = ""
    """The file of the language model's tokenizer; else tokenizer.json beside the checkpoint."""

    pad: str = "151643"
    """The id of padding, which the model reads like a word."""

    cameras: str = ""
    """`agentview`, or `agentview+wrist`, what newer code trains with unless told otherwise."""

    pixels: str = ""
    """`unit` ([0, 1], newer code) or `imagenet` (normalised, before commit 02e6e01)."""

    sentence: str = "task"
    """`constant`: the one text that its loader gives every sample of LeRobot's sets."""

    orientation: str = "turned"
    """`turned`: by 180 degrees, as its training pictures are. `raw`: as its own evaluation shows them."""

    def __post_init__(self) -> None:
        choices = {
            "language": ("", "qwen3", "qwen2"),
            "cameras": ("", "agentview", "agentview+wrist"),
            "pixels": ("", "unit", "imagenet"),
            "sentence": ("task", "constant"),
            "orientation": ("turned", "raw"),
        }
        for name, known in choices.items():
            if (value := getattr(self, name)) not in known:
                raise unknown(f"{name} of an AtlasVLA checkpoint", value, filter(None, known), fix="use one of these")
        for name in ("language_heads", "pad"):
            value = getattr(self, name)
            if value and not value.isdecimal():
                raise UserError(f"{name}={value} is not possible.", fix="use a whole number")


def recognises(path: Path) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    candidates = [path] if path.is_file() else sorted(path.glob("*.pt"))
    return [each for each in candidates if each.suffix in (".pt", ".pth") and _is_one(each)]


def _is_one(path: Path) -> bool:
    """By the name of its configuration's class, in a pickle that is not unpickled for it."""
    try:
        with zipfile.ZipFile(path) as archive:
            (name,) = (each for each in archive.namelist() if each.endswith("/data.pkl"))
            content = archive.read(name)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError):
        return False
    return MODULE.encode() in content and b"vggt_backbone." in content


def load(path: Path, options: Mapping[str, str], *, device: str = "cpu", to_fine_tune: bool = False) -> Checkpoint:
    """All or nothing, like our own: what is missing, unexpected or of another shape is listed, and nothing is used. Its
    statistics are part of its head, also where it is read `to_fine_tune`."""
    chosen = _options(options)
    file = _one_file(path)
    saved = read_pt(file, records=RECORDS, mapped=True)
    state, raw = _parts(saved, file)
    language = _language(state, raw["language"], chosen, file)
    newer = "norm_stats" in saved
    cameras = tuple((chosen.cameras or ("agentview+wrist" if newer else "agentview")).split("+"))
    used, idle = _used(state, raw["vggt"], file)
    config = _config(used, raw, language, cameras, file)
    statistics = _statistics(state, saved.get("norm_stats"), file)
    specs = libero.specs(camera_size=CAMERA_SIZE, cameras=cameras)
    pixels = chosen.pixels or ("unit" if newer else "imagenet")
    pipeline = atlas_pipeline(
        specs,
        statistics,
        _vocabulary(file, chosen),
        cameras=cameras,
        image_size=config.image_size,
        prompt_length=config.prompt_length,
        pad=int(chosen.pad),
        turned=chosen.orientation == "turned",
        imagenet=pixels == "imagenet",
        constant=chosen.sentence == "constant",
    )
    with torch.device("meta"):
        model = vggt_vla.Model(config)
    assign(model, {name: tensor.to(device) for name, tensor in used.items()}, what=str(file))
    manifest = Manifest(
        family="vggt_vla",
        config=to_plain(config),
        files=describe(file.parent, [file.name], digests=device != "meta"),
        tensors=len(used),
        specs=specs,
        pipeline=pipeline,
        statistics=statistics,
        merged="lora" in " ".join(name for name in state if ".lora_" in name),
        step=int(saved.get("global_step") or 0),
        provenance={"layout": "vggt_vla", "file": file.name, "named": str(raw["language"]["model_name"])},
    )
    guessed = "" if chosen.pixels else " (by its age; else #pixels=)"
    said = [
        f"{file.name} is AtlasVLA's vggt_vla",
        f"its language model is {language.name}",
        f"cameras {' and '.join(cameras)}",
    ]
    said += [f"pixels {pixels}{guessed}", f"pictures {chosen.orientation}"]
    said += [f"every task is '{NO_INSTRUCTION}'"] * (chosen.sentence == "constant")
    said.append(f"{idle} tensors that no action depends on are left out (VGGT's heads and patches)")
    say("; ".join(said))
    return Checkpoint(manifest=manifest, model=model.eval().requires_grad_(False))


def _options(options: Mapping[str, str]) -> Options:
    known = [field.name for field in fields(Options)]
    for name in options:
        if name not in known:
            raise unknown("option of an AtlasVLA checkpoint", name, known, fix="use one of these")
    return Options(**options)


def _one_file(path: Path) -> Path:
    files = _files(path)
    if len(files) != 1:
        raise UserError(
            f"{path} holds {len(files)} checkpoints.",
            why=", ".join(each.name for each in files) or "no .pt file with AtlasVLA's configuration",
            fix="give the one file",
        )
    return files[0]


def _parts(saved: Any, file: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Tensors, and the configuration as plain values."""
    if not isinstance(saved, dict) or not isinstance(saved.get("config"), Record):
        raise _foreign(
            file, "it has no configuration of AtlasVLA's; the reference would take its defaults without a word"
        )
    state = saved.get("model_state_dict")
    if not isinstance(state, dict) or not state or not all(isinstance(t, Tensor) for t in state.values()):
        raise _foreign(file, "its model_state_dict is no dict of tensors")
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    config = vars(saved["config"])
    raw = {name: vars(part) for name, part in config.items() if isinstance(part, Record)}
    if missing := {"vision", "language", "vggt", "action_head"} - set(raw):
        raise _foreign(file, f"its configuration has no {min(missing)}")
    if wrong := [said for said, found in _unsupported(raw).items() if found]:
        raise _foreign(file, "; ".join(wrong))
    return state, raw


def _unsupported(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    vision, vggt, head, language = (raw[name] for name in ("vision", "vggt", "action_head", "language"))
    return {
        f"its vision tower {vision.get('vision_tower_name')} is not read here": bool(vision.get("use_vision_tower")),
        "SimpleVGGTBackbone cannot run, in the reference neither": not vggt.get("use_pretrained_vggt", False),
        "its action head looks at spatial features": bool(head.get("use_spatial_features")),
        "its language model has an adapter": bool(language.get("use_lora")),
    }


# ---- which language model --------------------------------------------------------------------------------------------


def _language(state: Mapping[str, Tensor], raw: Mapping[str, Any], chosen: Options, file: Path) -> LanguageConfig:
    """What the tensors are. A file that names another model is refused, both named, unless `language=` says what it
    is."""
    found = [s for s in stacks({n: tuple(t.shape) for n, t in state.items()}) if s.prefix == f"{LANGUAGE}layers."]
    if not found or found[0].kind not in ("qwen2", "qwen3"):
        raise _foreign(file, "its language model is no Qwen" if found else f"no tensors {LANGUAGE}layers.*")
    stack, named = found[0], str(raw.get("model_name"))
    claimed = next((name for name in SIZES if name.lower() in named.lower()), named)
    proven = next((name for name in SIZES if (stack.published or "").startswith(name)), None)
    if claimed != proven and chosen.language != stack.kind:
        said = "" if not chosen.language else f" #language={chosen.language} does not change that;"
        raise UserError(
            f"{file} does not hold the language model that it names.",
            why=f"it names {named}, and its tensors are {stack.name}: {stack.evidence()}.{said} The reference falls "
            "back to Qwen2-0.5B without a word where its libraries cannot load what was asked for",
            fix=f"use one that was trained with {named}, or {file}#language={stack.kind} to read it as what it is",
        )
    return _language_config(stack, proven, chosen, file)


def _language_config(stack: Stack, proven: str | None, chosen: Options, file: Path) -> LanguageConfig:
    if proven:
        return published(proven)
    heads = stack.query // stack.head_width if stack.head_width else int(chosen.language_heads or 0)
    if not heads or stack.query % heads or stack.key_value % (stack.query // heads):
        raise UserError(
            f"How many heads the language model of {file} has is not known.",
            why=f"it is {stack.name}, and Qwen2's shapes do not tell; {QWEN2_05B.name} has {QWEN2_05B.heads}",
            fix=f"say it: {file}#language=qwen2,language_heads=N",
        )
    head_width = stack.query // heads
    return LanguageConfig(
        name=stack.name,
        kind="qwen3" if stack.kind == "qwen3" else "qwen2",
        width=stack.width,
        layers=stack.layers,
        heads=heads,
        key_value_heads=stack.key_value // head_width,
        head_width=head_width,
        mlp=stack.mlp,
        vocabulary=stack.vocabulary or 0,
    )


# ---- everything else -------------------------------------------------------------------------------------------------


def _used(state: Mapping[str, Tensor], vggt: Mapping[str, Any], file: Path) -> tuple[dict[str, Tensor], int]:
    """What an action depends on, adapters merged; and how many tensors are left out."""
    used = {n: t for n, t in state.items() if not n.startswith(IDLE) and n not in (MEAN, STD)}
    idle = sum(name.startswith(IDLE) for name in state)
    bases = [name for name in used if name.endswith(".base.weight")]
    if bases and not vggt.get("use_vggt_lora"):
        raise _foreign(file, f"it has adapters ({bases[0]}), and its configuration none")
    for base in bases:
        stem = base.removesuffix(".base.weight")
        down, up = used.pop(f"{stem}.lora_A.weight"), used.pop(f"{stem}.lora_B.weight")
        scale = float(vggt["vggt_lora_alpha"]) / float(vggt["vggt_lora_rank"])
        used[f"{stem}.weight"] = used.pop(base) + up @ down * scale
        if f"{stem}.base.bias" in used:
            used[f"{stem}.bias"] = used.pop(f"{stem}.base.bias")
    return used, idle


def _config(
    state: Mapping[str, Tensor],
    raw: Mapping[str, Mapping[str, Any]],
    language: LanguageConfig,
    cameras: tuple[str, ...],
    file: Path,
) -> vggt_vla.Config:
    """Sizes from the shapes; from the configuration what has none."""
    try:
        head = raw["action_head"]
        V = state["vggt_backbone.cross_attn_norm.weight"].shape[0]
        patches, width = state["vision_encoder.pos_embed"].shape[1:]
        patch = state["vision_encoder.patch_embed.weight"].shape[-1]
        last = max(int(n.split(".")[2]) for n in state if re.fullmatch(r"action_head\.mlp\.\d+\.weight", n))
        numbers, action_width = state[f"action_head.mlp.{last}.weight"].shape[0], int(head["action_dim"])
        return vggt_vla.Config(
            form="reference",
            cameras=cameras,
            image_size=math.isqrt(patches) * patch,
            action_width=action_width,
            chunk=numbers // action_width,
            prompt_length=state["language_encoder.pos_embed"].shape[1],
            aggregator=AggregatorConfig(
                width=V,
                depth=len({n.split(".")[4] for n in state if n.startswith(f"{AGGREGATOR}frame_blocks.")}),
                heads=V // state[f"{AGGREGATOR}frame_blocks.0.attn.q_norm.weight"].shape[0],
                embedding="none",
            ),
            language=language,
            width=width,
            patch_size=patch,
            queries=state["vggt_backbone.action_queries"].shape[1],
            head_width=state["action_head.mlp.0.weight"].shape[0],
            head_layers=last // 4,  # Linear, LayerNorm, ReLU, Dropout
            dropout=float(head["dropout"]),
            tanh=bool(head.get("use_tanh_output", False)),
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError, TypeError) as error:
        raise _foreign(file, f"its sizes cannot be read from its tensors ({error!r})") from None


def _statistics(state: Mapping[str, Tensor], norm_stats: Any, file: Path) -> Statistics:
    """Of its actions, which its head carries. Proprioception it never saw: zeros."""
    if MEAN not in state or STD not in state:
        raise _foreign(file, f"no {MEAN} and {STD}")
    mean, std = (tuple(float(x) for x in state[name].double()) for name in (MEAN, STD))
    if len(mean) != libero.ACTION.width:
        raise _foreign(file, f"its actions have {len(mean)} numbers, LIBERO's {libero.ACTION.width}")
    if isinstance(norm_stats, Mapping):
        told = [norm_stats.get("action_mean"), norm_stats.get("action_std")]
        for said, carried in zip(told, (mean, std), strict=True):
            if said is not None and not torch.allclose(torch.tensor(said), torch.tensor(carried), atol=1e-6):
                raise _foreign(file, "its norm_stats and its action head carry different statistics")
    if not all(map(math.isfinite, mean + std)) or min(std) <= 0:
        raise _foreign(file, f"its actions' deviations are {std}")
    nothing = (0.0,) * libero.PROPRIO.width
    return Statistics(action=VectorStatistics(mean=mean, std=std), proprio=VectorStatistics(mean=nothing, std=nothing))


def _vocabulary(file: Path, chosen: Options) -> Vocabulary:
    path = Path(chosen.tokenizer) if chosen.tokenizer else file.parent / TOKENIZER
    if not path.is_file():
        raise UserError(
            f"{file} has no tokenizer.",
            why=f"{path} does not exist; the reference downloads it from the hub each time",
            fix=f"put the language model's {TOKENIZER} beside it, or give {file}#tokenizer=FILE",
        )
    return Vocabulary.of(path)


def _foreign(file: Path, why: str) -> UserError:
    return UserError(
        f"{file} is no AtlasVLA checkpoint that can be read.", why=why, fix="use one that its trainer saved"
    )
