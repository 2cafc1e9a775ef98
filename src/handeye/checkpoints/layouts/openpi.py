"""pi0 and pi0.5 as openpi publishes and saves them, read as they lie there.

    params/                                 weights: an Orbax directory (JAX)
    model.safetensors                       or openpi's PyTorch model
    NAME.npz                                or the JAX arrays in one file, which is then given in the folder's place
    assets/<asset>/norm_stats.json          statistics of state and actions
    paligemma_tokenizer.model               put there by hand; openpi keeps it in its own cache, which is looked in too

A LoRA in the JAX arrays is added into the weights (openpi_lora.py). What the folder does not say is an option,
`DIR#chunk=10,precision=fp32`, or the value of openpi's own LIBERO configuration, which is said aloud.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor

from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.load import Checkpoint, assign
from handeye.checkpoints.manifest import Manifest, describe
from handeye.checkpoints.orbax import ITEM, is_orbax
from handeye.checkpoints.trees import read_tree
from handeye.console import say
from handeye.conventions import libero
from handeye.conventions.plain import to_plain
from handeye.data.pipeline.published import SIZE, openpi_pipeline
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import Statistics, from_norm_stats, unmeasured
from handeye.errors import UserError, unknown
from handeye.models import pi05
from handeye.models.gemma import Dtype, precision
from handeye.records import read_json

WEIGHTS, ASSETS, STATISTICS = "model.safetensors", "assets", "norm_stats.json"
TOKENIZER = "paligemma_tokenizer.model"
CAMERA_SIZE = 256
"""At which openpi renders LIBERO (openpi examples/libero/main.py)."""

CHUNK = {"pi05": 10, "pi0": 50}
"""action_horizon of pi05_libero and pi0_libero (openpi training/config.py:651-763)."""

PRECISIONS: Mapping[str, Dtype] = {"fp32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may follow the folder."""

    chunk: str = ""
    """Actions per answer, as trained; else that of openpi's LIBERO configuration."""

    state: str = "no"
    """pi0.5: `yes` if it was trained with the state in its prompt; pi05_libero was not."""

    asset: str = ""
    """Which statistics, where assets/ has several: `physical-intelligence/libero`."""

    statistics: str = ""
    """The file norm_stats.json, where it is not in assets/."""

    tokenizer: str = ""
    """The file of PaliGemma's tokenizer."""

    precision: str = "bf16"
    """What it computes in, `bf16` as in openpi, or `fp32`."""

    steps: str = "10"
    """Of denoising."""

    heads: str = ""
    """Of the language model, where model.safetensors has a size that was never published."""

    vision_heads: str = ""
    """Of SigLIP, likewise."""

    def __post_init__(self) -> None:
        for name, known in (("state", ("yes", "no")), ("precision", tuple(PRECISIONS))):
            if (value := getattr(self, name)) not in known:
                raise unknown(f"{name} of an openpi checkpoint", value, known, fix="use one of these")
        for name in ("chunk", "steps", "heads", "vision_heads"):
            value = getattr(self, name)
            if value and not (value.isdecimal() and 1 <= int(value) <= 1000):
                raise UserError(f"{name}={value} is not possible.", fix="use 1 to 1000")
        if self.asset and self.statistics:
            raise UserError("asset and statistics were both given.", why="each names statistics", fix="give one")


def recognises(folder: Path) -> bool:
    if folder.is_file():
        return any(name.removeprefix("params/").startswith(names.VLM) for name in _arrays(folder))
    if is_orbax(folder) or is_orbax(folder / ITEM):
        return True
    return any(name.startswith("paligemma_with_expert.") for name in _header(folder / WEIGHTS))


