from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.data.fetch.config import FetchDemosConfig, FetchXvrConfig
from handeye.data.fetch.run import demos, questions
from handeye.errors import UserError
from handeye.transfer import hub
from handeye.transfer.download import Server

NAME = "yifengzhu-hf/LIBERO-datasets"
SUITES = ("libero_spatial", "libero_goal")
GENERATOR = random.Random(0)
FILES = {
    f"{suite}/task_{number}_demo.hdf5": GENERATOR.randbytes(3000 + 100 * number)
    for suite in (*SUITES, "libero_10")
    for number in range(10)
} | {"README.md": b"not wanted"}
WANTED = {path: content for path, content in FILES.items() if path.startswith(SUITES)}
LATER = "f" * 40


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    real = hub.server
    monkeypatch.setattr(hub, "server", lambda: Server(secret=real().secret, pause=0.0, timeout=5.0, tries=3))


def config(out: Path, **changes: object) -> FetchDemosConfig:
    return FetchDemosConfig(**{"source": "hdf5", "suite": SUITES, "out": out, **changes})  # type: ignore[arg-type]


def tree(folder: Path) -> dict[str, bytes]:
    own = ("manifest.json", "revision.json", ".lock")
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in own
    }


def test_whole_checked_and_not_asked_for_again(fake_hub, tmp_path: Path, capfd, monkeypatch) -> None:
    fake_hub.files, fake_hub.pages = FILES, 4
    demos(config(tmp_path))
    assert tree(tmp_path / NAME) == WANTED
    manifest = json.loads((tmp_path / NAME / "manifest.json").read_text())
    assert manifest["repository"] == NAME and manifest["revision"] == fake_hub.revision
    assert {suite: len(files) for suite, files in manifest["parts"].items()} == dict.fromkeys(SUITES, 10)
    assert f"handeye data verify {tmp_path / NAME / 'libero_goal'}" in capfd.readouterr().out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(fake_hub.asked)
    demos(config(tmp_path))
    demos(config(tmp_path, suite=("libero_goal",)))
    assert len(fake_hub.asked) == before


