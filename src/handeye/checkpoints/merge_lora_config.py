"""What `handeye merge` is configured with. Nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MergeLoraConfig:
    """Add a LoRA adapter into the weights that it was trained on: in single precision, rounded once. A second merge and
    another base are refused; what the rounding changes is measured and written into the manifest."""

    adapter: Annotated[Path, Positional, arg(metavar="ADAPTER")]
    """A folder as peft saves it (adapter_config.json); the folder of a run, ours (`adapter/` in it) or the reference's
    (`lora_adapter/`, and its heads, which come along)."""

    base: Annotated[str, Positional, arg(metavar="BASE")]
    """The checkpoint that it was trained on, ours or a published one, with its options as in training:
    `DIR#name=value`."""

    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """The folder to write, in our layout; `handeye convert` writes others."""

    onto_merged: bool = False
    """The adapter was trained on a base that is a merge itself, as the reference trains when it resumes."""

    def __post_init__(self) -> None:
        if self.out.exists():
            raise UserError(f"{self.out} exists already.", fix="remove it, or give another name")
