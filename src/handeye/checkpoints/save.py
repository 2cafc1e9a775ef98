"""A checkpoint is written beside its place and moved there when whole: readers see all of it or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from handeye.checkpoints.manifest import FILE, Answering, Manifest, describe
from handeye.errors import UserError
from handeye.records import write_bytes, write_json

WEIGHTS = "model.safetensors"


def save(folder: Path, manifest: Manifest | Answering, tensors: Mapping[str, Tensor]) -> None:
    with whole_folder(folder) as part:
        fill(part, manifest, tensors)


def fill(folder: Path, manifest: Manifest | Answering, tensors: Mapping[str, Tensor]) -> None:
    """Weights and the tokenizers' files, then the manifest; its `files` and `tensors` are filled in from what was
    written."""
    write_tensors(folder / WEIGHTS, tensors)
    vocabularies = manifest.vocabularies()
    for vocabulary in vocabularies:
        write_bytes(folder / vocabulary.name, vocabulary.content())
    written = [WEIGHTS, *(vocabulary.name for vocabulary in vocabularies)]
    described = replace(manifest, files=describe(folder, written), tensors=len(tensors))
    write_json(folder / FILE, described.to_json())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """From where they lie, which may be a mapped file: copied is only what lies elsewhere than on the CPU, has gaps, or
    begins where another one does (tied weights, which safetensors refuses)."""
    made: dict[str, Tensor] = {}
    begun: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        made[name] = own.clone() if own.data_ptr() in begun else own
        begun.add(own.data_ptr())
    save_file(made, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a folder to fill; it takes the place of `folder` at the end, and not at all if anything went wrong."""
    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():  # only what could not be read: whole ones are never written twice
            shutil.rmtree(folder)
        part.replace(folder)
    except Exception as error:  # safetensors has an error of its own for a full disk
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            raise UserError(
                f"Could not write {folder}.", why=str(error), fix="free some space, then run the same command again"
            ) from error
        raise