def test_every_later_download_is_of_the_same_commit(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = FILES
    demos(config(tmp_path))
    first, fake_hub.revision = fake_hub.revision, LATER
    demos(config(tmp_path, suite=("libero_10",)))
    assert not [path for path, _ in fake_hub.asked if LATER in path]
    manifest = json.loads((tmp_path / NAME / "manifest.json").read_text())
    assert manifest["revision"] == first and set(manifest["parts"]) == {*SUITES, "libero_10"}
    demos(config(tmp_path, revision=first))
    with pytest.raises(UserError, match="one state of one data set"):
        demos(config(tmp_path, revision=LATER))
    demos(config(tmp_path / "other", revision=LATER))
    assert json.loads((tmp_path / "other" / NAME / "manifest.json").read_text())["revision"] == LATER


def test_a_dry_run_says_sizes_and_writes_nothing(fake_hub, tmp_path: Path, capfd) -> None:
    fake_hub.files = FILES
    demos(config(tmp_path / "new", dry_run=True))
    said = capfd.readouterr().out
    assert [line.split()[:4] for line in said.splitlines() if line.startswith(("libero_", "together"))] == [
        ["libero_spatial", "10", "34.5", "kB"],
        ["libero_goal", "10", "34.5", "kB"],
        ["together", "20", "69.0", "kB"],
    ]
    assert not (tmp_path / "new").exists() and not fake_hub.downloads("libero_goal/task_0_demo.hdf5")
    demos(config(tmp_path / "new"))
    capfd.readouterr()
    before = len(fake_hub.asked)
    demos(config(tmp_path / "new", dry_run=True))
    assert "10 files" in capfd.readouterr().out and len(fake_hub.asked) == before


TROUBLES = ["cut", "silence", "slow", "500", "429:0", "short", "long", "other", "whole", "drop", "403", "503"]


def test_a_hub_with_every_trouble(fake_hub, tmp_path: Path, monkeypatch) -> None:
    real = hub.server
    monkeypatch.setattr(hub, "server", lambda: replace(real(), timeout=0.5))
    fake_hub.files = FILES
    fake_hub.faults = {path: [trouble] for path, trouble in zip(sorted(WANTED), TROUBLES * 2, strict=False)}
    fake_hub.faults["libero_goal/task_5_demo.hdf5"] = ["cut", "500", "cut", "cut", "other", "drop"]
    demos(config(tmp_path))
    assert tree(tmp_path / NAME) == WANTED
    assert not any(fake_hub.faults.values())


def test_one_clear_error_and_nothing_finished_is_lost(fake_hub, tmp_path: Path) -> None:
    fake_hub.files, lost = FILES, "libero_spatial/task_3_demo.hdf5"
    fake_hub.faults = {lost: ["404"]}
    with pytest.raises(UserError, match="404") as caught:
        demos(config(tmp_path, workers=2))
    kept = tree(tmp_path / NAME)
    assert f"{len(kept)} of 20 files are here" in caught.value.why and "same command" in caught.value.fix
    assert kept and not (tmp_path / NAME / "manifest.json").exists()
    before = {path: len(fake_hub.downloads(path)) for path in kept}
    demos(config(tmp_path))
    assert tree(tmp_path / NAME) == WANTED
    assert {path: len(fake_hub.downloads(path)) for path in kept} == before


def test_what_was_damaged_since_is_brought_again(fake_hub, tmp_path: Path, capfd) -> None:
    fake_hub.files = FILES
    demos(config(tmp_path))
    for number, change in enumerate((b"", None, WANTED["libero_goal/task_2_demo.hdf5"][:-1] + b"\0")):
        path = tmp_path / NAME / f"libero_goal/task_{number}_demo.hdf5"
        path.unlink() if change is None else path.write_bytes(change)
    (tmp_path / NAME / "libero_goal" / "mine.hdf5").write_bytes(b"1")
    before = sum("/bytes/" in path for path, _ in fake_hub.asked)
    demos(config(tmp_path))
    told = capfd.readouterr().err
    assert "3 files" in told and "are brought again" in told and "libero_goal/mine.hdf5 for one" in told
    assert tree(tmp_path / NAME) == {**WANTED, "libero_goal/mine.hdf5": b"1"}
    assert sum("/bytes/" in path for path, _ in fake_hub.asked) == before + 3


def test_a_login_that_is_refused(fake_hub, tmp_path: Path, monkeypatch) -> None:
    fake_hub.files, fake_hub.token = FILES, "secret"
    with pytest.raises(UserError, match="HF_TOKEN"):
        demos(config(tmp_path, workers=3))
    assert sum("/resolve/" in path for path, _ in fake_hub.asked) <= 3
    monkeypatch.setenv("HF_TOKEN", "secret")
    demos(config(tmp_path))
    assert tree(tmp_path / NAME) == WANTED
    assert all("Authorization" not in headers for path, headers in fake_hub.asked if path.startswith("/bytes/"))


def test_a_listing_that_would_write_elsewhere(fake_hub, tmp_path: Path) -> None:
    for path in ("libero_goal/../../../x.hdf5", "libero_goal/..\\x.hdf5", "/libero_goal/x.hdf5"):
        fake_hub.files = {path: b"1"}
        with pytest.raises(UserError):
            demos(config(tmp_path / "out", suite=("libero_goal",), repo="me/mine"))
        assert not [found for found in tmp_path.rglob("*x.hdf5")]


def test_links_in_a_repository_are_not_data(fake_hub, tmp_path: Path) -> None:
    """Every second file of this fake is listed without a SHA-256, as small files are."""
    fake_hub.files = {f"libero_goal/task_{number}_demo.hdf5": b"../elsewhere.hdf5" for number in range(10)}
    with pytest.raises(UserError, match=r"5 data files of .* are links"):
        demos(config(tmp_path, suite=("libero_goal",)))
    assert not (tmp_path / NAME / "libero_goal").exists()


def test_no_room(fake_hub, tmp_path: Path, monkeypatch) -> None:
    fake_hub.files = FILES
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50_000))
    with pytest.raises(UserError, match=r"69\.0 kB are to come, 50\.0 kB are free"):
        demos(config(tmp_path))
    demos(config(tmp_path, suite=("libero_goal",)))
    demos(config(tmp_path))  # half of it is here