def load(folder: Path, options: Mapping[str, str], *, device: str = "cpu", to_fine_tune: bool = False) -> Checkpoint:
    """All or nothing: what is missing, unexpected or of another shape is listed, and nothing is used. `to_fine_tune`:
    as in checkpoints/published.py."""
    chosen = _options(options)
    if is_orbax(folder):
        raise UserError(
            f"{folder} holds weights alone.",
            why="statistics are beside it, in assets/",
            fix=f"give the folder above it: {folder.resolve().parent}",
        )
    home = _home(folder)
    if to_fine_tune and not (chosen.asset or chosen.statistics):
        asset, statistics = "", unmeasured(libero.ACTION.width, libero.PROPRIO.width)
    else:
        asset, statistics = _statistics(folder, home, chosen)
    files, config, state = _weights(folder, chosen, device)
    if config.vision.image_size != SIZE:
        raise UserError(
            f"{folder} looks at pictures of {config.vision.image_size} pixels.",
            why=f"openpi's policies look at {SIZE}",
            fix="give a checkpoint of openpi's",
        )
    vocabulary = _vocabulary(folder, home, chosen, config.vocabulary)
    specs = libero.specs(camera_size=CAMERA_SIZE)
    pipeline = openpi_pipeline(specs, statistics, vocabulary, family=config.kind, state_in_prompt=chosen.state == "yes")
    with torch.device("meta"):
        model = pi05.Model(config)
    assign(model, {name: x.to(device, precision(name, config.dtype)) for name, x in state.items()}, what=str(folder))
    manifest = Manifest(
        family="pi05",
        config=to_plain(config),
        files=describe(home, [*files, *filter(None, [asset])], digests=device != "meta"),
        tensors=len(state),
        specs=specs,
        pipeline=pipeline,
        statistics=statistics,
        merged=False,
        step=int(folder.resolve().name) if folder.resolve().name.isdecimal() else 0,
        provenance={"layout": "openpi", "asset": asset, "statistics": chosen.statistics},
    )
    _tell(folder, config, asset or chosen.statistics, chosen)
    return Checkpoint(manifest=manifest, model=model.eval().requires_grad_(False))


def _home(folder: Path) -> Path:
    """Where assets/ and the tokenizer are looked for: beside an `.npz` file."""
    return folder.parent if folder.is_file() else folder


def _options(options: Mapping[str, str]) -> Options:
    known = [field.name for field in fields(Options)]
    for name in options:
        if name not in known:
            raise unknown("option of an openpi checkpoint", name, known, fix="use one of these")
    return Options(**options)


def _weights(folder: Path, chosen: Options, device: str) -> tuple[list[str], pi05.Config, dict[str, Tensor]]:
    """Files, configuration and state dict."""
    dtype, what = PRECISIONS[chosen.precision], str(folder)
    where = "meta" if device == "meta" else "cpu"
    if (folder / WEIGHTS).is_file():
        require_one(folder)
        tensors = read_tensors([folder / WEIGHTS], device=where)
        kind: Literal["pi0", "pi05"] = "pi0" if "state_proj.weight" in tensors else "pi05"
        config = names.config_of_torch(
            tensors,
            what=what,
            chunk=int(chosen.chunk or CHUNK[kind]),
            heads=int(chosen.heads) if chosen.heads else None,
            vision_heads=int(chosen.vision_heads) if chosen.vision_heads else None,
            dtype=dtype,
        )
        return [WEIGHTS], _with_steps(config, chosen), names.from_torch(tensors, config, what=what)
    tree = read_tree(folder, device=where)
    chunk = int(chosen.chunk or CHUNK["pi0" if "state_proj/kernel" in tree else "pi05"])
    found = names.config_of(tree, what=what, chunk=chunk, dtype=dtype)
    if not isinstance(found, pi05.Config):
        raise UserError(
            f"{folder} holds a model that reads and does not act.",
            why="it has no action expert",
            fix="put it under one: `handeye merge-vlm`",
        )
    lying = [folder] if folder.is_file() else sorted((folder / ITEM).rglob("*"))
    files = [str(path.relative_to(_home(folder))) for path in lying if path.is_file()]
    return files, _with_steps(found, chosen), names.from_tree(tree, found, what=what)


def require_one(folder: Path) -> None:
    """Both kinds of weights in one folder would be two policies."""
    if is_orbax(folder / ITEM):
        raise UserError(
            f"{folder} has two sets of weights.",
            why=f"{WEIGHTS} and {ITEM}/, which need not be equal",
            fix="move one of them away",
        )


