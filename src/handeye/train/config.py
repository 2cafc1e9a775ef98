"""What every `handeye train` is configured with; what a family adds is in `families/config.py`. Imports nothing heavy:
`--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from handeye.compute.config import Attention
from handeye.data.config import Ends, Way
from handeye.errors import UserError

Schedule = Literal["cosine", "linear", "constant", "step", "openpi"]
Precision = Literal["fp32", "bf16"]
Quantized = Literal["none", "int8", "nf4"]
Sharing = Literal["ddp", "fsdp"]
Tracker = Literal["tensorboard", "wandb"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a linear warm-up, a schedule, and an average of the weights that is what gets evaluated."""

    learning_rate: float = 2e-3
    """The highest, reached after the warm-up."""

    warmup: int = 100
    """Optimizer steps from zero to the highest learning rate."""

    schedule: Schedule = "cosine"
    """What the learning rate is multiplied with besides the warm-up: a cosine or a line to `--end-fraction` at the last
    step, one, or one and then `--end-fraction` from `--decay-at` on. Warm-up and schedule multiply, so neither cancels
    the other. `openpi`: its warm-up, which does not begin at zero, and then a cosine over the steps that are left."""

    end_fraction: float = 0.0
    """Of the highest learning rate, at the end."""

    decay_at: int = 0
    """Optimizer step of `--schedule step`."""

    betas: tuple[float, float] = (0.9, 0.95)
    """Of AdamW's averages of the gradient and of its square."""

    weight_decay: float = 0.01
    """On matrices and filters; never on biases, norms and embeddings."""

    clip: float | None = 1.0
    """Largest norm of the gradient. None: it is measured and left alone."""

    ema: float = 0.998
    """The average forgets with this factor per step. 0: there is no average, the weights themselves are evaluated and
    kept."""

    ema_grows: bool = True
    """It forgets faster at the start, so that it does not remember noise. Off, as in openpi: the same at every step."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything `handeye train` needs. Written to the run's folder as it was understood."""

    data: Path
    """Folder of demonstrations (`handeye demos`, or LIBERO's own, in any format that `handeye data` reads)."""

    out: Path
    """Folder of this run. The same command goes on where it was killed."""

    start_from: Path | None = None
    """The checkpoint to fine-tune, ours or a published one. None: every weight is initialised from the seed."""

    allow_partial: bool = False
    """Start also where checkpoint and model do not fit: what is missing or has another shape is initialised from the
    seed, what is over is left out. It says what, module by module, and every result of the policy is marked."""

    steps: int = 4000
    """Optimizer steps in all."""

    batch: int = 32
    """Examples per optimizer step, of all processes and all accumulated parts together."""

    accumulate: int = 1
    """Parts into which each process divides its examples, one after the other in memory. The step is that of the whole
    batch."""

    chunk: int = 8
    """Actions predicted in one pass."""

    chunk_ends: Ends = "pad"
    """Of a chunk that reaches past its demonstration's end. `pad`: the last action is repeated and left out of the
    loss; `repeat`: it is repeated and counts (openpi); `drop`: no chunk starts there, so the last steps are never an
    input (openvla-oft)."""

    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    learning_rate_of: dict[str, float] = field(default_factory=dict)
    """Factors on the learning rate of parameters by the beginnings of their names: `projector. 0.1`."""

    lora_rank: int = 0
    """Rank of the adapters beside frozen weights (LoRA). 0: every weight is trained."""

    lora_alpha: int | None = None
    """An adapter counts alpha / rank. None: min(rank, 16), openvla's rule."""

    lora_rank_of: dict[str, int] = field(default_factory=dict)
    """Other ranks by the beginnings of modules' names, the longest of which counts: `expert. 32`. Their alpha grows
    with them, so that alpha / rank is the same everywhere."""

    lora_dropout: float = 0.0

    lora_targets: tuple[str, ...] = ()
    """Names of modules, or their last parts, that get an adapter: `q_proj v_proj`. One that matches nothing is an
    error. Empty: the family's list, which is the reference's."""

    precision: Precision = "fp32"
    """What is computed in. `bf16`: weights that are trained stay float32 and are multiplied in bfloat16; frozen ones
    are kept in bfloat16."""

    quantize: Quantized = "none"
    """Of the frozen weights of the language model (bitsandbytes): QLoRA. Only with --lora-rank."""

    checkpointing: bool = False
    """Recompute what is inside each block on the way back instead of keeping it: less memory, a third more time."""

    sharing: Sharing = "ddp"
    """With several processes (`torchrun`): each has the whole model (`ddp`), or a part of it (`fsdp`, FSDP2)."""

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

    keep_best: bool = False
    """Also keep the save whose validation had the least error of the arm. `best.json` names it."""

    merge_saves: bool = True
    """Each save is also a checkpoint to evaluate, adapters merged. Off: only what training goes on from, which is small
    beside a large frozen model. The end result is always whole."""

    log_every: int = 25
    """Optimizer steps per line of metrics.jsonl; a line holds their mean."""

    track: tuple[Tracker, ...] = ()
    """Where metrics.jsonl is also sent."""

    attention: Attention = "auto"
    """`auto` tries flash, sdpa and eager in that order and takes the first that the device can do and that agrees with
    eager on a short input; it says why each was or was not taken."""

    device: str = "cpu"
    threads: int | Literal["all"] = "all"
    """Processor threads. Sums are ordered by it, so another number gives other last digits. On a machine that others
    keep busy 1 is faster than two that wait for each other."""

    seed: int = 0

    @property
    def family(self) -> str:
        """A name in `handeye.models.FAMILIES`."""
        raise NotImplementedError

    @property
    def begins_with_something(self) -> bool:
        """Not with the seed alone."""
        return self.start_from is not None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulate", "chunk", "validate_every", "save_every", "keep", "log_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 < self.held_out < 1, "held_out", self.held_out, "between 0 and 1")
        require(self.optimizer.learning_rate > 0, "learning_rate", self.optimizer.learning_rate, "above 0")
        require(0 <= self.optimizer.ema < 1, "ema", self.optimizer.ema, "at least 0 and below 1")
        require(0 <= self.optimizer.end_fraction <= 1, "end_fraction", self.optimizer.end_fraction, "0 to 1")
        require(self.optimizer.clip is None or self.optimizer.clip > 0, "clip", self.optimizer.clip, "above 0, or None")
        require(self.loader_workers >= 0, "loader_workers", self.loader_workers, "0 or more")
        require(self.lora_rank >= 0, "lora_rank", self.lora_rank, "0 or more")
        require(all(rank >= 1 for rank in self.lora_rank_of.values()), "lora_rank_of", self.lora_rank_of, "at least 1")
        require(0 <= self.lora_dropout < 1, "lora_dropout", self.lora_dropout, "at least 0 and below 1")
        require(self.threads == "all" or self.threads >= 1, "threads", self.threads, "'all' or at least 1")
        if self.batch % self.accumulate:
            raise UserError(
                f"A batch of {self.batch} cannot be divided into {self.accumulate} equal parts.",
                fix=f"use --batch {-(-self.batch // self.accumulate) * self.accumulate}",
            )
        if (self.optimizer.schedule == "step") != (self.optimizer.decay_at > 0):
            raise UserError(
                f"--schedule {self.optimizer.schedule} and --decay-at {self.optimizer.decay_at} do not go together.",
                fix="add --decay-at N" if self.optimizer.schedule == "step" else "add --decay-at 0",
            )
        if not self.lora_rank and (self.lora_targets or self.lora_rank_of or self.quantize != "none"):
            flag = "lora-targets" if self.lora_targets else "lora-rank-of" if self.lora_rank_of else "quantize"
            raise UserError(
                "Adapters are off.",
                why=f"--{flag} says what happens beside them",
                fix="add --lora-rank 32",
            )
        if self.allow_partial and not self.begins_with_something:
            raise UserError(
                "There is no checkpoint of which a part could be taken.",
                why="--allow-partial is for --start-from",
                fix="leave it out, or say what to start from",
            )
        if self.save_every % self.log_every:
            raise UserError(
                f"--save-every {self.save_every} is not a multiple of --log-every {self.log_every}.",
                why="training that goes on from a save could not tell the mean of the line it was in the middle of",
                fix=f"use --save-every {-(-self.save_every // self.log_every) * self.log_every}",
            )
        if self.keep_best and self.save_every % self.validate_every:
            raise UserError(
                "The best save cannot be told.",
                why=f"saves come every {self.save_every} steps, validations every {self.validate_every}",
                fix=f"use --validate-every {self.save_every}",
            )


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """For the settings of one field, whose flag is its name."""
    if not holds:
        raise UserError(f"--{name.replace('_', '-')} {value} makes no sense.", fix=f"use {wanted}")
