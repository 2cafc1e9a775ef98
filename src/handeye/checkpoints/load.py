"""Folder -> model, all or nothing: nothing missing, nothing left over, nothing of another shape, nothing executed."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.backbones import explain
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.manifest import Answering, Manifest
from handeye.conventions.plain import from_plain
from handeye.errors import UserError, unknown
from handeye.models import FAMILIES

MOST_NAMES = 12
"""Of each kind that are named where tensors do not fit; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model in evaluation mode, and what is known about it."""

    manifest: Manifest
    model: nn.Module


@dataclass(frozen=True, kw_only=True)
class Reader:
    """The same of a model that answers questions."""

    manifest: Answering
    model: nn.Module


def load(folder: Path, *, device: str = "cpu") -> Checkpoint:
    """Digests, names, shapes and types are compared before a tensor is used. On `meta` everything is compared but
    digests, and no number is read: would it load?"""
    manifest = manifests.read(folder)
    return Checkpoint(manifest=manifest, model=_model(folder, manifest, device))


def load_reader(folder: Path, *, device: str = "cpu") -> Reader:
    """As `load`, of a model that answers questions; also from the folder of a finished run, which means its `final`."""
    if not (folder / manifests.FILE).exists() and (folder / "final").is_dir():
        folder = folder / "final"
    manifest = manifests.read_answering(folder)
    return Reader(manifest=manifest, model=_model(folder, manifest, device))


def _model(folder: Path, manifest: Manifest | Answering, device: str) -> nn.Module:
    """In evaluation mode."""
    manifests.verify(folder, manifest.files, digests=device != "meta")
    tensors = read_tensors([folder / name for name in manifest.files if name.endswith(".safetensors")], device=device)
    if len(tensors) != manifest.tensors:
        raise UserError(
            f"The checkpoint {folder} holds {len(tensors)} tensors.",
            why=f"its manifest says {manifest.tensors}",
            fix=manifests.REMAKE,
        )
    module = family(manifest.family)
    config = from_plain(module.Config, dict(manifest.config), what=f"the model configuration in {folder}")
    with torch.device("meta"):  # shapes only: the weights' memory is taken once, by the tensors just read
        model: nn.Module = module.Model(config)
    assign(model, tensors, what=str(folder))
    return model.eval().requires_grad_(False)


def family(name: str) -> ModuleType:
    """Only families of ours: a name in a downloaded file must not choose what is imported."""
    if name not in FAMILIES:
        raise unknown("model family", name, FAMILIES, fix="use one of these, or a version of handeye that has it")
    return import_module(FAMILIES[name])


def assign(model: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Make these tensors the model's own (no copy)."""
    state = model.state_dict()
    wanted = {name: _kind(tensor) for name, tensor in state.items()}
    found = {name: _kind(tensor) for name, tensor in tensors.items()}
    if wanted != found and (other := explain(_shapes(state), _shapes(tensors))):
        raise UserError(
            f"{what} holds another backbone than its configuration names.",
            why=other,
            fix="use the configuration that it was saved with; nothing is loaded in part, and nothing made up",
        )
    check_keys(wanted, found, what=what)
    model.load_state_dict(dict(tensors), strict=True, assign=True)
    bare = any(tensor.is_meta for tensor in tensors.values())  # asked only whether they fit
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left and not bare:
        raise RuntimeError(f"{left[0]} was never filled: make such a buffer in forward, or part of the state")


def check_keys(
    wanted: Mapping[str, str],
    found: Mapping[str, str],
    *,
    what: str,
    fresh: Sequence[str] = (),
    dropped: Sequence[str] = (),
    or_else: str = "",
) -> None:
    """Compare names and kinds both ways. `fresh` and `dropped` are patterns the caller declares on purpose. `or_else`:
    another remedy, where there is one."""
    missing = [k for k in wanted if k not in found and not any(fnmatch.fnmatchcase(k, p) for p in fresh)]
    extra = [k for k in found if k not in wanted and not any(fnmatch.fnmatchcase(k, p) for p in dropped)]
    other = [f"{k} is {found[k]}, not {wanted[k]}" for k in wanted if k in found and wanted[k] != found[k]]
    if missing or extra or other:
        raise UserError(
            f"{what} does not fit the model: {len(missing)} tensors missing, {len(extra)} unexpected, "
            f"{len(other)} of another shape or type.",
            why="; ".join(
                f"{title}: {_listed(names)}"
                for title, names in (("missing", missing), ("unexpected", extra), ("other", other))
                if names
            ),
            fix="use the checkpoint with the family and configuration it was saved with" + (or_else and f"; {or_else}"),
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def model_config(module: ModuleType, values: Mapping[str, Any]) -> Any:
    """A family's Config from the few fields that are given; the others keep their defaults."""
    known = {field.name: field for field in fields(module.Config)}
    for name in values:
        if name not in known:
            raise unknown(f"field of {module.__name__}'s Config", name, known, fix="the file says what each does")
    return module.Config(**values)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
