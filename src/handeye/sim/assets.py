"""LIBERO's files on this machine: where they are, and `handeye fetch libero`, which brings them.

Three pieces under $HANDEYE_HOME/libero, each whole or absent, each with a manifest written last:
  files/        task files, initial states and the suites' order, from the hf-libero wheel
  robosuite/    Panda, gripper and mounts, from the robosuite wheel
  assets.json   where the scene files are: assets/ beside it, downloaded from the hub, or a folder of the user's
From wheels we take data; nothing of their code is imported or run.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from handeye import console
from handeye.errors import UserError
from handeye.paths import libero_data
from handeye.records import read_json, sha256_file, sha256_json, write_json
from handeye.sim import scene_files, wheels
from handeye.sim.config import FetchConfig
from handeye.sim.pieces import PIECES, Piece
from handeye.transfer import hub
from handeye.transfer.archives import unpack
from handeye.transfer.lock import alone

HUB_DATA_SET = "lerobot/libero-assets"
"""Which hf-libero 0.1.4 names (libero/libero/utils/download_utils.py:109)."""

_FETCH = "run `handeye fetch libero`"
_OTHERWISE = "give a folder that has LIBERO's scene files: `handeye fetch libero --assets DIR`"


def libero_files() -> Path:
    """Folder of bddl_files/SUITE/NAME.bddl, init_states/SUITE/NAME.npz and tasks.json (suite -> names in order)."""
    return _present(libero_data() / "files", "its task files and initial states")


def robosuite_assets() -> Path:
    """Folder of base.xml, robots/, grippers/ and mounts/."""
    return _present(libero_data() / "robosuite", "the robot's model")


def libero_assets() -> Path:
    """Folder of scenes/, textures/, stable_hope_objects/ and so on: $HANDEYE_LIBERO_ASSETS, else what was fetched."""
    if given := os.environ.get("HANDEYE_LIBERO_ASSETS"):
        path, fix = Path(given).expanduser(), "correct $HANDEYE_LIBERO_ASSETS, or unset it and " + _FETCH
    elif (record := libero_data() / "assets.json").exists():
        path = libero_data() / read_json(record, what="where LIBERO's scene files are")["path"]
        fix = _FETCH
    else:
        raise UserError("LIBERO's scene files are not here.", fix=f"{_FETCH} (or set $HANDEYE_LIBERO_ASSETS)")
    if not (path / "scenes").is_dir():
        raise UserError(f"{path} does not hold LIBERO's scene files.", why="it has no folder scenes/", fix=fix)
    return path


def task_names() -> dict[str, list[str]]:
    """Suite -> names of its tasks in the suite's own order."""
    names: dict[str, list[str]] = read_json(libero_files() / "tasks.json", what="the order of LIBERO's tasks")
    return names


def fetch(config: FetchConfig) -> Path:
    """`handeye fetch libero`. What is there and whole is left alone, so a second run takes a moment."""
    home = libero_data()
    with alone(home, fix="set $HANDEYE_HOME to a folder"):
        for leftover in home.glob(".*/"):  # of a fetch that was killed
            shutil.rmtree(leftover)
        for piece in PIECES:
            if not _is_whole(home / piece.folder, piece):
                _bring(piece, home / piece.folder, config)
        record = _scene_assets(home, config)
    console.say(f"LIBERO is complete: 130 tasks in {home}, scene files in {home / record['path']} ({record['source']})")
    return home


