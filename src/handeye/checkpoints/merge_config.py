"""What `handeye merge-vlm` and `handeye extract-vlm` are configured with. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.errors import UserError

Stored = Literal["base", "float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class MergeVlmConfig:
    """Put a tuned PaliGemma under the action expert of pi0 or pi0.5. Everything else stays the base's, bit for bit."""

    base: Annotated[str, Positional, arg(metavar="BASE")]
    """pi0 or pi0.5 in any layout: the folder of an openpi checkpoint (Orbax or PyTorch; a LoRA is added in), its
    `params`, an .npz file, a checkpoint of ours, or a finished run. `DIR#heads=N,vision_heads=N`: for openpi's PyTorch
    layout in a size that was never published."""

    tuned: Annotated[Path, Positional, arg(metavar="TUNED")]
    """PaliGemma, tuned: a run of `handeye train paligemma_xvr`, one of its checkpoints, or an .npz file with
    big_vision's names. An action expert in it is left out, aloud."""

    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """Ends in .npz: one file with openpi's JAX names. Otherwise a folder with the base's assets/ that openpi, `handeye
    evaluate` and `handeye serve` read."""

    to: Literal["openpi-torch", "openpi-orbax"] = "openpi-torch"
    """Of a folder: `openpi-torch`, model.safetensors for openpi's PyTorch side; `openpi-orbax`, params/ for its JAX
    side, whose trainer reads nothing else; needs the extra `orbax`."""

    dtype: Stored = "base"
    """In which type weights are stored; `base`: each as the base has it."""

    def __post_init__(self) -> None:
        _absent(self.out)
        if self.out.suffix == ".npz" and self.to == "openpi-orbax":
            raise UserError(
                f"{self.out} does not fit --to {self.to}.", why="that is a folder", fix="give the name of a folder"
            )


@dataclass(frozen=True, kw_only=True)
class ExtractVlmConfig:
    """Take PaliGemma out of pi0 or pi0.5, for tuning: 32 arrays, without the action expert that openpi keeps among
    them."""

    base: Annotated[str, Positional, arg(metavar="BASE")]
    """pi0 or pi0.5 in any layout, as for `handeye merge-vlm`."""

    out: Annotated[Path, Positional, arg(metavar="OUT.npz")]
    """big_vision's names, as its trainers read them."""

    dtype: Stored = "base"
    """In which type weights are stored; `base`: as they are. openpi's own reader of .npz files knows no bfloat16."""

    def __post_init__(self) -> None:
        if self.out.suffix != ".npz":
            raise UserError(f"{self.out} is no .npz file.", fix=f"give {self.out}.npz")
        _absent(self.out)


def _absent(out: Path) -> None:
    if out.exists():
        raise UserError(f"{out} exists already.", fix="remove it, or give another name")
