"""Settings from an env file, under the names of the reference's trainer (SChaeck/paligemma_jax_training src/config.py,
078edc5 and 5b7068a), so that an experiment that exists need not be typed again. An unknown name is an error: theirs
reads it from the environment, or not at all, and says nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from handeye.console import say
from handeye.errors import UserError, unknown
from handeye.train.vqa_config import VqaConfig

_TRAINABLE = {"attention_only": "attention_only", "full_llm": "full_llm", "full_model": "all", "all": "all"}
_PRECISION = {"float32": "fp32", "bfloat16": "bf16"}


def _one_of(known: Mapping[str, str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text!r} is none of {', '.join(known)}")
        return known[text]

    return read


def _wandb(text: str) -> tuple[str, ...]:
    return ("wandb",) if text.lower() in ("true", "1", "yes", "on") else ()


NAMES: Mapping[str, tuple[str, Callable[[str], Any]]] = {
    "MODEL_CHECKPOINT_PATH": ("start", str),
    "MODEL_TOKENIZER_PATH": ("tokenizer", Path),
    "TRAINABLE_PARAMS": ("trainable", _one_of(_TRAINABLE)),
    "LEARNING_RATE": ("learning_rate", float),
    "BATCH_SIZE": ("batch", int),
    "GRADIENT_ACCUMULATION_STEPS": ("accumulate", int),
    "NUM_EPOCHS": ("epochs", int),
    "WARMUP_PERCENT": ("warmup", float),  # a fraction there too
    "LR_SCHEDULE": ("schedule", _one_of({name: name for name in ("cosine", "linear", "constant")})),
    "MAX_GRAD_NORM": ("clip", float),
    "PRECISION": ("precision", _one_of(_PRECISION)),
    "SEED": ("seed", int),
    "MAX_IMAGES": ("pictures", int),
    "DATA_BASE_DIR": ("data", Path),
    "DATA_TRAIN_FILE": ("train", str),
    "DATA_VALID_FILE": ("valid", str),
    "MAX_SEQ_LENGTH": ("length", int),
    "NUM_PARALLEL_CALLS": ("loader_workers", int),
    "PROMPT_PREFIX": ("prefix", str),
    "MAX_TRAIN_SAMPLES": ("train_examples", int),
    "MAX_EVAL_SAMPLES": ("valid_examples", int),
    "OUTPUT_DIR": ("out", Path),
    "LOG_EVERY": ("log_every", int),
    "EVAL_EVERY": ("validate_every", int),
    "CHECKPOINT_EVERY": ("save_every", int),
    "MAX_CHECKPOINTS_TO_KEEP": ("keep", int),
    "USE_WANDB": ("track", _wandb),
    "WANDB_PROJECT": ("wandb_project", str),
    "WANDB_ENTITY": ("wandb_entity", str),
}
"""Their name -> our field."""

ONLY: Mapping[str, tuple[str, ...]] = {
    "MODEL_LLM_VARIANT": ("gemma_2b",),
    "MODEL_IMG_VARIANT": ("So400m/14",),
    "MODEL_IMG_POOL_TYPE": ("none",),
    "EVAL_SAMPLER": ("greedy",),
}
"""Names of which one value is what happens here anyway; another one is an error."""

WITHOUT_EFFECT = {
    "EXPERIMENT_NAME": "the run's folder is its name",
    "MODEL_CHECKPOINT_URL": "nothing is fetched while training",
    "MODEL_KAGGLE_HANDLE": "nothing is fetched while training",
    "MODEL_VOCAB_SIZE": "the weights decide it",
    "MODEL_IMG_SIZE": "the weights decide it",
    "MODEL_IMG_SCAN": "of JAX",
    "MODEL_IMG_DTYPE_MM": "PRECISION decides it",
    "DATA_EVAL_FILE": "`handeye evaluate-vqa` is given it",
    "DATA_IMAGE_DIR": "the questions name their pictures",
    "SHUFFLE_BUFFER_SIZE": "every epoch is shuffled as a whole",
    "EVAL_NUM_EXAMPLES": "`handeye evaluate-vqa` is given it",
    "EVAL_BATCH_SIZE": "BATCH_SIZE is used",
    "EVAL_NUM_BEAMS": "answers are greedy",
    "XLA_MEM_FRACTION": "of JAX",
    "SHARDING_STRATEGY": "of JAX",
    "TF_ALLOW_GROWTH": "of TensorFlow",
    "BIG_VISION_PATH": "not needed",
}


def read_env(path: Path) -> dict[str, str]:
    """NAME=value by line; `#` begins a comment, an empty value counts as not given (as there)."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as an env file.", why=str(error), fix="check --env") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip().removeprefix("export ").strip()
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name.isidentifier():
            raise UserError(
                f"{path} line {number} is not NAME=value.", why=repr(line.strip()[:60]), fix="mend the line"
            )
        if value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1:
            value = value[1:-1]
        else:
            value = value.split(" #")[0].strip()
        if name in found:
            raise UserError(f"{path} line {number} gives {name} once more.", fix="leave one of them out")
        if value:
            found[name] = value
    return found


