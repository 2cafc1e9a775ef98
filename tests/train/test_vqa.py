"""Fine-tuning on questions from files to a checkpoint: what it changes, what it proves, and that a kill changes
nothing."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_vqa import LENGTH, PICTURES, write_checkpoint, write_questions

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.load import load_reader
from handeye.checkpoints.npz import read_npz, write_npz
from handeye.checkpoints.reading_half import read_half
from handeye.errors import UserError
from handeye.records import read_json, read_lines
from handeye.train.metrics import FILE, TIMES
from handeye.train.vqa import run
from handeye.train.vqa_config import SizesConfig, VqaConfig
from handeye.train.vqa_presets import paligemma_overfit, paligemma_xvr

STEPS = 16


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("xvr"))


@pytest.fixture(scope="module")
def start(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("start") / "final", root)


@pytest.fixture
def config(root: Path, start: Path, tmp_path: Path) -> VqaConfig:
    return replace(
        paligemma_xvr(),
        data=root,
        start=str(start),
        out=tmp_path / "run",
        steps=4,
        batch=3,
        accumulate=2,
        length=LENGTH,
        pictures=PICTURES,
        learning_rate=1e-2,
        log_every=1,
        save_every=2,
        validate_every=2,
        answer_length=4,
        threads=1,
        keep=1,
    )


def lines(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_lines(folder / FILE)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_reader(folder).model.state_dict())


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


def command(config: VqaConfig) -> list[str]:
    """As a user types it."""
    return [
        *(sys.executable, "-m", "handeye.cli", "train", "paligemma_xvr", "--data", str(config.data)),
        *("--start", config.start, "--out", str(config.out), "--steps", str(STEPS), "--batch", "3"),
        *("--accumulate", "2", "--length", str(LENGTH), "--pictures", str(PICTURES), "--learning-rate", "1e-2"),
        *("--log-every", "1", "--save-every", "3", "--validate-every", "5", "--threads", "1"),
        *("--loader-workers", "1", "--keep", "2", "--answer-length", "4"),
    ]


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline
        if ready():
            process.kill()
            process.wait()
            return
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_at_any_step_it_ends_the_same_to_the_bit(config: VqaConfig, tmp_path: Path) -> None:
    """Uninterrupted in this process; interrupted in others, as a user would start them."""
    asked = {"steps": STEPS, "save_every": 3, "validate_every": 5, "loader_workers": 1, "keep": 2}
    whole, broken = replace(config, out=tmp_path / "whole", **asked), replace(config, out=tmp_path / "broken")
    assert run(whole) == 0
    moment = random.Random(os.urandom(8)).randrange(4, STEPS - 2)  # another one each time
    with subprocess.Popen(command(broken), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        kill_when(process, lambda: len(read_lines(broken.out / FILE)) >= moment)
    said = subprocess.run(command(broken), capture_output=True, text=True, timeout=300, check=False)
    assert said.returncode == 0 and "going on after step" in said.stdout, (moment, said.stdout, said.stderr)
    assert lines(broken.out) == lines(whole.out), moment
    steps = [line["step"] for line in lines(whole.out) if line["kind"] == "train"]
    assert steps == list(range(1, STEPS + 1))
    for name in ("final/model.safetensors", f"checkpoints/step-{STEPS}/training/state.safetensors"):
        assert (whole.out / name).read_bytes() == (broken.out / name).read_bytes(), (name, moment)


def test_going_on_is_the_same_without_a_kill(config: VqaConfig, tmp_path: Path) -> None:
    """In one process: a run whose last save and final are taken away goes on from the save before."""
    config = replace(config, keep=2, log_every=3)  # a save in the middle of a line of the log
    whole, broken = config, replace(config, out=tmp_path / "broken")
    assert run(whole) == run(broken) == 0
    shutil.rmtree(broken.out / "final")
    (broken.out / "checkpoints/step-4/training/state.safetensors").write_bytes(b"torn")
    assert run(broken) == 0
    assert lines(broken.out) == lines(whole.out)
    assert differing(weights(broken.out), weights(whole.out)) == set()


@pytest.mark.parametrize(
    ("trainable", "prefix"), [("attention_only", "language.layers"), ("full_llm", "language"), ("all", "")]
)
def test_what_is_frozen_leaves_as_it_came(config: VqaConfig, start: Path, trainable, prefix: str) -> None:
    run(replace(config, trainable=trainable, steps=2))
    changed = differing(weights(config.out), weights(start))
    assert changed and all(name.startswith(prefix) for name in changed)
    parts = {name.split(".")[3] for name in changed if name.startswith("language.layers")}
    attention = {"query", "key", "value", "out"}
    assert parts == attention if trainable == "attention_only" else parts > attention
    assert any(name.startswith("vision") for name in changed) == (trainable == "all")


OPTIONS: list[dict[str, object]] = [
    {"optimizer": "sgd"},
    {"learning_rate": 2e-2},
    {"schedule": "constant"},
    {"schedule": "linear"},
    {"warmup": 0.5},
    {"weight_decay": 0.5},
    {"clip": 1e-3, "optimizer": "sgd"},
    {"precision": "bf16"},
    {"batch": 2},
    {"accumulate": 1},
    {"seed": 1},
    {"prefix": "answer en"},
    {"lower": False},
    {"train_examples": 5},
]


def test_each_option_has_its_effect(config: VqaConfig, tmp_path: Path) -> None:
    """Other weights come out, and other ones from each."""
    results = {}
    for number, changes in enumerate([{}, *OPTIONS]):
        out = tmp_path / str(number)
        run(replace(config, out=out, steps=2, valid="", save_every=10, log_every=10, **changes))
        results[str(changes)] = weights(tmp_path / str(number))["language.layers.0.query.weight"]
    different = {tensor.numpy().tobytes() for tensor in results.values()}
    assert len(different) == len(results) == len(OPTIONS) + 1


def test_a_run_folder_says_what_it_is(config: VqaConfig, start: Path) -> None:
    assert run(config) == 0
    found = {path.relative_to(config.out).as_posix() for path in config.out.rglob("*") if path.is_file()} - {".lock"}
    checkpoint = {"manifest.json", "model.safetensors", "tokenizer.model"}
    assert found == {
        *("config.json", "data.json", "provenance.json", "metrics.jsonl"),
        *(f"final/{name}" for name in checkpoint),
        *(f"checkpoints/step-4/{name}" for name in checkpoint),
        *("checkpoints/step-4/training/state.json", "checkpoints/step-4/training/state.safetensors"),
    }  # step-2 is gone: keep=1
    kinds = [(line["kind"], line["step"]) for line in lines(config.out)]
    assert kinds == [("train", 1), ("validation", 2), ("train", 2), ("train", 3), ("validation", 4), ("train", 4)]
    manifest = load_reader(config.out).manifest
    assert manifest.step == 4 and manifest.form == replace(load_reader(start).manifest.form)
    assert len(read_json(config.out / "provenance.json", what="provenance")["trained"]) == 8


def test_heads_that_the_start_does_not_have(config: VqaConfig) -> None:
    with pytest.raises(UserError, match=r"--start-heads says 3 and 3(.|\n)*leave --start-heads out"):
        run(replace(config, start_heads=(3, 3)))


def test_from_every_start(config: VqaConfig, start: Path, root: Path, tmp_path: Path) -> None:
    """An .npz file of the same weights gives the same run; so does float16 as far as it goes."""
    half = read_half(start)
    tree = {f"params/{key}": array for key, array in names.to_tree(half.state, half.config).items()}
    write_npz(tmp_path / "p.npz", tree)
    write_npz(tmp_path / "b.npz", {key: array.bfloat16() for key, array in tree.items()})
    run(config)
    for name in ("p", "b"):
        again = replace(config, out=tmp_path / name, start=str(tmp_path / f"{name}.npz"))
        run(replace(again, tokenizer=root / "tokenizer.model"))
        torch.testing.assert_close(weights(again.out), weights(config.out), rtol=0, atol=0 if name == "p" else 0.1)
    assert read_npz(tmp_path / "b.npz")["params/img/head/bias"].dtype == torch.bfloat16


def test_the_proof(config: VqaConfig, root: Path, tmp_path: Path) -> None:
    """Given: exit code 0, and training ends early. Not given: exit code 1, then and when asked once more."""
    proof = replace(
        paligemma_overfit(), data=root, start=config.start, length=LENGTH, pictures=PICTURES, answer_length=4,
        learning_rate=1e-2, threads=1, train_examples=4, valid_examples=4, validate_every=10, log_every=10,
        save_every=10, out=tmp_path / "given", epochs=400,
    )  # fmt: skip
    assert run(proof) == 0
    last = [line for line in lines(proof.out) if line["kind"] == "validation"][-1]
    assert last["exact"] >= 0.95 and last["step"] < 400
    assert run(proof) == 0
    failing = replace(proof, out=tmp_path / "not given", steps=2, learning_rate=1e-6)
    assert run(failing) == 1
    assert run(failing) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": "none.jsonl"}, "has no none.jsonl"),
        ({"start": "nowhere.npz", "tokenizer": None}, "nowhere.npz does not exist"),
        ({"pictures": 2}, "questions in"),
        ({"learning_rate": 1e30, "optimizer": "sgd", "clip": 1e30}, "diverged"),
        ({"start": "random"}, "no tokenizer"),
    ],
)
def test_what_cannot_be_done(config: VqaConfig, changes: dict[str, object], said: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path))
    with pytest.raises(UserError, match=said):
        run(replace(config, steps=4, **changes))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"heads": 3}, "--width 128 does not go with --heads 3(.|\n)*use --width 132"),
        ({"width": 20, "heads": 4}, "even number of dimensions(.|\n)*use --width 24"),
        ({"vision_width": 66}, "--vision-width 66(.|\n)*use --vision-width 68"),
        ({"patch": 15}, "--image-size 112 is not a multiple of --patch 15(.|\n)*use --image-size 120"),
        ({"depth": 0}, "--depth 0 makes no sense"),
        ({"heads": 0}, "--heads 0 makes no sense"),
    ],
)
def test_sizes_that_are_no_model(sizes: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SizesConfig(**sizes)


def test_several_processes_are_refused(config: VqaConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="runs in one process"):
        run(config)


def test_another_tokenizer(config: VqaConfig, tmp_path: Path) -> None:
    from handeye.data.xvr.small_vocabulary import write_small_vocabulary

    write_small_vocabulary(tmp_path / "other.model", ["some", "words"], pieces=330)
    with pytest.raises(UserError, match="is not the tokenizer of"):
        run(replace(config, tokenizer=tmp_path / "other.model"))


def test_another_runs_folder(config: VqaConfig) -> None:
    run(config)
    with pytest.raises(UserError, match="belongs to another run"):
        run(replace(config, learning_rate=1.0))


def test_questions_that_do_not_fit_can_be_left_out(config: VqaConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(replace(config, pictures=2, too_long="leave out"))
    assert "left out: " in capsys.readouterr().err
