"""Settings under the reference's names: each has its effect, and what it says nothing about is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.cli import main
from handeye.errors import UserError
from handeye.train import vqa
from handeye.train.vqa_config import VqaConfig
from handeye.train.vqa_env import NAMES, ONLY, WITHOUT_EFFECT, env_file, read_env, settled, with_env
from handeye.train.vqa_presets import paligemma_xvr

OPENPI = """
# as the reference's envs/.env.openpi, with the names of its newer trainer
EXPERIMENT_NAME=pi05_paligemma_training
MODEL_CHECKPOINT_PATH=./checkpoints/pi05_base_paligemma.npz
export MODEL_TOKENIZER_PATH="./assets/paligemma_tokenizer.model"
MODEL_LLM_VARIANT=gemma_2b
TRAINABLE_PARAMS=full_model
LEARNING_RATE=0.0002   # of plain SGD
LR_SCHEDULE=linear
WARMUP_PERCENT=0.05
BATCH_SIZE=2
GRADIENT_ACCUMULATION_STEPS=16
NUM_EPOCHS=3
MAX_GRAD_NORM=0.5
PRECISION=bfloat16
SEED=42
MAX_IMAGES=6
DATA_BASE_DIR=/data/XVR
DATA_TRAIN_FILE=a.jsonl
DATA_VALID_FILE=b.jsonl
MAX_SEQ_LENGTH=256
NUM_PARALLEL_CALLS=8
PROMPT_PREFIX='answer en'
MAX_TRAIN_SAMPLES=1000
MAX_EVAL_SAMPLES=
OUTPUT_DIR=./outputs/x
LOG_EVERY=50
EVAL_EVERY=500
CHECKPOINT_EVERY=5000
MAX_CHECKPOINTS_TO_KEEP=2
USE_WANDB=true
WANDB_PROJECT=pictures
WANDB_ENTITY=us
EVAL_SAMPLER=greedy
XLA_MEM_FRACTION=0.9
"""


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "x.env").write_text(text)
    return tmp_path / "x.env"


def test_each_has_its_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = paligemma_xvr()
    after = settled(with_env(before, write(tmp_path, OPENPI)))
    assert after == replace(
        before, start="./checkpoints/pi05_base_paligemma.npz", tokenizer=Path("./assets/paligemma_tokenizer.model"),
        trainable="all", learning_rate=2e-4, schedule="linear", warmup=0.05, batch=2, accumulate=16, epochs=3, clip=0.5,
        precision="bf16", seed=42, pictures=6, data=Path("/data/XVR"), train="a.jsonl", valid="b.jsonl", length=256,
        loader_workers=8, prefix="answer en", train_examples=1000, out=Path("./outputs/x"), log_every=50,
        validate_every=500, save_every=5000, keep=2,
        track=("wandb",), wandb_project="pictures", wandb_entity="us",
    )  # fmt: skip
    changed = {name for name in NAMES if getattr(after, NAMES[name][0]) != getattr(before, NAMES[name][0])}
    assert changed == set(NAMES) - {"MAX_EVAL_SAMPLES"}  # which is empty, so not given
    said = " ".join(capsys.readouterr().out.split())
    assert "EXPERIMENT_NAME (the run's folder is its name)" in said and "XLA_MEM_FRACTION" in said
    assert "LEARNING_RATE" not in said


def test_without_a_file_nothing_changes() -> None:
    assert settled(paligemma_xvr()) == paligemma_xvr()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("LEARNING_RTE=1", "Did you mean 'LEARNING_RATE'"),
        ("TRAINABLE_PARAMS=attention", "'attention' is none of attention_only"),
        ("BATCH_SIZE=four", "BATCH_SIZE=four cannot be used"),
        ("PRECISION=float16", "'float16' is none of"),
        ("MODEL_LLM_VARIANT=gemma_7b", "MODEL_LLM_VARIANT=gemma_7b is not what happens"),
        ("EVAL_SAMPLER=beam", "EVAL_SAMPLER=beam is not what happens"),
        ("SEED=1\nSEED=2", "line 2 gives SEED once more"),
        ("SEED 1", "line 1 is not NAME=value"),
        ("BATCH_SIZE=0", "BATCH_SIZE=0 cannot be used.\n  why: --batch 0 makes no sense."),
    ],
)
def test_what_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        with_env(paligemma_xvr(), write(tmp_path, text))
    assert said in str(error.value)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VqaConfig]:
    """What training is given when a user types this."""
    found: list[VqaConfig] = []
    monkeypatch.setattr(vqa, "run", lambda config: found.append(settled(config)))

    def type_(*words: object) -> VqaConfig:
        main(["train", "paligemma_xvr", *map(str, words)])
        return found[-1]

    return type_


def test_a_flag_that_says_otherwise(tmp_path: Path, parsed, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the preset says, whose own value is an answer like any other."""
    env = write(tmp_path, "LEARNING_RATE=1e-3\nSEED=0")
    preset = paligemma_xvr()
    for flag in (("--learning-rate", "0.2"), (f"--learning-rate={preset.learning_rate}",), ("--seed", "1")):
        for words in ((*flag, "--env", env), (f"--env={env}", *flag)):
            with pytest.raises(SystemExit) as stop:
                parsed(*words)
            assert stop.value.code == 2 and "disagree" in capsys.readouterr().err, words
    agreeing = parsed("--env", env, "--learning-rate", "0.001", "--steps", "7")
    assert agreeing == replace(preset, learning_rate=1e-3, steps=7)
    assert parsed("--env", "None") == preset


def test_settings_of_file_and_flags_meet_before_they_are_judged(tmp_path: Path, parsed) -> None:
    env = write(tmp_path, "LOG_EVERY=3\nCHECKPOINT_EVERY=500\nMODEL_CHECKPOINT_PATH=random")
    found = parsed("--env", env, "--width", "64")
    assert (found.log_every, found.save_every, found.start, found.sizes.width) == (3, 500, "random", 64)


def test_a_configuration_made_without_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="disagree"):
        settled(replace(paligemma_xvr(), env=write(tmp_path, "LEARNING_RATE=0.1")))


def test_where_wandb_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = write(tmp_path, "WANDB_PROJECT=pictures")
    assert settled(replace(with_env(paligemma_xvr(), env), track=("wandb",))).wandb_project == "pictures"
    assert settled(with_env(paligemma_xvr(), env)).wandb_project is None
    assert "WANDB_PROJECT (nothing is sent to Weights & Biases)" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="--wandb-entity has no effect"):
        settled(replace(paligemma_xvr(), wandb_entity="us"))


def test_the_file_that_a_command_line_names() -> None:
    assert env_file(["paligemma_xvr", "--env", "a", "--seed", "1", "--env=b"]) == Path("b")
    assert env_file(["paligemma_xvr"]) is env_file(["paligemma_xvr", "--env"]) is None


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as an env file"):
        with_env(paligemma_xvr(), tmp_path / "none.env")


def test_a_name_is_of_one_kind() -> None:
    assert not (set(NAMES) & set(ONLY) | set(NAMES) & set(WITHOUT_EFFECT) | set(ONLY) & set(WITHOUT_EFFECT))


def test_values(tmp_path: Path) -> None:
    assert read_env(write(tmp_path, "A=1 # x\nB='1 # x'\n\n#C=3\nD=\nexport E = f")) == {
        "A": "1",
        "B": "1 # x",
        "E": "f",
    }
