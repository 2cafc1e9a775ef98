"""What `handeye train paligemma_xvr` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from tyro.conf import Suppress

from handeye.errors import UserError
from handeye.train.config import Tracker

Trainable = Literal["attention_only", "full_llm", "all"]
RANDOM = "random"


@dataclass(frozen=True, kw_only=True)
class SizesConfig:
    """Of a model that starts from random weights (`--start random`): small enough for a CPU. Other starts bring
    theirs."""

    image_size: int = 112
    """Height and width of a picture, in pixels; a multiple of --patch."""

    patch: int = 16
    """One token per square of so many pixels."""

    vision_width: int = 64
    vision_depth: int = 2
    width: int = 128
    depth: int = 4
    heads: int = 4
    """Of the language model and of the vision tower."""

    def __post_init__(self) -> None:
        for one in fields(self):
            _require((value := getattr(self, one.name)) >= 1, one.name, value, "at least 1")
        if self.image_size % self.patch:
            raise UserError(
                f"--image-size {self.image_size} is not a multiple of --patch {self.patch}.",
                why="the model would not see the pixels that are over",
                fix=f"use --image-size {_next(self.image_size, self.patch)}",
            )
        for name, unit, why in (
            (
                "width",
                2 * self.heads,
                "every head has the same even number of dimensions, turned in pairs",
            ),
            ("vision_width", self.heads, "every head has the same number of dimensions"),
        ):
            if (value := getattr(self, name)) % unit:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(
                    f"{flag} {value} does not go with --heads {self.heads}.",
                    why=why,
                    fix=f"use {flag} {_next(value, unit)}",
                )


@dataclass(frozen=True, kw_only=True)
class VqaConfig:
    """Everything that fine-tuning a PaliGemma on questions needs. Written to the run's folder as it was understood."""

    data: Path
    """Folder of questions in XVR's layout (`handeye fetch xvr`, `handeye data make-xvr`)."""

    out: Path
    """Folder of this run. The same command goes on where it was killed."""

    start: str
    """Where the weights are from: PaliGemma's .npz, a checkpoint of openpi's or of ours (a policy's half that reads is
    taken), a run, or `random`."""

    start_heads: tuple[int, int] | None = None
    """Of the language model and of SigLIP, where --start is openpi's PyTorch model in a size that was never
    published: its file does not say them."""

    tokenizer: Path | None = None
    """Otherwise the one in the checkpoint, `paligemma_tokenizer.model` beside the weights, or openpi's cache."""

    env: Path | None = None
    """A file of settings as the reference's trainer reads them (MODEL_CHECKPOINT_PATH, LEARNING_RATE, ...). What it
    says counts instead of the preset; a flag that says otherwise is an error."""

    preset: Suppress[str] = ""

    train: str = "train.jsonl"
    valid: str = "valid.jsonl"
    """The files of questions in --data to learn from and to validate on. An empty name: no validation."""

    train_examples: int | None = None
    valid_examples: int | None = 512
    """At most so many questions, spread evenly over the file; `None`: all."""

    too_long: Literal["refuse", "leave out"] = "refuse"
    """What happens when questions have more pictures or tokens than the model is given; those left out are counted."""

    trainable: Trainable = "attention_only"
    """`attention_only`: the language model's attention (5.8 % of PaliGemma); `full_llm`: all of the language model;
    `all`: the vision tower too. The rest stays as it was, bit for bit."""

    epochs: int = 2
    """How often each question is seen."""

    steps: int | None = None
    """Optimizer steps in all, instead of --epochs."""

    batch: int = 4
    """Questions that go through the model together."""

    accumulate: int = 8
    """Such batches per optimizer step: its gradient is that of batch x accumulate questions at once, and all of them
    count as seen."""

    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`sgd`: plain, without momentum, as the reference's first trainer (its learning rate was 0.03)."""

    learning_rate: float = 5e-5
    """The highest, reached after the warm-up."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warm-up; the first two end at zero (big_vision utils.py, create_learning_rate_schedule)."""

    warmup: float = 0.1
    """Fraction of all optimizer steps that the learning rate takes from zero to its highest."""

    weight_decay: float = 0.0
    """On trainable matrices; never on biases, norms and the table of tokens, and never with sgd."""

    clip: float = 1.0
    """Largest norm of the gradient, over what is trained."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """What is computed in. `bf16`: weights, gradients and the optimizer stay float32, matrix products are bfloat16."""

    recompute: bool = False
    """Keep only each layer's input for the way back and compute the layer once more: less memory for a third more
    time."""

    length: int = 512
    """Tokens of a question with its answer."""

    pictures: int = 10
    """Pictures that a question may have. Those that it does not have are neither looked at nor counted."""

    prefix: str = ""
    """Before every question; `answer en` is what PaliGemma was pre-trained with."""

    lower: bool = True
    """Answers in lower case, as the reference trains them."""

    answer_length: int = 32
    """Tokens of the longest answer while validating."""

    log_every: int = 10
    """Optimizer steps per line of metrics.jsonl; a line holds their mean."""

    validate_every: int = 100
    save_every: int = 500
    """Optimizer steps between validations, and between saves that training can go on from."""

    track: tuple[Tracker, ...] = ()
    """Also send what goes into metrics.jsonl to TensorBoard's files, or to Weights & Biases."""

    wandb_project: str | None = None
    wandb_entity: str | None = None
    """Where Weights & Biases keeps it. `None`: where its own variables, WANDB_PROJECT and so on, or its settings
    say."""

    keep: int = 3
    """Saves kept. An older one goes only when the newer is whole."""

    proof: float | None = None
    """Exact matches on the validation questions that must be reached: training ends as soon as they are; if they never
    are, the exit code is 1."""

    sizes: SizesConfig = field(default_factory=SizesConfig)

    loader_workers: int = 2
    """Threads that decode pictures. Training sees the same for any number."""

    device: str = "auto"
    """`auto`: the first GPU, if there is one."""

    threads: int | Literal["all"] = "all"
    """Processor threads. Sums are ordered by it, so another number gives other last digits."""

    seed: int = 0

    def __post_init__(self) -> None:
        counts = (
            "epochs", "batch", "accumulate", "length", "pictures", "answer_length", "log_every", "validate_every",
            "save_every", "keep", "loader_workers",
        )  # fmt: skip
        for name in counts:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("steps", "train_examples", "valid_examples"):
            _require((value := getattr(self, name)) is None or value >= 1, name, value, "at least 1, or None")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.warmup < 1, "warmup", self.warmup, "a fraction: at least 0 and below 1")
        _require(self.clip > 0, "clip", self.clip, "above 0")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.proof is None or 0 < self.proof <= 1, "proof", self.proof, "a fraction above 0, at most 1")
        _require(self.threads == "all" or self.threads >= 1, "threads", self.threads, "'all' or at least 1")
        if self.optimizer == "sgd" and self.weight_decay:
            raise UserError("--optimizer sgd takes no --weight-decay.", fix="leave one of them out")
        if self.proof is not None and not self.valid:
            raise UserError("--proof has nothing to be shown on.", fix="name a file of questions with --valid")
        if self.start == RANDOM and self.start_heads is not None:
            raise UserError(
                "--start-heads has no effect.", why=f"nothing is read with --start {RANDOM}", fix="use --heads"
            )
        if self.start != RANDOM and self.sizes != SizesConfig():
            raise UserError(
                f"The sizes of {self.start} cannot be chosen.",
                why="its weights decide them",
                fix=f"leave the sizes out, or use --start {RANDOM}",
            )


def _next(value: int, unit: int) -> int:
    """The multiple of `unit` that is not below."""
    return -(-value // unit) * unit


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise UserError(f"--{name.replace('_', '-')} {value} makes no sense.", fix=f"use {wanted}")
