"""`handeye train` from demonstrations to a checkpoint; killed at any moment it ends the same, to the bit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.load import load
from handeye.errors import UserError
from handeye.records import read_json, read_lines
from handeye.train.config import OptimizerConfig
from handeye.train.families.config import ImageConfig, TinyConfig
from handeye.train.folder import TENSORS, saves
from handeye.train.metrics import FILE, TIMES
from handeye.train.run import run

STEPS = 40


@pytest.fixture
def config(fake_demos: Path, tmp_path: Path) -> TinyConfig:
    return TinyConfig(
        data=fake_demos,
        out=tmp_path / "run",
        steps=STEPS,
        batch=8,
        model={"width": 32, "layers": 1, "keypoints": 4, "overview": 8, "sentence_width": 16},
        images=ImageConfig(image_size=16, shift=1),
        optimizer=OptimizerConfig(warmup=5),
        held_out=0.34,
        save_every=4,
        validate_every=10,
        log_every=1,
        threads=1,
    )


def lines(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_lines(folder / FILE)]


def command(config: TinyConfig) -> list[str]:
    """As a user types it."""
    model = [str(part) for pair in config.model.items() for part in pair]
    return [
        *(sys.executable, "-m", "handeye.cli", "train", "tiny_tabletop"),
        *(
            "--data",
            str(config.data),
            "--out",
            str(config.out),
            "--steps",
            str(STEPS),
            "--batch",
            "8",
            "--model",
            *model,
        ),
        *("--image-size", "16", "--shift", "1", "--warmup", "5", "--held-out", "0.34", "--save-every", "4"),
        *("--validate-every", "10", "--log-every", "1", "--threads", "1"),
    ]


def start(config: TinyConfig) -> subprocess.Popen[str]:
    return subprocess.Popen(command(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> bool:
    """True if it was killed; False if it ended first."""
    deadline = time.monotonic() + 120
    while process.poll() is None:
        assert time.monotonic() < deadline
        if ready():
            process.kill()
            process.wait()
            return True
        time.sleep(0.001)
    return False


@pytest.mark.slow
def test_killed_at_any_step_it_ends_the_same_to_the_bit(config: TinyConfig, tmp_path: Path) -> None:
    whole, broken = replace(config, out=tmp_path / "whole"), replace(config, out=tmp_path / "broken")
    with start(whole) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said

    moments = sorted(random.Random(os.urandom(8)).sample(range(2, STEPS - 2), 2))  # other ones each time
    for moment in moments:
        with start(broken) as process:
            assert kill_when(process, lambda step=moment: len(read_lines(broken.out / FILE)) >= step), (
                process.stdout.read()
            )
    with start(broken) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, (moments, said)
    assert "going on after step" in said, moments

    assert lines(broken.out) == lines(whole.out), moments
    trained = [line for line in lines(whole.out) if line["kind"] == "train"]
    assert [line["step"] for line in trained] == list(range(1, STEPS + 1))
    for name in ("final/model.safetensors", f"checkpoints/step-{STEPS}/training/state.safetensors"):
        assert (whole.out / name).read_bytes() == (broken.out / name).read_bytes(), (name, moments)

    with start(broken) as process:
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "is finished" in said


def test_a_run_folder_says_what_it_is(config: TinyConfig) -> None:
    folder = run(replace(config, steps=8, keep=1))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}
    assert names == {
        "config.json",
        "data.json",
        "provenance.json",
        "metrics.jsonl",
        "final/manifest.json",
        "final/model.safetensors",
        "checkpoints/step-8/manifest.json",
        "checkpoints/step-8/model.safetensors",
        "checkpoints/step-8/training/state.json",
        "checkpoints/step-8/training/state.safetensors",
    }
    manifest = load(folder / "final").manifest
    assert manifest.step == 8
    assert manifest.provenance["training"]["batch"] == 8
    assert len(manifest.provenance["data"]["prompts"]) == 4
    assert read_json(folder / "data.json", what="x")["episodes"] == 12
    assert manifest.statistics.episodes == 8  # one of three is held out, and measures nothing

    with pytest.raises(UserError, match="belongs to another run"):
        run(replace(config, steps=9))
    (folder / "final" / "manifest.json").unlink()
    (folder / "final" / "model.safetensors").unlink()
    (folder / "final").rmdir()
    with pytest.raises(UserError, match="does not exist"):
        run(replace(config, steps=8, data=config.data / "gone"))


def test_it_learns_the_demonstrations(config: TinyConfig) -> None:
    """Twelve demonstrations: the answers must come from the pictures, proprioception says nothing here."""
    folder = run(
        replace(
            config,
            steps=250,
            batch=16,
            model={"width": 64, "layers": 1, "keypoints": 8, "sentence_width": 16},
            images=ImageConfig(image_size=32, shift=0, brightness=0.0, contrast=0.0, colour=0.0),
            optimizer=OptimizerConfig(learning_rate=3e-3, warmup=10),
            log_every=25,
            save_every=250,
            validate_every=250,
        )
    )
    trained = [line for line in lines(folder) if line["kind"] == "train"]
    assert trained[-1]["arm_l1"] < 0.3 * trained[0]["arm_l1"]
    (validated,) = [line for line in lines(folder) if line["kind"] == "validation"]
    assert validated["arm_l1"] < 0.8 * validated["arm_l1_blind"]


def test_what_the_data_decides_cannot_be_set(config: TinyConfig) -> None:
    with pytest.raises(UserError, match="--model chunk cannot be set"):
        run(replace(config, model={"chunk": 4}))
    assert run(replace(config, steps=4)).is_dir()  # a wrong setting does not spoil the folder


def test_every_seed_is_another_run(config: TinyConfig, tmp_path: Path) -> None:
    folders = [run(replace(config, steps=4, seed=seed, out=tmp_path / f"s{seed}")) for seed in (0, 1)]
    one, two = (lines(folder) for folder in folders)
    assert one[0]["loss"] != two[0]["loss"]
    assert np.isfinite([one[0]["loss"], two[0]["loss"]]).all()


@pytest.mark.slow
def test_where_frames_are_kept_and_who_makes_batches_changes_nothing(config: TinyConfig, tmp_path: Path) -> None:
    """And a run may go on in another way than it began."""
    short = replace(config, steps=4, chunk=2)
    run(short)
    other = {"out": tmp_path / "other", "cache": tmp_path / "cache", "loader_workers": 2}
    run(replace(short, frames="cache", **other))
    run(replace(short, frames="stream", out=tmp_path / "third"))
    assert lines(short.out) == lines(tmp_path / "other") == lines(tmp_path / "third")
    dropped = replace(short, chunk_ends="drop", out=tmp_path / "dropped")
    run(dropped)
    assert lines(dropped.out) != lines(short.out)
    with pytest.raises(UserError, match="chunk_ends: drop there, pad here"):
        run(replace(short, out=dropped.out))


def test_what_is_saved_is_the_average(config: TinyConfig) -> None:
    """Not the weights of the last step, which training goes on from."""
    folder = run(config)
    (newest, *_) = saves(folder)
    state = read_tensors([newest / "training" / TENSORS])
    steps = load(newest).model.state_dict(), load(folder / "final").model.state_dict()
    for name, averaged in steps[0].items():
        assert torch.equal(averaged, state[f"average/{name}"]), name
        assert torch.equal(averaged, steps[1][name]), name
    assert not torch.equal(steps[0]["join.weight"], state["model/join.weight"])
