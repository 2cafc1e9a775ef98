"""What `handeye evaluate-vqa` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class EvaluateVqaConfig:
    """Ask a PaliGemma the questions of a file, greedily, and count what is right: per kind, with 95 % intervals, beside
    guessing and the published figures. Goes on where it was killed."""

    checkpoint: Annotated[Path, Positional, arg(metavar="CHECKPOINT")]
    """A run of `handeye train paligemma_xvr` or one of its checkpoints; or PaliGemma's .npz, or a checkpoint of
    openpi's or of ours whose half that reads is asked."""

    dataset: Annotated[Path, Positional, arg(metavar="DATASET")]
    """A folder in XVR's layout, or one file of questions."""

    split: str = "xvr_eval"
    """Which file of a folder."""

    questions: int | None = None
    """At most so many, spread evenly over the file; `None`: all."""

    too_long: Literal["refuse", "leave out"] = "refuse"
    """What happens when questions have more pictures or tokens than the model is given; those left out are counted."""

    rows: int = 8
    """Questions that are answered together. Answers do not depend on it."""

    answer_length: int = 32
    """Tokens of the longest answer."""

    out: Path | None = None
    """Folder of the result: plan.json, predictions.jsonl, summary.json. Default: beside the checkpoint."""

    tokenizer: Path | None = None
    length: int | None = None
    pictures: int | None = None
    prefix: str | None = None
    """For a CHECKPOINT that does not say how it is asked: its tokenizer's file, tokens of a question (512 unless said)
    and its pictures (10), and what stands before it (nothing). Of a checkpoint that says it, one that says otherwise is
    an error."""

    start_heads: tuple[int, int] | None = None
    """As of `handeye train paligemma_xvr`; of weights that tell their heads, other ones are an error."""

    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    """`auto`: the first GPU, if there is one."""

    def __post_init__(self) -> None:
        for name in ("rows", "answer_length", "length", "pictures"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value} makes no sense.", fix="use 1 or more")
        if self.questions is not None and self.questions < 1:
            raise UserError(f"--questions {self.questions} makes no sense.", fix="use 1 or more, or None")

    def folder(self) -> Path:
        if self.out is not None:
            return self.out
        name = self.dataset.stem if self.dataset.is_file() else f"{self.dataset.name}-{self.split}"
        return self.checkpoint.with_name(f"{self.checkpoint.stem}-vqa-{name}")
