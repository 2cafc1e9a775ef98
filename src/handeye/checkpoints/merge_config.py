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

    base: Annotated[Path, Positional, arg(metavar="BASE")]
    """pi0 or pi0.5: the folder of an openpi checkpoint (Orbax), its `params`, or an .npz file."""

    tuned: Annotated[Path, Positional, arg(metavar="TUNED")]
    """PaliGemma, tuned: a run of `handeye train paligemma_xvr`, one of its checkpoints, or an .npz file with
    big_vision's names. An action expert in it is left out, aloud."""

    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """Ends in .npz: one file with openpi's JAX names. Otherwise a folder that openpi's PyTorch side, `handeye evaluate`
    and `handeye serve` read: model.safetensors, and the base's assets/."""

    dtype: Stored = "base"
    """In which type weights are stored; `base`: each as the base has it."""

    def __post_init__(self) -> None:
        _absent(self.out)


@dataclass(frozen=True, kw_only=True)
class ExtractVlmConfig:
    """Take PaliGemma out of pi0 or pi0.5, for tuning: 32 arrays, without the action expert that openpi keeps among
    them."""

    base: Annotated[Path, Positional, arg(metavar="BASE")]
    """The folder of an openpi checkpoint (Orbax), its `params`, or an .npz file."""

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
