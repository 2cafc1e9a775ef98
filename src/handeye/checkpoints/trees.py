"""Weights of JAX models as one flat mapping, from whatever holds them: a `.npz` file or an Orbax directory."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from handeye.checkpoints.layouts.openpi_lora import fold
from handeye.checkpoints.npz import read_npz
from handeye.checkpoints.orbax import ITEM, is_orbax, read_orbax
from handeye.errors import UserError

WRAPPERS = ("params/", "opt/target/")
"""What may stand before every key of an `.npz` file: as big_vision's own reader, which tries them in this order."""


def read_tree(path: Path, *, device: str = "cpu") -> dict[str, Tensor]:
    """`img/...` and `llm/...` for PaliGemma; `PaliGemma/img/...` and so on for pi0 and pi0.5. A LoRA of openpi's is
    added into its weights, aloud. An Orbax directory may be given as the checkpoint's folder or as the `params` in it.
    """
    return fold(_read(path, device), what=str(path))


def _read(path: Path, device: str) -> dict[str, Tensor]:
    if path.is_dir():
        for folder in (path, path / ITEM):
            if is_orbax(folder):
                return read_orbax(folder, device=device)
        raise UserError(
            f"{path} holds no weights that can be read here.",
            why=f"neither it nor {ITEM}/ in it is an Orbax directory (_METADATA)",
            fix="give an .npz file, or the folder of an openpi checkpoint",
        )
    tree = {name: array.to(device) for name, array in read_npz(path).items()}
    for wrapper in WRAPPERS:
        if any(key.startswith(wrapper) for key in tree):
            inside = {key.removeprefix(wrapper): array for key, array in tree.items() if key.startswith(wrapper)}
            if wrapper == "params/" and len(inside) != len(tree):
                stray = next(key for key in tree if not key.startswith(wrapper))
                raise UserError(
                    f"{path} has keys with and without {wrapper}.",
                    why=f"{stray} stands outside",
                    fix="save it again with one form of names",
                )
            return inside
    return tree