def test_a_manifest_that_was_edited(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = FILES
    demos(config(tmp_path))
    manifest = tmp_path / NAME / "manifest.json"
    whole = json.loads(manifest.read_text())
    for parts in ({suite: {"../../x": {"size": 1}} for suite in SUITES}, {suite: {"a": {}} for suite in SUITES}):
        manifest.write_text(json.dumps({**whole, "parts": parts}))
        with pytest.raises(UserError):
            demos(config(tmp_path))


def test_lerobot_and_xvr(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = {
        "meta/info.json": b"{}",
        "data/chunk-000/a.parquet": b"1" * 300,
        "videos/a.mp4": bytes(300),
        "other": b"3",
    }
    demos(config(tmp_path, source="lerobot", suite=("libero_10", "libero_goal")))
    assert set(tree(tmp_path)) == {
        f"lerobot/{suite}_image/{path}"
        for suite in ("libero_10", "libero_goal")
        for path in ("meta/info.json", "data/chunk-000/a.parquet", "videos/a.mp4")
    }
    fake_hub.files = {"train.jsonl": b"{}", "image_shards/images_000.tar": bytes(300), "LICENSE": b""}
    questions(FetchXvrConfig(out=tmp_path / "data", questions_only=True))
    assert set(tree(tmp_path / "data")) == {"Jaehwisong/XVR/train.jsonl"}
    questions(FetchXvrConfig(out=tmp_path / "data"))
    assert "Jaehwisong/XVR/image_shards/images_000.tar" in tree(tmp_path / "data")


def test_killed_in_the_middle_it_goes_on_and_two_at_once_do_not_meet(fake_hub, tmp_path: Path) -> None:
    fake_hub.files = {path: content * 40 for path, content in FILES.items()}
    fake_hub.faults = {"libero_goal/task_7_demo.hdf5": ["slow"]}
    arguments = ["fetch", "demos", "--source", "hdf5", "--suite", *SUITES, "--out", str(tmp_path)]
    command = [sys.executable, "-c", "import sys; from handeye.cli import main; main(sys.argv[1:])", *arguments]
    part = tmp_path / NAME / "libero_goal/.task_7_demo.hdf5.part"
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL)]
    try:
        deadline = time.monotonic() + 60
        while not part.exists() or not part.stat().st_size:
            assert time.monotonic() < deadline and children[0].poll() is None
            time.sleep(0.01)
        children[0].send_signal(signal.SIGKILL)
        children[0].wait(30)
        assert not (tmp_path / NAME / "manifest.json").exists() and (tmp_path / NAME / "revision.json").exists()
        fake_hub.revision = LATER  # the hub's main goes on; the download does not
        children += [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
        assert [child.wait(60) for child in children[1:]] == [0, 0]
    finally:
        for child in children:
            child.kill()
            child.wait(30)
    assert tree(tmp_path / NAME) == {path: content for path, content in fake_hub.files.items() if path in WANTED}
    assert fake_hub.downloads("libero_goal/task_7_demo.hdf5")[1]["Range"].startswith("bytes=")
    assert not [path for path, _ in fake_hub.asked if LATER in path]
    assert os.environ["HF_ENDPOINT"] == fake_hub.url  # it was this hub that they asked