def _bring(piece: Piece, target: Path, config: FetchConfig) -> None:
    """Wheel -> selected files -> checked -> converted -> manifest -> its name."""
    made = target.with_name(f".{target.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    try:
        with wheels.wheel(piece.package, piece.version, config, near=target.parent) as wheel:
            unpack(wheel, made, select=piece.select(wheel))
            origin = {"wheel": wheel.name, "wheel_sha256": sha256_file(wheel)}
        if sha256_json(_digests(made)) != piece.sha256:
            raise UserError(
                f"{origin['wheel']} does not hold the files of {piece.package} {piece.version} as published.",
                why=f"its sha256 is {origin['wheel_sha256']}",
                fix="check the index that pip is configured with, or name another with --index or --wheels",
            )
        piece.finish(made)
        files = _digests(made)
        write_json(made / "manifest.json", {**_identity(piece), **origin, "files": files})
        shutil.rmtree(target, ignore_errors=True)
        made.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    console.say(f"{piece.package} {piece.version}: {len(files)} files in {target}")


def _identity(piece: Piece) -> dict[str, Any]:
    return {"package": piece.package, "version": piece.version, "layout": piece.layout}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def _is_whole(folder: Path, piece: Piece) -> bool:
    """The manifest is there and right about every file. Says so when it is not."""
    if not (folder / "manifest.json").exists():
        return False
    manifest, found = _read(folder / "manifest.json"), _digests(folder)
    del found["manifest.json"]
    if manifest.get("files") == found and {key: manifest.get(key) for key in _identity(piece)} == _identity(piece):
        return True
    console.warn(f"{folder} is damaged or from another version; it is brought again")
    return False


def _read(path: Path) -> dict[str, Any]:
    """A manifest; empty if it is not there or damaged, because fetching makes it again."""
    try:
        read: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return read


def _scene_assets(home: Path, config: FetchConfig) -> dict[str, Any]:
    """Find, check, copy or download them, and record where they are."""
    categories: list[str] = read_json(home / "files" / "categories.json", what="LIBERO's object categories")
    given = config.assets or os.environ.get("HANDEYE_LIBERO_ASSETS")
    if config.copy and not given:
        raise UserError("--copy wants a folder to copy from.", fix="give --assets DIR, or set $HANDEYE_LIBERO_ASSETS")
    old = _read(home / "assets.json")
    if given:
        folder = Path(given).expanduser().resolve()
        entry = _described(folder, str(folder), "your folder", categories)
        if config.copy:
            _copy(folder, home / "assets", scene_files.check(folder, categories))
            entry = _described(home / "assets", "assets", f"copied from {folder}", categories)
    else:
        entry = _kept(home, old, categories) or _download(home, categories)
    if entry["models_sha256"] != scene_files.MODELS_SHA256:
        console.warn(
            f"the scene models in {home / entry['path']} are not the ones that handeye was compared with; "
            "physics may differ from the reference"
        )
    if entry != old:
        write_json(home / "assets.json", entry)
    return entry


def _described(folder: Path, path: str, source: str, categories: list[str]) -> dict[str, Any]:
    """The record of a complete folder. Two folders with the same digests look and move the same."""
    needed = scene_files.check(folder, categories)
    models = [name for name in needed if name.endswith(".xml")]
    return {
        "path": path,
        "source": source,
        "files": len(needed),
        "files_sha256": scene_files.digest(folder, needed),
        "models_sha256": scene_files.digest(folder, models),
    }


def _kept(home: Path, old: dict[str, Any], categories: list[str]) -> dict[str, Any] | None:
    """What the record says, if that is still true; None, with a warning, if the files must be brought again."""
    if not old:
        return None
    folder = home / old["path"]
    try:
        found = _described(folder, old["path"], old["source"], categories)
    except UserError as error:
        console.warn(f"{error.what} {error.why}; downloading them")
        return None
    if found != old and old["path"] == "assets":
        console.warn(f"files in {folder} have changed; bringing the original ones")
        return None
    return found


def _copy(source: Path, target: Path, needed: list[str]) -> None:
    part = target.with_name(f".{target.name}.copy")
    shutil.rmtree(part, ignore_errors=True)
    with console.progress("copying scene files", len(needed)) as advance:
        for path in needed:
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, part / path)
            advance()
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)


def _download(home: Path, categories: list[str]) -> dict[str, Any]:
    """Into assets.part, which a later run goes on with; under its own name when complete."""
    part, target = home / "assets.part", home / "assets"
    pinned = part / "revision.json"
    try:
        revision = _read(pinned).get("revision", "main")
        found = hub.data_set(HUB_DATA_SET, revision=revision, otherwise=_OTHERWISE)
        if target.exists() and not part.exists():
            target.replace(part)  # what of it is right need not come again
        write_json(pinned, {"revision": found.revision})
        needed = set(scene_files.models(categories, found.files.__contains__))
        found.get(sorted(needed), part, advance=lambda count: None)
        for model in sorted(needed):
            needed |= scene_files.references(model, (part / model).read_bytes())
        needed |= set(scene_files.STYLES)
        with console.progress(HUB_DATA_SET, found.size(sorted(needed)), unit="bytes") as advance:
            found.get(sorted(needed), part, advance=advance)
    except ValueError as error:
        raise UserError(
            f"The hub's data set {HUB_DATA_SET} is not what it was.",
            why=str(error),
            fix=_OTHERWISE,
        ) from None
    except UserError as error:
        raise UserError(
            f"LIBERO's scene files (the hub's data set {HUB_DATA_SET}) could not be downloaded.",
            why=f"{error.what} {error.why}".strip(),
            fix=error.fix if _OTHERWISE in error.fix else f"{error.fix}; or {_OTHERWISE}",
        ) from None
    pinned.unlink()
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    return _described(target, "assets", f"{HUB_DATA_SET} at {found.revision}", categories)


def _present(folder: Path, what: str) -> Path:
    if not (folder / "manifest.json").exists():
        raise UserError(f"LIBERO needs {what}, and {folder} is not there.", fix=_FETCH)
    return folder
