"""What `handeye convert` is configured with. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """A policy's checkpoint from one layout into another. The numbers stay the same."""

    checkpoint: Annotated[str, Positional, arg(metavar="CHECKPOINT")]
    """Any checkpoint that `handeye evaluate` takes: ours, OpenVLA's, openpi's; `DIR#name=value` says what a published
    layout leaves open. openpi's weights are read as float32 unless `#precision=bf16` is asked for."""

    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """The folder to write; for `openpi-jax` a file that ends in .npz."""

    to: Literal["handeye", "openvla", "openpi-torch", "openpi-orbax", "openpi-jax"] = "handeye"
    """`handeye`: everything in one folder, with digests. `openvla` (openvla, openvla_oft): as the reference's code
    saves and loads them, component files included. `openpi-torch` (pi0, pi0.5): model.safetensors and assets/, as
    openpi's PyTorch side loads them. `openpi-orbax` (pi0, pi0.5): params/ and assets/, as its JAX side does; needs the
    extra `orbax`. `openpi-jax`: weights alone in one .npz file, by openpi's JAX names, or by big_vision's for a
    PaliGemma that answers questions."""

    statistics: str = ""
    """With `--to openvla`: the data set's name under which the reference will look for the statistics (its unnorm_key).
    Default: the one they were read under."""

    def __post_init__(self) -> None:
        if self.out.exists():
            raise UserError(f"{self.out} exists already.", fix="remove it, or give another name")
        if (self.to == "openpi-jax") != (self.out.suffix == ".npz"):
            raise UserError(
                f"{self.out} does not fit --to {self.to}.",
                fix="give openpi-jax a file that ends in .npz, and the others a folder",
            )
        if self.statistics and self.to != "openvla":
            raise UserError(f"--to {self.to} files statistics under no name.", fix="leave out --statistics")