def env_file(words: Sequence[str]) -> Path | None:
    """The env file that a command line names: before anything else is parsed, since its settings are what the flags
    beside it are compared with."""
    named = [second for first, second in pairwise([*words, ""]) if first == "--env"]
    named += [word.removeprefix("--env=") for word in words if word.startswith("--env=")]
    return Path(named[-1]) if named and named[-1] not in ("", "None") else None


def with_env(preset: VqaConfig, path: Path) -> VqaConfig:
    """The preset with what the file says. Flags are parsed over it: one that says otherwise then shows, also where it
    says what the preset does."""
    found = _settings(path)[0]
    for field, (name, value) in found.items():  # one by one: what is refused has a name
        try:
            replace(preset, **{field: value})
        except UserError as error:
            raise UserError(f"{path}: {name}={value} cannot be used.", why=error.what, fix=error.fix) from None
    return replace(preset, **{field: value for field, (_, value) in found.items()}, env=path)


def settled(config: VqaConfig) -> VqaConfig:
    """As training takes it, without a file. UserError where the file and the rest (the flags, or whoever made it)
    disagree."""
    given, idle = ({}, []) if config.env is None else _settings(config.env)
    for field, (name, value) in given.items():
        if (asked := getattr(config, field)) != value:
            raise UserError(
                f"--{field.replace('_', '-')} {asked} and {config.env} disagree.",
                why=f"it says {name}={value}",
                fix="leave one of them out",
            )
    unsent = dict[str, Any]() if "wandb" in config.track else {"wandb_project": None, "wandb_entity": None}
    for field in [field for field in unsent if getattr(config, field) is not None]:
        if field not in given:
            raise UserError(
                f"--{field.replace('_', '-')} has no effect.",
                why="nothing is sent to Weights & Biases",
                fix="add --track wandb, or leave it out",
            )
        idle.append(f"{given[field][0]} (nothing is sent to Weights & Biases)")
    if idle:
        say(f"{config.env}: without effect here: {'; '.join(idle)}")
    return replace(config, env=None, **unsent)


def _settings(path: Path) -> tuple[dict[str, tuple[str, Any]], list[str]]:
    """Our field -> (their name, the value); and what has no effect, with why."""
    settings, idle = dict[str, tuple[str, Any]](), list[str]()
    for name, text in read_env(path).items():
        if name in NAMES:
            field, read = NAMES[name]
            try:
                settings[field] = name, read(text)
            except ValueError as error:
                raise UserError(f"{path}: {name}={text} cannot be used.", why=str(error), fix="mend it") from None
        elif name in ONLY:
            if text.lower() not in {value.lower() for value in ONLY[name]}:
                raise UserError(
                    f"{path}: {name}={text} is not what happens here.",
                    why=f"only {' or '.join(ONLY[name])} is possible",
                    fix="change it, or leave it out",
                )
        elif name in WITHOUT_EFFECT:
            idle.append(f"{name} ({WITHOUT_EFFECT[name]})")
        else:
            raise unknown(f"name in {path}", name, [*NAMES, *ONLY, *WITHOUT_EFFECT], fix="use one of these")
    return settings, idle


assert {field for field, _ in NAMES.values()} <= {f.name for f in fields(VqaConfig)}  # a renamed field would be silent
