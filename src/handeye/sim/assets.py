"""LIBERO's files on this machine: where they are, and `handeye fetch libero`, which brings them.

Three pieces under $HANDEYE_HOME/libero, each whole or absent, each with a manifest written last:
  files/        task files, initial states and the suites' order, from the hf-libero wheel
  robosuite/    Panda, gripper and mounts, from the robosuite wheel
  assets.json   where the scene files are: assets/ beside it, downloaded from the hub, or a folder of the user's
From wheels we take data; nothing of their code is imported or run.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye import console
from handeye.errors import UserError
from handeye.paths import libero_data
from handeye.records import read_json, sha256_file, sha256_json, write_json
from handeye.sim import bddl, hub, init_states, scene_files, wheels
from handeye.sim.archives import unpack
from handeye.sim.config import FetchConfig

HUB_DATA_SET = "lerobot/libero-assets"
"""Which hf-libero 0.1.4 names (libero/libero/utils/download_utils.py:109)."""

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
_FETCH = "run `handeye fetch libero`"


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
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home):
        for leftover in home.glob(".*/"):  # of a fetch that was killed
            shutil.rmtree(leftover)
        for piece in PIECES:
            if not _is_whole(home / piece.folder, piece):
                _bring(piece, home / piece.folder, config)
        record = _scene_assets(home, config)
    console.say(f"LIBERO is complete: 130 tasks in {home}, scene files in {home / record['path']} ({record['source']})")
    return home


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is taken from one wheel."""

    folder: str
    package: str
    version: str
    layout: int
    """Raised when this program keeps the files in another form, so that older ones are brought again."""

    select: Callable[[Path], Callable[[str], str | None]]
    """The wheel -> which members, under which name."""

    finish: Callable[[Path], None]
    sha256: str
    """Of the selected files as published: the JSON of {path: sha256}. The wheel itself may be anybody's build."""


def _select_libero(wheel: Path) -> Callable[[str], str | None]:
    renamed = {"libero/libero/benchmark/libero_suite_task_map.py": "task_map.txt"}

    def select(name: str) -> str | None:
        if name.endswith(".bddl"):
            return name.removeprefix("libero/libero/")
        if name.endswith(".pruned_init"):
            return "init_states/" + name.removeprefix("libero/libero/init_files/")
        return "LICENSE" if name.endswith(".dist-info/licenses/LICENSE") else renamed.get(name)

    return select


def _finish_libero(folder: Path) -> None:
    """Initial states become .npz; the order of tasks is read from the Python file's literal, without running it."""
    for path in sorted(folder.glob("init_states/*/*.pruned_init")):
        init_states.save(path.with_suffix(".npz"), init_states.read(path))
        path.unlink()
    order = folder / "task_map.txt"
    (assignment,) = (node for node in ast.parse(order.read_text()).body if isinstance(node, ast.Assign))
    names: dict[str, list[str]] = ast.literal_eval(assignment.value)
    write_json(folder / "tasks.json", {suite: names[suite] for suite in SUITES})
    order.unlink()
    categories: set[str] = set()
    for suite in SUITES:
        for name in names[suite]:
            path = folder / "bddl_files" / suite / f"{name}.bddl"
            problem = bddl.parse(path.read_text(), source=str(path))
            categories |= {*problem.objects, *problem.fixtures}
    arenas = {"table", "floor", "kitchen_table", "study_table", "living_room_table"}
    write_json(folder / "categories.json", sorted(categories - arenas))


ROBOT_MODELS = (
    "base.xml",
    "robots/panda/robot.xml",
    "grippers/panda_gripper.xml",
    "mounts/rethink_mount.xml",
    "mounts/null_mount.xml",
)


def _select_robosuite(wheel: Path) -> Callable[[str], str | None]:
    prefix = "robosuite/models/assets/"
    wanted = set(ROBOT_MODELS)
    for model in ROBOT_MODELS:
        wanted |= scene_files.references(model, wheels.member(wheel, prefix + model))

    def select(name: str) -> str | None:
        if name.endswith(".dist-info/LICENSE"):
            return "LICENSE"
        path = name.removeprefix(prefix)
        return path if path != name and path in wanted else None

    return select


PIECES = (
    Piece(
        folder="files",
        package="hf-libero",
        version="0.1.4",
        layout=1,
        select=_select_libero,
        finish=_finish_libero,
        sha256="b8832eac5df52bc818950372b08408e980067b01d2bb97f78ada7e656fa0aad2",
    ),
    Piece(
        folder="robosuite",
        package="robosuite",
        version="1.4.0",
        layout=1,
        select=_select_robosuite,
        finish=lambda folder: None,
        sha256="49912eece511fedf9b913036a058efcda7146d21e79f7ed8e26a66be4bb9ebd5",
    ),
)


