"""Settings under the reference's names: each has its effect, and what it says nothing about is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.train.vqa_env import NAMES, ONLY, WITHOUT_EFFECT, read_env, with_env
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
EVAL_SAMPLER=greedy
XLA_MEM_FRACTION=0.9
"""


def write(tmp_path: Path, text: str) -> Path:
    (tmp_path / "x.env").write_text(text)
    return tmp_path / "x.env"


def test_each_has_its_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = replace(paligemma_xvr(), env=write(tmp_path, OPENPI))
    after = with_env(before)
    assert after == replace(
        before, start="./checkpoints/pi05_base_paligemma.npz", tokenizer=Path("./assets/paligemma_tokenizer.model"),
        trainable="all", learning_rate=2e-4, schedule="linear", warmup=0.05, batch=2, accumulate=16, epochs=3, clip=0.5,
        precision="bf16", seed=42, pictures=6, data=Path("/data/XVR"), train="a.jsonl", valid="b.jsonl", length=256,
        loader_workers=8, prefix="answer en", train_examples=1000, out=Path("./outputs/x"), log_every=50,
        validate_every=500, save_every=5000, keep=2,
        track=("wandb",),
    )  # fmt: skip
    changed = {name for name in NAMES if getattr(after, NAMES[name][0]) != getattr(before, NAMES[name][0])}
    assert changed == set(NAMES) - {"MAX_EVAL_SAMPLES"}  # which is empty, so not given
    said = " ".join(capsys.readouterr().out.split())
    assert "EXPERIMENT_NAME (the run's folder is its name)" in said and "XLA_MEM_FRACTION" in said
    assert "LEARNING_RATE" not in said


def test_without_a_file_nothing_changes() -> None:
    assert with_env(paligemma_xvr()) == paligemma_xvr()


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
        ("BATCH_SIZE=0", "--batch 0 makes no sense"),
    ],
)
def test_what_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        with_env(replace(paligemma_xvr(), env=write(tmp_path, text)))
    assert said in str(error.value)


def test_a_flag_that_says_otherwise(tmp_path: Path) -> None:
    env = write(tmp_path, "LEARNING_RATE=0.1\nSEED=0")
    with pytest.raises(UserError, match="disagree"):
        with_env(replace(paligemma_xvr(), env=env, learning_rate=0.2))
    assert with_env(replace(paligemma_xvr(), env=env, learning_rate=0.1)).learning_rate == 0.1


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as an env file"):
        with_env(replace(paligemma_xvr(), env=tmp_path / "none.env"))


def test_a_name_is_of_one_kind() -> None:
    assert not (set(NAMES) & set(ONLY) | set(NAMES) & set(WITHOUT_EFFECT) | set(ONLY) & set(WITHOUT_EFFECT))


def test_values(tmp_path: Path) -> None:
    assert read_env(write(tmp_path, "A=1 # x\nB='1 # x'\n\n#C=3\nD=\nexport E = f")) == {
        "A": "1",
        "B": "1 # x",
        "E": "f",
    }
