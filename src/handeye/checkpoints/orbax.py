"""Orbax directories of weights, as openpi writes them, read through tensorstore: no JAX, nothing executed.

A directory has `_METADATA` (JSON: the path of every array) and the arrays as zarr, in one OCDBT database or, in older
ones, a folder each. openpi's released checkpoints end their paths where the array is; those of its own training add
`value` (openpi training/checkpoints.py, models/model.py:327-332). Both become the same names here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handeye.checkpoints.npz import BFLOAT16, TYPES
from handeye.errors import UserError
from handeye.records import read_json

METADATA = "_METADATA"
ITEM = "params"
"""The item of a checkpoint that holds weights (the average over training, where one was kept), and the name at the
root of its tree."""

INSTALL = "pip install 'handeye[orbax]'"
AT_ONCE = 8
"""Arrays read at the same time: the largest is 2 GB."""


def is_orbax(folder: Path) -> bool:
    return (folder / METADATA).is_file()


def read_orbax(folder: Path, *, device: str = "cpu") -> dict[str, Tensor]:
    """Every array by its path, without `params/` before it and `value` after it, in the type in which it is stored. On
    `meta` shapes and types alone."""
    tensorstore = _tensorstore()
    paths = _paths(folder)
    names = {_name(path): ".".join(path) for path in paths}
    if len(names) != len(paths):
        raise _bad(folder, "two of its arrays have the same name once `value` is left out")
    wanted, tensors = list(names.items()), {}
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        try:
            opened = [tensorstore.open(_spec(folder, stored), open=True) for _, stored in some]
            if device == "meta":
                bare = {name: each.result() for (name, _), each in zip(some, opened, strict=True)}
                tensors.update({name: _bare(array, name, folder) for name, array in bare.items()})
                continue
            reading = [each.result().read() for each in opened]
            arrays = [each.result() for each in reading]
        except ValueError as error:  # of every kind: not there, damaged, cut off
            raise _bad(folder, str(error).splitlines()[0][:300]) from None
        tensors.update({name: _tensor(array, name, folder) for (name, _), array in zip(some, arrays, strict=True)})
    return tensors


def _paths(folder: Path) -> list[tuple[str, ...]]:
    """From the metadata alone: what it names must be there, whatever else lies in the folder."""
    value = read_json(folder / METADATA, what="an Orbax directory's metadata")
    try:
        entries = value["tree_metadata"].values()
        return [tuple(str(part["key"]) for part in entry["key_metadata"]) for entry in entries]
    except (KeyError, TypeError, AttributeError) as error:
        raise _bad(folder, f"its {METADATA} has no tree of arrays ({error!r})") from None


def _name(path: tuple[str, ...]) -> str:
    inner = path[1:] if path[0] == ITEM and len(path) > 1 else path
    return "/".join(inner[:-1] if inner[-1] == "value" else inner)


def _spec(folder: Path, stored: str) -> dict[str, Any]:
    base = f"file://{folder.resolve()}/"
    if (folder / "manifest.ocdbt").exists():
        return {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{stored}/"}}
    return {"driver": "zarr", "kvstore": f"{base}{stored}/"}


def _bare(array: Any, name: str, folder: Path) -> Tensor:
    return torch.empty(tuple(array.shape), dtype=TYPES[_kind(array.dtype.name, name, folder)], device="meta")


def _kind(dtype: str, name: str, folder: Path) -> str:
    if dtype not in TYPES:
        raise _bad(folder, f"{name} is {dtype}, and weights are {', '.join(TYPES)}")
    return dtype


def _tensor(array: np.ndarray, name: str, folder: Path) -> Tensor:
    _kind(array.dtype.name, name, folder)
    array = np.ascontiguousarray(array)
    if array.dtype.name == "bfloat16":  # the extension's type, which torch does not know
        return torch.from_numpy(array.view(BFLOAT16).view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise UserError("Orbax directories need one more package.", why=str(error), fix=INSTALL) from None
    return tensorstore


def _bad(folder: Path, why: str) -> UserError:
    return UserError(f"The Orbax directory {folder} cannot be read.", why=why, fix="fetch or copy it again, whole")
