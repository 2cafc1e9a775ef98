"""What `handeye data make-xvr` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.errors import UserError
from handeye.sim.config import Backend


@dataclass(frozen=True, kw_only=True)
class MakeXvrConfig:
    """True questions about several pictures of the tabletop suite, of XVR's eight kinds and in its layout. Answers
    follow from the simulator's state and the cameras' places."""

    out: Annotated[Path, Positional, arg(metavar="OUT")]
    """A new folder: train.jsonl, valid.jsonl, xvr_eval.jsonl and images/. It appears when it is whole."""

    train: int = 800
    valid: int = 160
    eval: int = 400
    """Questions of each file, the eight kinds in turn. Scenes of one file occur in no other."""

    size: int = 224
    """Height and width of the pictures, in pixels."""

    pieces: int = 512
    """Also write `tokenizer.model`, of so many pieces, for reduced models. The published model has its own."""

    seed: int = 0
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        for name in ("train", "valid", "eval"):
            if getattr(self, name) < 8:
                raise UserError(f"--{name} {getattr(self, name)} is too few.", fix="use 8 or more: one of each kind")
        if self.size < 96:
            raise UserError(f"--size {self.size} is too small.", why="marks would hide things", fix="use 96 or more")
        if self.out.exists():
            raise UserError(f"{self.out} exists already.", fix="remove it, or give another name")
