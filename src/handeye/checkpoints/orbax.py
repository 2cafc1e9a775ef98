"""Orbax directories of weights, as openpi writes and reads them, through tensorstore: no JAX, nothing executed.

A directory has `_METADATA` (JSON: the path of every array) and the arrays as zarr, in one OCDBT database or, in older
ones, a folder each. openpi's released checkpoints end their paths where the array is; those of its own training add
`value` (openpi training/checkpoints.py, models/model.py:327-332). Both become the same names here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from handeye.checkpoints.npz import BFLOAT16, TYPES
from handeye.errors import UserError
from handeye.records import read_json, write_json

METADATA, CHECKPOINT_METADATA = "_METADATA", "_CHECKPOINT_METADATA"
ITEM = "params"
"""The item of a checkpoint that holds weights (the average over training, where one was kept), and the name at the
root of its tree."""

_DICTIONARY = 2
"""Orbax's KeyType.DICT."""

_HANDLER = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"
_NOTHING: Mapping[str, Any] = {
    "metrics": {}, "performance_metrics": {}, "init_timestamp_nsecs": None, "commit_timestamp_nsecs": None,
    "custom_metadata": {},
}  # fmt: skip
"""What a checkpoint's metadata says besides: no times, so that equal weights are equal files."""

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


def write_orbax(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """As openpi's released checkpoints are: `params/` before every path, nothing after it, each array one chunk of one
    OCDBT database. The folder must be new; whoever wants it whole or absent writes it inside `save.whole_folder`.
    Read back by Orbax 0.11.13 as openpi's `restore_params` uses it (recipes/orbax_by_orbax.py)."""
    tensorstore = _tensorstore()
    folder.mkdir(parents=True)
    paths = [(ITEM, *name.split("/")) for name in tensors]
    for path, tensor in zip(paths, tensors.values(), strict=True):
        array = _array(tensor, tensorstore)
        store = {"driver": "ocdbt", "base": f"file://{folder.resolve()}/", "path": f"{'.'.join(path)}/"}
        metadata = {"compressor": {"id": "zstd", "level": 1}, "chunks": [max(1, size) for size in array.shape]}
        spec = {"driver": "zarr", "kvstore": store, "metadata": metadata, "store_data_equal_to_fill_value": True}
        opened = tensorstore.open(spec, create=True, dtype=array.dtype, shape=array.shape).result()
        opened.write(array).result()
    tree = {
        str(path): {
            "key_metadata": [{"key": part, "key_type": _DICTIONARY} for part in path],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        for path in paths
    }
    about = {"use_zarr3": False, "store_array_data_equal_to_fill_value": True, "custom_metadata": None}
    write_json(folder / METADATA, {"tree_metadata": tree, **about})
    write_json(folder / CHECKPOINT_METADATA, {"item_handlers": _HANDLER, **_NOTHING})


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


def _array(tensor: Tensor, tensorstore: Any) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(tensorstore.bfloat16.numpy_dtype)
    return tensor.numpy()


def _tensorstore() -> Any:
    try:
        import tensorstore
    except ImportError as error:
        raise UserError("Orbax directories need one more package.", why=str(error), fix=INSTALL) from None
    return tensorstore


def _bad(folder: Path, why: str) -> UserError:
    return UserError(f"The Orbax directory {folder} cannot be read.", why=why, fix="fetch or copy it again, whole")
