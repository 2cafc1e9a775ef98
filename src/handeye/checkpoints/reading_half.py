"""PaliGemma, or the pi0 or pi0.5 around it, out of whatever holds one: an `.npz` file, a checkpoint of openpi's, or one
of ours. What tuning starts from, and what is taken apart and merged."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from handeye.checkpoints import load as ours
from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.layouts import openpi, openpi_names
from handeye.checkpoints.load import Checkpoint, assign, load_reader
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.npz import cast
from handeye.checkpoints.orbax import ITEM
from handeye.checkpoints.trees import read_tree
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.xvr.form import Form
from handeye.errors import UserError, unknown
from handeye.models import paligemma, pi05

HEADS = ("heads", "vision_heads")
"""Options of openpi's PyTorch folder, as in `DIR#heads=8,vision_heads=16`."""

TOWERS = ("vision.", "language.")
"""Of pi0 and pi0.5, what PaliGemma has too, under the same names."""


@dataclass(frozen=True, kw_only=True)
class ReadingHalf:
    """Weights and sizes; the types are those in which they are stored."""

    config: paligemma.Config
    state: dict[str, Tensor]
    form: Form | None
    """How it was asked, where the checkpoint says it."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """pi0 or pi0.5 by openpi's JAX names; the types are those in which it is stored."""

    tree: dict[str, Tensor]
    home: Path | None
    """A folder with its statistics and its tokenizer, if it has them."""

    manifest: Manifest | None = None
    """Of a checkpoint of ours, which has them inside."""


def read_policy(path: Path, options: Mapping[str, str] | None = None) -> Policy:
    """`options`: `heads` and `vision_heads`, for openpi's PyTorch model in a size that was never published. A run's
    folder means its `final`. Whether the tree is a policy's, and whole, is the caller's to check."""
    heads, folder = _heads(path, options or {}), _folder(path)
    if (folder / manifests.FILE).is_file():
        checkpoint = _policy_of_ours(folder)
        model = checkpoint.model
        assert isinstance(model, pi05.Model)
        state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        return Policy(tree=openpi_names.to_tree(state, model.config), home=None, manifest=checkpoint.manifest)
    if _is_torch(path):
        config, state = _read_torch(path, heads)
        return Policy(tree=openpi_names.to_tree(state, config), home=path)
    return Policy(tree=read_tree(path), home=None if path.is_file() else path.parent if path.name == ITEM else path)


def read_half(path: Path, *, heads: tuple[int, int] | None = None) -> ReadingHalf:
    """`heads`: of the language model and of SigLIP, for openpi's PyTorch model in a size that was never published."""
    folder = _folder(path)
    if (folder / manifests.FILE).is_file():
        return _of_ours(folder)
    if _is_torch(path):
        whole, state = _read_torch(path, heads or (None, None))
        return ReadingHalf(config=reader_config(whole), state=_towers(state), form=None)
    tree, what = read_tree(path), str(path)
    config = openpi_names.config_of(tree, what=what, chunk=1)
    if isinstance(config, pi05.Config):
        inside = {key: array for key, array in tree.items() if key.startswith(openpi_names.VLM)}
        kept = {k.removeprefix(openpi_names.VLM): v for k, v in inside.items() if not openpi_names.of_expert(k)}
        config = reader_config(config)
    else:
        kept = {key: array for key, array in tree.items() if not openpi_names.of_expert(key)}
    return ReadingHalf(config=config, state=openpi_names.from_tree(kept, config, what=what), form=None)


