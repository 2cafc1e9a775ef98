"""A checkpoint's folder, in our layout or in the one in which others publish theirs. The layout is recognised by what
lies in the folder; nothing in it chooses what is imported, and no code in it is run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from handeye.checkpoints import load as ours
from handeye.checkpoints.load import Checkpoint
from handeye.checkpoints.manifest import FILE
from handeye.errors import UserError

LAYOUTS = {
    "openvla": "handeye.checkpoints.layouts.openvla",
    "openpi": "handeye.checkpoints.layouts.openpi",
    "vggt_vla": "handeye.checkpoints.layouts.vggt_vla",
}
"""A module offers `recognises(folder)` and `load(folder, options, device=..., to_fine_tune=...)`."""


def load(
    folder: Path, options: Mapping[str, str] | None = None, *, device: str = "cpu", to_fine_tune: bool = False
) -> Checkpoint:
    """`options`: what a published layout leaves open, as in `DIR#statistics=NAME`; ours leaves nothing open.
    `to_fine_tune`: its statistics will be measured anew, so that those of a base, which are of other robots or of many,
    need not be chosen."""
    if not (folder / FILE).exists():
        for name in LAYOUTS.values():
            layout: Any = import_module(name)
            if layout.recognises(folder):
                checkpoint: Checkpoint = layout.load(folder, options or {}, device=device, to_fine_tune=to_fine_tune)
                return checkpoint
    if folder.is_file():
        raise UserError(
            f"{folder} is a file, and no policy of itself.",
            why="a checkpoint is a folder; or, as a file, the arrays of a pi0 or pi0.5 by openpi's JAX names (.npz) or "
            "what AtlasVLA's trainer saved (.pt); this is neither",
            fix=f"give the folder that it belongs to; `handeye inspect {folder}` says what it is",
        )
    if options and folder.is_dir():
        raise UserError(
            f"{folder} takes no '{next(iter(options))}'.",
            why=f"only a published checkpoint leaves something open; this folder is none ({', '.join(LAYOUTS)})",
            fix=f"give {folder} alone",
        )
    return ours.load(folder, device=device)
