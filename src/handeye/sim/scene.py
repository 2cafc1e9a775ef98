"""Problem -> Scene: composed, compiled once, and kept on disk and in memory by content.

Compiling a LIBERO scene reads some 100 files and takes seconds; its binary form loads in a tenth of that. A cached
model is found by a digest of the MJCF, of every file it refers to, and of MuJoCo's version, so nothing stale is ever
used and nothing needs to be invalidated by hand.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary
from xml.etree import ElementTree

import mujoco
import numpy as np

from handeye import console
from handeye.errors import UserError
from handeye.paths import scene_cache
from handeye.records import sha256_file, sha256_json, write_bytes, write_json
from handeye.sim.compose import Composed, compose
from handeye.sim.world import Problem, Scene

KEPT_ON_DISK = 8e9
"""Bytes. LIBERO's 130 tasks make 32 different models of 0.09 to 0.23 GB; what was not used for longest goes first."""

KEPT_COMPOSITIONS = 4
"""Half a megabyte of text each."""

ABANDONED = 3600.0
"""Seconds after which a half-written file belongs to a process that was killed."""

_alive: WeakValueDictionary[str, mujoco.MjModel] = WeakValueDictionary()
"""Digest -> model, as long as somebody holds it: tasks that differ only in their words share one."""

_last: list[mujoco.MjModel] = []
"""The model asked for last is kept when its environment goes. Not more: each takes 0.1 to 0.2 GB, and comes back from
the disk sooner than a renderer is made for it."""


def libero_scene(problem: Problem) -> Scene:
    """The scene of one LIBERO task. UserError where its files are not there, or MuJoCo cannot compile them."""
    composed = _composed(problem)
    model, digest = cached_model(composed.xml, composed.roots)
    return Scene(
        problem=problem,
        model=model,
        setting=composed.kind.setting,
        parts=composed.parts,
        places=composed.places,
        digest=digest,
    )


def _composed(problem: Problem) -> Composed:
    """Put together once per problem, and again where a file that it was made from has changed."""
    known = _compositions.get(id(problem))
    if known is None or known.problem is not problem or known.stamps != _stamps(known.composed.sources):
        composed = compose(problem)
        known = _Composition(problem=problem, composed=composed, stamps=_stamps(composed.sources))
        _compositions[id(problem)] = known
        if len(_compositions) > KEPT_COMPOSITIONS:
            del _compositions[next(iter(_compositions))]
    return known.composed


@dataclass(frozen=True, kw_only=True)
class _Composition:
    problem: Problem
    composed: Composed
    stamps: dict[Path, tuple[int, int, int] | None]


_compositions: dict[int, _Composition] = {}
"""By the identity of the problem, which stays alive as long as it is in here."""


def _stamps(paths: Iterable[Path]) -> dict[Path, tuple[int, int, int] | None]:
    """Size, time of change and number of each file; None where it is gone."""
    found: dict[Path, tuple[int, int, int] | None] = {}
    for path in paths:
        try:
            status = path.stat()
            found[path] = status.st_size, status.st_mtime_ns, status.st_ino
        except OSError:
            found[path] = None
    return found


def cached_model(xml: str, roots: Mapping[str, Path]) -> tuple[mujoco.MjModel, str]:
    """(model, digest) of an MJCF text that names its files `root:path`. The model may be shared with other callers of
    this process."""
    digest = _digest(xml, roots)
    model = _alive.get(digest)
    if model is None:
        _last.clear()  # first, so that its memory can be used
        model = _from_disk(digest) or _compiled(_with_paths(xml, roots), digest)
        _alive[digest] = model
    _last[:] = [model]
    return model, digest


def recompile(problem: Problem) -> None:
    """Compile a scene and throw it away, which is what the reference pays for at every reset. For benchmarks."""
    composed = compose(problem)
    _compile(_with_paths(composed.xml, composed.roots))


# ---- compiling ------------------------------------------------------------------------------------------------------


def _compiled(xml: str, digest: str) -> mujoco.MjModel:
    """Compiled by a process of its own, kept, and read back: a process in which MuJoCo compiles holds on to every mesh
    and picture it read, 0.4 to 0.6 GB. A cache that cannot be written costs time and memory, not the run."""
    folder = scene_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (model := _from_disk(digest)) is None:  # unless somebody was quicker
                _compile_apart(xml, folder / digest)
                _make_room(folder)
                model = _from_disk(digest)
        if model is not None:
            return model
        why = "it vanished"
    except OSError as error:
        why = str(error)
    console.warn(f"the compiled scene could not be kept in {folder}: {why}")
    return _compile(xml)