def _with_steps(config: pi05.Config, chosen: Options) -> pi05.Config:
    return replace(config, steps=int(chosen.steps))


def _statistics(folder: Path, home: Path, chosen: Options) -> tuple[str, Statistics]:
    """And their file, if it is the checkpoint's. openpi's server starts without a word where they are missing, and its
    actions are then in no unit at all."""
    if chosen.statistics:
        where = Path(chosen.statistics)
        return "", from_norm_stats(read_json(where, what="openpi's statistics"), what=str(where))
    found = sorted(path.relative_to(home) for path in (home / ASSETS).rglob(STATISTICS))
    ids = [str(path.parent.relative_to(ASSETS)) for path in found]
    if not found:
        raise UserError(
            f"{folder} has no statistics.",
            why=f"no {home / ASSETS}/<asset>/{STATISTICS}: its actions cannot be given in the robot's units",
            fix=f"copy {ASSETS}/ from the checkpoint or the run that trained it, or give {folder}#statistics=FILE",
        )
    if chosen.asset and chosen.asset not in ids:
        raise unknown(f"asset in {home / ASSETS}", chosen.asset, ids, fix="use one of these")
    if not chosen.asset and len(ids) > 1:
        raise UserError(
            f"{folder} has the statistics of {len(ids)} robots.",
            why=", ".join(ids),
            fix=f"say which one: {folder}#asset=NAME",
        )
    path = found[ids.index(chosen.asset)] if chosen.asset else found[0]
    where = home / path
    return str(path), from_norm_stats(read_json(where, what="openpi's statistics"), what=str(where))


def _vocabulary(folder: Path, home: Path, chosen: Options, size: int) -> Vocabulary:
    """The tokenizer, with as many pieces as the model has rows for them."""
    cache = Path(os.environ.get("OPENPI_DATA_HOME") or Path.home() / ".cache" / "openpi")
    places = [home / TOKENIZER, home / ASSETS / TOKENIZER, cache / "big_vision" / TOKENIZER]
    path = Path(chosen.tokenizer) if chosen.tokenizer else next((p for p in places if p.is_file()), None)
    if path is None:
        raise UserError(
            f"{folder} has no tokenizer.",
            why=f"{TOKENIZER} is neither there nor in openpi's cache ({places[-1].parent})",
            fix=f"fetch gs://big_vision/{TOKENIZER} into {home}, or give {folder}#tokenizer=FILE",
        )
    vocabulary = Vocabulary.of(path)
    if path.suffix == ".model":
        from sentencepiece import SentencePieceProcessor

        vocabulary.load()  # unreadable files have an error of their own
        pieces = SentencePieceProcessor(model_proto=vocabulary.content()).get_piece_size()
        if pieces != size:
            raise UserError(
                f"{path} is not this model's tokenizer.",
                why=f"it has {pieces} pieces, and the model has {size}",
                fix=f"use PaliGemma's own, {TOKENIZER}",
            )
    return vocabulary


def _tell(folder: Path, config: pi05.Config, asset: str, chosen: Options) -> None:
    """What was chosen, above all where nobody chose it."""
    guessed = "" if chosen.chunk else f" (as {config.kind}_libero; else #chunk=N)"
    said = [
        f"{folder.name} is {config.kind}",
        f"statistics of {asset or 'what it will be fine-tuned on'}",
        config.dtype,
        f"{config.chunk} actions per answer{guessed}",
        f"{config.steps} steps of denoising",
    ]
    if config.kind == "pi05":
        said.append("the state is in its prompt" if chosen.state == "yes" else "it does not see the robot's state")
    say("; ".join(said))


def _arrays(path: Path) -> list[str]:
    """Names of an `.npz` file's arrays; none where it is no such file."""
    if path.suffix != ".npz":
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return []


def _header(path: Path) -> list[str]:
    """Names of a safetensors file's tensors; none where it is no such file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            value = json.loads(file.read(length)) if length < 100_000_000 else {}
    except (OSError, struct.error, ValueError):
        return []
    return list(cast("dict[str, object]", value)) if isinstance(value, dict) else []
