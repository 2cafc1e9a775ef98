"""What `handeye train` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from handeye.conventions.image import Method
from handeye.conventions.normalize import Kind
from handeye.data.config import Ends, Way
from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a linear warm-up, then a cosine to zero, and an average of the weights that is what gets evaluated."""

    learning_rate: float = 2e-3
    """The highest, reached after the warm-up."""

    warmup: int = 100
    """Optimizer steps from zero to the highest learning rate."""

    weight_decay: float = 0.01
    """On matrices and filters; never on biases, norms and embeddings."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    ema: float = 0.998
    """The average forgets with this factor per step; shorter at the start, so that it does not remember noise."""


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How pictures reach the model, and how training varies them."""

    image_size: int = 96
    """Height and width of the model's pictures, in pixels."""

    resize: Method = "area"

    shift: int = 1
    """Augmentation: each picture moves by up to this many pixels in each direction."""

    brightness: float = 0.1
    """Augmentation: up to this fraction of the full range is added."""

    contrast: float = 0.15
    """Augmentation: factor about the middle grey, 1 - contrast to 1 + contrast."""

    colour: float = 0.05
    """Augmentation: factor per colour channel. Small: sentences name colours."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything `handeye train` needs. Written to the run's folder as it was understood."""

    data: Path
    """Folder of demonstrations (`handeye demos`, or LIBERO's own files)."""

    out: Path
    """Folder of this run. The same command goes on where it was killed."""

    steps: int = 4000
    """Optimizer steps in all."""

    batch: int = 32
    """Examples per optimizer step."""

    family: str = "tiny"
    """A name in `handeye.models.FAMILIES`."""

    model: dict[str, int | float] = field(default_factory=dict)
    """Fields of the family's Config that differ from its defaults: `--model keypoints 16 width 128`."""

    chunk: int = 8
    """Actions predicted in one pass."""

    chunk_ends: Ends = "pad"
    """Of a chunk that reaches past its demonstration's end. `pad`: the last action is repeated and left out of the
    loss; `repeat`: it is repeated and counts (openpi); `drop`: no chunk starts there, so the last steps are never an
    input (openvla-oft)."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    images: ImageConfig = field(default_factory=ImageConfig)

    prompt_length: int = 128
    """Bytes of the longest sentence."""

    frames: Way = "auto"
    """Where the model's pictures are kept: in memory; in a memory-mapped `cache`, made once; or nowhere, so that they
    are decoded whenever they are needed (`stream`). `auto`: in the --cache folder if one is named, else in memory if
    they fit, else nowhere. Training sees the same, to the bit."""

    memory_gb: float = 6.0
    """Most that they may take in memory (1e9 bytes)."""

    cache: Path | None = None
    """The folder for memory-mapped ones. Later runs find them again."""

    loader_workers: int = 0
    """Processes that make batches ahead. Training sees the same for any number."""

    normalize_proprio: Kind = "mean_std"
    normalize_actions: Kind = "quantiles"

    held_out: float = 0.1
    """Fraction of each task's demonstrations kept for validation; whole demonstrations, never single steps."""

    validate_every: int = 500
    """Optimizer steps between validations."""

    validation_examples: int = 512
    """At most this many, spread evenly over the held-out demonstrations."""

    save_every: int = 500
    """Optimizer steps between saves, each of which training can go on from."""

    keep: int = 2
    """Saves kept. An older one goes only when the newer is whole."""

    log_every: int = 25
    """Optimizer steps per line of metrics.jsonl; a line holds their mean."""

    device: str = "cpu"
    threads: int | Literal["all"] = "all"
    """Processor threads. Sums are ordered by it, so another number gives other last digits. On a machine that others
    keep busy 1 is faster than two that wait for each other."""

    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "chunk", "validate_every", "save_every", "keep", "log_every", "prompt_length"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(0 < self.held_out < 1, "held_out", self.held_out, "between 0 and 1")
        _require(self.optimizer.learning_rate > 0, "learning_rate", self.optimizer.learning_rate, "above 0")
        _require(0 <= self.optimizer.ema < 1, "ema", self.optimizer.ema, "at least 0 and below 1")
        size = self.images.image_size
        _require(16 <= size <= 1024 and size % 8 == 0, "image_size", size, "a multiple of 8 from 16 to 1024")
        _require(self.loader_workers >= 0, "loader_workers", self.loader_workers, "0 or more")
        _require(self.threads == "all" or self.threads >= 1, "threads", self.threads, "'all' or at least 1")
        if self.save_every % self.log_every:
            raise UserError(
                f"--save-every {self.save_every} is not a multiple of --log-every {self.log_every}.",
                why="training that goes on from a save could not tell the mean of the line it was in the middle of",
                fix=f"use --save-every {-(-self.save_every // self.log_every) * self.log_every}",
            )


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UserError(f"--{name.replace('_', '-')} {value} makes no sense.", fix=f"use {wanted}")