def _bring(piece: Piece, target: Path, config: FetchConfig) -> None:
    """Wheel -> selected files -> checked -> converted -> manifest -> its name."""
    made = target.with_name(f".{target.name}.new")
    for leftover in (made, target):
        shutil.rmtree(leftover, ignore_errors=True)
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
        write_json(made / "manifest.json", {**_identity(piece), **origin, "files": _digests(made)})
        made.replace(target)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    console.say(f"{piece.package} {piece.version}: {len(_digests(target)) - 1} files in {target}")


def _identity(piece: Piece) -> dict[str, Any]:
    return {"package": piece.package, "version": piece.version, "layout": piece.layout}


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def _is_whole(folder: Path, piece: Piece) -> bool:
    """The manifest is there and right about every file. Says so when it is not."""
    path = folder / "manifest.json"
    if not path.exists():
        return False
    manifest = read_json(path, what="a manifest of fetched files")
    found = _digests(folder)
    del found["manifest.json"]
    if manifest.get("files") == found and {key: manifest.get(key) for key in _identity(piece)} == _identity(piece):
        return True
    console.warn(f"{folder} is damaged or from another version; it is brought again")
    return False


def _scene_assets(home: Path, config: FetchConfig) -> dict[str, Any]:
    """Find, check, copy or download them, and record where they are."""
    categories: list[str] = read_json(home / "files" / "categories.json", what="LIBERO's object categories")
    given = config.assets or os.environ.get("HANDEYE_LIBERO_ASSETS")
    if config.copy and not given:
        raise UserError("--copy wants a folder to copy from.", fix="give --assets DIR, or set $HANDEYE_LIBERO_ASSETS")
    record = home / "assets.json"
    old = read_json(record, what="where LIBERO's scene files are") if record.exists() else {}
    if given:
        folder = Path(given).expanduser().resolve()
        needed = scene_files.check(folder, categories)
        entry = {"path": str(folder), "source": "your folder"}
        if config.copy:
            _copy(folder, home / "assets", needed)
            entry = {"path": "assets", "source": f"copied from {folder}"}
    elif old:
        folder = home / old["path"]
        needed = scene_files.check(folder, categories)
        entry = {"path": old["path"], "source": old["source"]}
    else:
        revision = _download(home, categories)
        needed = scene_files.check(home / "assets", categories)
        entry = {"path": "assets", "source": f"{HUB_DATA_SET} at {revision}"}
    models = scene_files.digest(home / entry["path"], needed)
    if models != scene_files.MODELS_SHA256:
        console.warn(
            f"the scene models in {home / entry['path']} are not the ones that handeye was compared with; "
            "physics may differ from the reference"
        )
    new = {**entry, "files": len(needed), "models_sha256": models}
    if new != old:
        write_json(record, new)
    return new


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


def _download(home: Path, categories: list[str]) -> str:
    """Into assets.part, which a later run goes on with; under its own name when complete. Returns the revision."""
    part = home / "assets.part"
    pinned = part / "revision.json"
    try:
        revision = read_json(pinned, what="the revision to go on with")["revision"] if pinned.exists() else "main"
        found = hub.data_set(HUB_DATA_SET, revision=revision)
        write_json(pinned, {"revision": found.revision})
        needed = set(scene_files.models(categories, found.files.__contains__))
        found.get(sorted(needed), part, advance=lambda count: None)
        for model in sorted(needed):
            needed |= scene_files.references(model, (part / model).read_bytes())
        needed |= set(scene_files.STYLES)
        size = sum(found.files[path].size for path in needed if path in found.files) >> 20
        with console.progress(f"{HUB_DATA_SET}, {size} MiB", len(needed)) as advance:
            found.get(sorted(needed), part, advance=advance)
    except ValueError as error:
        raise UserError(
            f"The hub's data set {HUB_DATA_SET} is not what it was.",
            why=str(error),
            fix="use a complete copy: `handeye fetch libero --assets DIR`",
        ) from None
    except UserError as error:
        raise UserError(
            f"LIBERO's scene files (the hub's data set {HUB_DATA_SET}) could not be downloaded.",
            why=f"{error.what} {error.why}".strip(),
            fix=f"{error.fix}; or give a folder that has them: `handeye fetch libero --assets DIR`",
        ) from None
    pinned.unlink()
    shutil.rmtree(home / "assets", ignore_errors=True)
    part.replace(home / "assets")
    return found.revision


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One fetch at a time; a second waits for the first and then finds everything there."""
    with (home / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            console.say(f"another fetch is at work in {home}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _present(folder: Path, what: str) -> Path:
    if not (folder / "manifest.json").exists():
        raise UserError(f"LIBERO needs {what}, and {folder} is not there.", fix=_FETCH)
    return folder
