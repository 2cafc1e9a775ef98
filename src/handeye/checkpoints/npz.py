"""`.npz` files of weights, as big_vision and its descendants write them: arrays by path, plain or as bfloat16.

NumPy has no bfloat16: it stores two bytes of nothing in particular (`|V2`), which is what such an array is read from
and written as. A number is never cast on the way; `cast` does that on request, and refuses to lose a large one.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from handeye.errors import UserError

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BFLOAT16 = np.dtype("V2")


def read_npz(path: Path) -> dict[str, Tensor]:
    """Every array, in the type in which it is stored. Nothing in the file is executed."""
    try:
        with path.open("rb") as raw, _npz(raw) as file:
            return {name: _tensor(file[name], f"{path}: {name}") for name in file.files}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.", fix="check the path") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(
            f"{path} cannot be read as .npz.", why=str(error).splitlines()[0], fix="fetch or copy it again"
        ) from None


def write_npz(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Whole or absent. bfloat16 becomes `|V2`: big_vision reads that; openpi's own loader of `.npz` does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, tensor in tensors.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.save(entry, _array(tensor), allow_pickle=False)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"Could not write {path}.", why=str(error), fix="free some space, then run it again") from error


def cast(tensors: Mapping[str, Tensor], dtype: torch.dtype, *, what: str) -> dict[str, Tensor]:
    """All in one type. UserError where a finite number becomes infinite (70000 in float16), which `astype` does in
    silence."""
    changed = {}
    for name, tensor in tensors.items():
        new = tensor.to(dtype)
        if lost := int((new.isinf() & tensor.isfinite()).sum()):
            raise UserError(
                f"{what} cannot be stored as {str(dtype).removeprefix('torch.')}.",
                why=f"{name} holds {lost} numbers that are too large, up to {tensor.abs().max().item():g}",
                fix="use bfloat16 or float32",
            )
        changed[name] = new
    return changed


def _npz(raw: IO[bytes]) -> np.lib.npyio.NpzFile:
    found = np.load(raw, allow_pickle=False)
    if not isinstance(found, np.lib.npyio.NpzFile):
        raise ValueError("it holds a single array, without a name")
    return found


def _tensor(array: np.ndarray, what: str) -> Tensor:
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    if array.dtype.name not in TYPES:
        raise UserError(
            f"{what} is {array.dtype}.",
            why=f"weights are {', '.join(TYPES)}",
            fix="this is another kind of file, or it was saved wrongly",
        )
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(BFLOAT16)
    return tensor.numpy()