def _compile(xml: str) -> mujoco.MjModel:
    try:
        return mujoco.MjModel.from_xml_string(xml)
    except ValueError as error:
        raise UserError(
            "MuJoCo cannot compile this scene.",
            why=str(error),
            fix="mend the file it names; `handeye fetch libero` brings LIBERO's again",
        ) from None


CANNOT_COMPILE = 2
CANNOT_KEEP = 3


def _compile_apart(xml: str, stem: Path) -> None:
    program = "import sys; from handeye.sim.scene import compile_to; compile_to(sys.argv[1], sys.stdin.read())"
    done = subprocess.run([sys.executable, "-c", program, str(stem)], input=xml, capture_output=True, text=True)
    if done.returncode == CANNOT_COMPILE:
        _compile(xml)  # says why
    if done.returncode:
        raise OSError(done.stderr.strip() or f"the process that compiles it ended with {done.returncode}")


def compile_to(stem: str, xml: str) -> None:
    """The other process: leave STEM-SIZE.mjb, so that a file which lost its end is known by its name."""
    try:
        model = mujoco.MjModel.from_xml_string(xml)
    except ValueError:
        sys.exit(CANNOT_COMPILE)
    content = np.empty(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, content)
    try:
        write_bytes(Path(f"{stem}-{content.size}.mjb"), content.tobytes())
    except UserError as error:
        sys.stderr.write(error.why)
        sys.exit(CANNOT_KEEP)


# ---- on disk --------------------------------------------------------------------------------------------------------


def _from_disk(digest: str) -> mujoco.MjModel | None:
    for path in scene_cache().glob(f"{digest}-*.mjb"):
        try:
            if path.stat().st_size != int(path.stem.rpartition("-")[2]):
                raise ValueError("it is not whole")
            model = mujoco.MjModel.from_binary_path(str(path))
        except FileNotFoundError:
            continue  # another process made room
        except (OSError, ValueError) as error:
            console.warn(f"{path} could not be read ({error}); the scene is compiled again")
            with suppress(OSError):
                path.unlink()
        else:
            with suppress(OSError):  # a cache that others own may be read-only
                os.utime(path)
            return model
    return None


def _make_room(folder: Path) -> None:
    """Delete what was not used for longest, and what killed processes left. Others may be deleting too."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            if path.suffix == ".mjb":
                found.append((status.st_mtime, status.st_size, path))
            elif path.suffix == ".part" and time.time() - status.st_mtime > ABANDONED:
                path.unlink()
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= KEPT_ON_DISK:
            break
        path.unlink(missing_ok=True)
        total -= size


# ---- what a scene is made of ----------------------------------------------------------------------------------------


def _digest(xml: str, roots: Mapping[str, Path]) -> str:
    """Of the text, of the files it names, and of what compiles them."""
    names = _file_names(xml)
    files = _file_digests([_file(name, roots) for name in names])
    return sha256_json([mujoco.mj_versionString(), xml, names, files])


@lru_cache(maxsize=8)
def _file_names(xml: str) -> list[str]:
    return sorted(
        {element.attrib["file"] for element in ElementTree.fromstring(xml).iter() if "file" in element.attrib}
    )


def _with_paths(xml: str, roots: Mapping[str, Path]) -> str:
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        if "file" in element.attrib:
            element.set("file", str(_file(element.attrib["file"], roots)))
    return ElementTree.tostring(root, encoding="unicode")


def _file(name: str, roots: Mapping[str, Path]) -> Path:
    root, _, path = name.partition(":")
    return roots[root] / path


def _file_digests(paths: list[Path]) -> list[str]:
    """SHA-256 of each, remembered by size and time of change: 40 MB are not read again every time."""
    memo_path = scene_cache() / "digests.json"
    try:
        memo = json.loads(memo_path.read_text())
    except (OSError, ValueError):
        memo = None
    known: dict[str, str] = memo if isinstance(memo, dict) else {}
    digests, learned = [], False
    for path in paths:
        try:
            status = path.stat()
            key = f"{path.absolute()}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
            if key not in known:
                known[key], learned = sha256_file(path), True
        except OSError as error:
            raise UserError(
                f"{path} cannot be read.", why=str(error), fix="`handeye fetch libero` brings LIBERO's files again"
            ) from None
        digests.append(known[key])
    if learned:
        try:
            write_json(memo_path, known)
        except (OSError, UserError) as error:  # as above: only time is lost
            console.warn(f"digests could not be kept: {error}")
    return digests