def open_half(
    path: Path, *, tokenizer: Path | None = None, heads: tuple[int, int] | None = None
) -> tuple[paligemma.Model, Vocabulary, Form | None]:
    """The model in float32 with its tokenizer, and how it was asked, where the checkpoint says it."""
    half = read_half(path, heads=heads)
    vocabulary = find_vocabulary(path, tokenizer, half.form)
    wanted, pieces = half.config.vocabulary, vocabulary.pieces()
    if pieces > wanted or (vocabulary.name.endswith(".model") and pieces != wanted):
        raise UserError(
            f"{vocabulary.name} is not the tokenizer of {path}.",
            why=f"it has {pieces} pieces, and the model has {wanted}",
            fix="give its own with --tokenizer",
        )
    with torch.device("meta"):
        model = paligemma.Model(half.config)
    assign(model, cast(half.state, torch.float32, what=str(path)), what=str(path))
    return model.eval(), vocabulary, half.form


def find_vocabulary(path: Path | None, tokenizer: Path | None, form: Form | None) -> Vocabulary:
    """The one that is named, or the checkpoint's own, or PaliGemma's where openpi and people keep it."""
    if tokenizer is not None:
        return Vocabulary.of(tokenizer)
    if form is not None:
        return form.vocabulary
    home = Path(os.environ.get("OPENPI_DATA_HOME") or Path.home() / ".cache" / "openpi") / "big_vision"
    places = [home] if path is None else [path, path / openpi.ASSETS, path.parent, home]
    for place in places:
        if (place / openpi.TOKENIZER).is_file():
            return Vocabulary.of(place / openpi.TOKENIZER)
    raise UserError(
        f"There is no tokenizer for {path or 'a new model'}.",
        why=f"{openpi.TOKENIZER} is not in {', '.join(map(str, places))}",
        fix=f"fetch gs://big_vision/{openpi.TOKENIZER} and name it with --tokenizer",
    )


def reader_config(config: pi05.Config) -> paligemma.Config:
    return paligemma.Config(vision=config.vision, language=config.language, vocabulary=config.vocabulary)


def _of_ours(folder: Path) -> ReadingHalf:
    if manifests.answers_questions(folder):
        reader = load_reader(folder)
        assert isinstance(reader.model, paligemma.Model)
        return ReadingHalf(config=reader.model.config, state=dict(reader.model.state_dict()), form=reader.manifest.form)
    model = _policy_of_ours(folder).model
    assert isinstance(model, pi05.Model)
    return ReadingHalf(config=reader_config(model.config), state=_towers(model.state_dict()), form=None)


def _policy_of_ours(folder: Path) -> Checkpoint:
    checkpoint = ours.load(folder)
    if not isinstance(checkpoint.model, pi05.Model):
        raise UserError(
            f"{folder} has no PaliGemma in it.",
            why="it is another family's checkpoint",
            fix="give PaliGemma's .npz, or a checkpoint of pi0 or pi0.5",
        )
    return checkpoint


def _folder(path: Path) -> Path:
    return path / "final" if not (path / manifests.FILE).exists() and (path / "final").is_dir() else path


def _is_torch(path: Path) -> bool:
    if found := (path / openpi.WEIGHTS).is_file() and openpi.recognises(path):
        openpi.require_one(path)
    return found


def _read_torch(folder: Path, heads: tuple[int | None, int | None]) -> tuple[pi05.Config, dict[str, Tensor]]:
    tensors, what = read_tensors([folder / openpi.WEIGHTS]), str(folder)
    config = openpi_names.config_of_torch(tensors, what=what, chunk=1, heads=heads[0], vision_heads=heads[1])
    return config, openpi_names.from_torch(tensors, config, what=what)


def _heads(path: Path, options: Mapping[str, str]) -> tuple[int | None, int | None]:
    """From what follows the folder."""
    for name, value in options.items():
        if name not in HEADS:
            raise unknown(f"option of {path} here", name, HEADS, fix="use one of these")
        if not _is_torch(path):
            raise UserError(f"{path} takes no {name}.", why="its shapes say it", fix=f"give {path} alone")
        if not (value.isdecimal() and int(value)):
            raise UserError(f"{name}={value} is not possible.", fix="use 1 or more")
    heads, vision = (int(options[name]) if name in options else None for name in HEADS)
    return heads, vision


def _towers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in state.items() if name.startswith(TOWERS)}
