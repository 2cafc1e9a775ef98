"""Any format into any other: nothing is lost unsaid, and neither workers nor kills change a byte."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from handeye.cli import main
from handeye.data.config import ConvertConfig
from handeye.data.convert.run import ACCOUNT, run
from handeye.data.source import open_source
from handeye.errors import UserError

FORMATS = {
    "hdf5": [],
    "rlds": [],
    "lerobot-v2.1-png": ["--lerobot-version", "v2.1"],
    "lerobot-v3.0-png": ["--lerobot-version", "v3.0", "--lerobot-keys", "lerobot"],
    "lerobot-v3.0-av1": ["--lerobot-version", "v3.0", "--lerobot-images", "av1"],
    "lerobot-v2.0-h264": ["--lerobot-version", "v2.0", "--lerobot-images", "h264"],
}
LOSSLESS = {"hdf5", "lerobot-v2.1-png", "lerobot-v3.0-png"}
"""Whose pictures come back as they were; the others within their codec's error."""


def convert(source: Path, target: Path, kind: str, *flags: str) -> Path:
    main(["data", "convert", str(source), str(target), "--to", kind.partition("-")[0], *FORMATS[kind], *flags])
    return target


def digest(folder: Path) -> str:
    """Of every file's name and bytes."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


@pytest.mark.parametrize("kind", FORMATS)
def test_there_and_back(kind: str, recorded: Path, tmp_path: Path) -> None:
    """Vectors exactly (in float32 where the format has no more), sentences exactly, pictures as the codec can."""
    first = open_source(recorded)
    there = open_source(convert(recorded, tmp_path / "there", kind, "--workers", "1"))
    back = open_source(convert(tmp_path / "there", tmp_path / "back", "hdf5", "--workers", "1"))
    assert len(first.episodes) == len(there.episodes) == len(back.episodes) == 4
    pairs = {(e.prompt, e.actions[:, :3].astype(np.float32).tobytes()): e for e in map(back.load, back.episodes)}
    for ref in first.episodes:
        one = first.load(ref)
        other = pairs.pop((one.prompt, one.actions[:, :3].astype(np.float32).tobytes()))
        single = (lambda x: x) if kind == "hdf5" else (lambda x: x.astype(np.float32))
        np.testing.assert_array_equal(other.actions, single(one.actions))
        np.testing.assert_array_equal(other.proprio, single(one.proprio))
        for camera, frames in one.images.items():
            away = np.abs(frames.astype(int) - other.images[camera].astype(int))
            if kind in LOSSLESS:
                assert away.max() == 0, (kind, camera)
            else:
                assert away.mean() < 8, (kind, camera, away.mean())  # 48 pixels wide, every edge is sharp
    assert not pairs


@pytest.mark.parametrize("kind", ["hdf5", "rlds", "lerobot-v2.1-png", "lerobot-v3.0-av1"])
def test_bytes_do_not_depend_on_workers(kind: str, recorded: Path, tmp_path: Path) -> None:
    one = convert(recorded, tmp_path / "one" / "set", kind, "--workers", "1")
    two = convert(recorded, tmp_path / "two" / "set", kind, "--workers", "2")
    assert digest(one) == digest(two)


@pytest.mark.parametrize("kind", ["hdf5", "rlds", "lerobot-v2.1-png", "lerobot-v3.0-png"])
def test_killed_it_goes_on_to_the_same_bytes(kind: str, demo_folder: Path, tmp_path: Path) -> None:
    whole = convert(demo_folder, tmp_path / "whole" / "set", kind, "--workers", "1")
    target = tmp_path / "killed" / "set"
    target.parent.mkdir()
    command = [sys.executable, "-m", "handeye.cli", "data", "convert", str(demo_folder), str(target), "--to"]
    command += [kind.partition("-")[0], *FORMATS[kind], "--workers", "1"]
    for parts in (1, 7):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while child.poll() is None and time.monotonic() < deadline:
                if len(list((target.parent / ".set.part" / "parts").glob("*.json"))) >= parts:
                    break
                time.sleep(0.005)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(30)
    convert(demo_folder, target, kind, "--workers", "1")
    assert digest(target) == digest(whole)
    assert sorted(path.name for path in target.parent.iterdir()) == ["set"], "nothing is left of the work"


def test_every_step_and_episode_is_accounted_for(demo_folder: Path, tmp_path: Path, capsys) -> None:
    """One demonstration stands still for two of its steps, one all the time, one never succeeds."""
    source = tmp_path / "source"
    convert(demo_folder, source, "hdf5")
    path = sorted(source.rglob("*.hdf5"))[0]
    with h5py.File(path, "r+") as file:
        file["data/demo_0/actions"][1:3, :6] = 0
        file["data/demo_0/actions"][:, 6] = 1
        file["data/demo_1/actions"][:, :6] = 0
        file["data/demo_2/dones"][...] = 0
    out = tmp_path / "out"
    convert(source, out, "hdf5", "--drop-no-ops", "--successes", "--workers", "1")
    account = json.loads((out / ACCOUNT).read_text())["episodes"]
    assert [(a["steps"], a["kept"], a["no_ops"], a["reason"]) for a in account[:4]] == [
        (4, 2, 2, ""), (5, 0, 5, "nothing but no-ops"), (6, 0, 0, "does not end in success"), (7, 7, 0, ""),
    ]  # fmt: skip
    assert len(account) == 15 and len(open_source(out).episodes) == 13
    kept, before = open_source(out), open_source(source)
    np.testing.assert_array_equal(
        kept.load(kept.episodes[0]).actions, before.load(before.episodes[0]).actions[[0, 3]]
    )  # fmt: skip
    assert "left out: nothing but no-ops" in capsys.readouterr().out


def test_a_raw_set_says_what_is_left_out(task_file: Path, tmp_path: Path, capsys) -> None:
    with h5py.File(task_file, "r+") as file:
        file["data"].attrs["handeye_observed"] = "after"
        for demo in file["data"].values():  # joints were seen after each action: a row later than the states
            joints = np.concatenate([demo["states"][1:, 1:8], demo["states"][-1:, 1:8]])
            demo["obs/joint_states"][...] = joints
    run(ConvertConfig(root=task_file, target=tmp_path / "out", to="hdf5", workers=1))
    assert "the first action and the last view are left out" in capsys.readouterr().out
    assert [ref.length for ref in open_source(tmp_path / "out").episodes] == [4, 8, 6]


def test_episodes_are_made_again_in_the_simulator(recorded: Path, tmp_path: Path) -> None:
    """The rule of the published sets: other pictures, no no-ops, only what succeeds again."""
    out = convert(recorded, tmp_path / "again", "hdf5", "--replay", "--drop-no-ops", "--camera-size", "32")
    before, after = open_source(recorded), open_source(out)
    assert after.specs.image.height == 32 and 0 < len(after.episodes) <= 4
    account = {a["id"]: a for a in json.loads((out / ACCOUNT).read_text())["episodes"]}
    assert sum(a["kept"] > 0 for a in account.values()) == len(after.episodes)
    again = [after.load(ref) for ref in after.episodes]
    assert all(episode.success for episode in again)
    exact = [e for e in map(before.load, before.episodes) if account[e.id]["no_ops"] == 0]
    for episode in exact:  # nothing was left out: the same states, seen at another size
        assert any(np.array_equal(episode.states, other.states) for other in again)


def test_what_cannot_be_is_said_first(recorded: Path, demo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        run(ConvertConfig(root=demo_folder, target=tmp_path, to="rlds"))
    with pytest.raises(UserError, match="--camera-size was given without --replay"):
        ConvertConfig(root=demo_folder, target=tmp_path / "a", to="rlds", camera_size=64)
    rlds = convert(recorded, tmp_path / "rlds", "rlds", "--workers", "1")
    with pytest.raises(UserError, match="holds no simulator states"):
        run(ConvertConfig(root=rlds, target=tmp_path / "b", to="hdf5", replay=True, workers=1))
    assert not (tmp_path / "b").exists()


def test_another_conversions_beginning_is_not_gone_on_with(demo_folder: Path, tmp_path: Path) -> None:
    work = tmp_path / ".set.part"
    work.mkdir()
    (work / "plan.json").write_text('{"options": {"to": "lerobot"}}')
    with pytest.raises(UserError, match="the beginning of another conversion"):
        run(ConvertConfig(root=demo_folder, target=tmp_path / "set", to="rlds", workers=1))
