"""Files of weights, read so that nothing in them can run: safetensors, and torch's zip files of plain tensors."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from handeye.checkpoints import manifest as manifests
from handeye.errors import UserError


def read_tensors(paths: Sequence[Path], *, device: str = "cpu") -> dict[str, Tensor]:
    """safetensors only: a format that cannot carry code. Shards must not repeat a name. On `meta` names, shapes and
    types are read, and no number."""
    bare, device = device == "meta", "cpu" if device == "meta" else device
    tensors: dict[str, Tensor] = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt", device=device) as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    if name in tensors:
                        raise UserError(
                            f"{path} repeats the tensor {name}.", why="another shard has it", fix=manifests.REMAKE
                        )
                    tensors[name] = _bare(file.get_slice(name), path) if bare else file.get_tensor(name)
        except FileNotFoundError:
            raise UserError(f"{path} does not exist.", fix="check the path") from None
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} cannot be read as safetensors.", why=str(error), fix=manifests.REMAKE) from None
    return tensors


class Record:
    """Fields of a foreign class by name. The class itself is never looked up, let alone imported."""


def read_pt(path: Path, *, records: Sequence[str] = (), mapped: bool = False) -> Any:
    """What `torch.save` wrote, as far as it is tensors and plain containers. Anything that would run code is refused by
    torch's restricted unpickler, and the archive's checksums, which torch does not look at, are compared first.
    `records`: full names of classes that are plain fields, each of which becomes a `Record`. `mapped`: tensors stay in
    the file until they are used."""
    if not path.is_file():
        raise UserError(f"{path} does not exist.", fix="check the path")
    try:
        if not zipfile.is_zipfile(path):
            raise _unusable(path, "it is no zip file, as torch.save has written since 1.6; cut off, or another format")
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise _unusable(path, f"the checksum of {damaged} is wrong")
        plain: list[Any] = [(type(name.rpartition(".")[2], (Record,), {}), name) for name in records]
        with torch.serialization.safe_globals(plain):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise UserError(
            f"{path} holds more than tensors, and is not loaded.",
            why=f"unpickling it would use {named[1]}" if named else str(error).splitlines()[0],
            fix="save its state_dict alone, or convert it to safetensors where it was made",
        ) from None
    except UserError:
        raise
    except Exception as error:  # whatever a torn pickle can raise in torch's unpickler: it has no other effect
        raise _unusable(path, str(error).splitlines()[0] if str(error) else type(error).__name__) from None


KINDS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""safetensors' names of types."""


def _bare(part: Any, path: Path) -> Tensor:
    if (kind := KINDS.get(part.get_dtype())) is None:
        raise _unusable(path, f"it holds numbers of the type {part.get_dtype()}")
    return torch.empty(part.get_shape(), dtype=kind, device="meta")


def _unusable(path: Path, why: str) -> UserError:
    return UserError(f"{path} cannot be read as a torch file.", why=why, fix="fetch or copy it again")
