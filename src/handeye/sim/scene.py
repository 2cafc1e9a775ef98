"""Problem -> Scene: composed, compiled once, and kept on disk and in memory by content.

Compiling a LIBERO scene reads some 300 files and takes about a second; its binary form loads in a tenth of that. A
cached model is found by a digest of the MJCF, of every file it refers to, and of MuJoCo's version, so nothing stale
is ever used and nothing needs to be invalidated by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from handeye import console
from handeye.paths import scene_cache
from handeye.records import write_json
from handeye.sim.compose import compose
from handeye.sim.world import Problem, Scene

KEPT_IN_MEMORY = 2
"""Models per process. One holds 0.1-0.2 GB, most of it textures; all tasks of one scene share one."""

KEPT_ON_DISK = 12e9
"""Bytes. LIBERO's 130 tasks make some 60 different models; the ones not used for longest go first."""

_models: OrderedDict[str, mujoco.MjModel] = OrderedDict()
"""Digest -> model, the last used at the end."""


def libero_scene(problem: Problem) -> Scene:
    """The scene of one LIBERO task. UserError where its files are not there, or MuJoCo cannot compile them."""
    composed = compose(problem)
    model, digest = cached_model(composed.xml, composed.roots)
    return Scene(
        problem=problem,
        model=model,
        setting=composed.kind.setting,
        parts=composed.parts,
        places=composed.places,
        digest=digest,
    )


def cached_model(xml: str, roots: Mapping[str, Path]) -> tuple[mujoco.MjModel, str]:
    """(model, digest) of an MJCF text that names its files `root:path`. The model may be shared with other callers of
    this process."""
    digest = _digest(xml, roots)
    if digest not in _models:
        _models[digest] = _from_disk(digest) or _compiled(xml, roots, digest)
    _models.move_to_end(digest)
    while len(_models) > KEPT_IN_MEMORY:
        _models.popitem(last=False)
    return _models[digest], digest


def _compiled(xml: str, roots: Mapping[str, Path], digest: str) -> mujoco.MjModel:
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        if (name := element.get("file")) is not None:
            element.set("file", str(_file(name, roots)))
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    _to_disk(model, digest)
    return model


# ---- on disk: DIGEST-SIZE.mjb, so that a file which lost its end is known by its name -----------------------------


def _from_disk(digest: str) -> mujoco.MjModel | None:
    for path in scene_cache().glob(f"{digest}-*.mjb"):
        try:
            if path.stat().st_size == int(path.stem.rpartition("-")[2]):
                model = mujoco.MjModel.from_binary_path(str(path))
                os.utime(path)
                return model
        except (OSError, ValueError) as error:
            console.warn(f"{path} could not be read ({error}); the scene is compiled again")
        path.unlink(missing_ok=True)
    return None


def _to_disk(model: mujoco.MjModel, digest: str) -> None:
    """A cache that cannot be written costs time, not the run."""
    size = mujoco.mj_sizeModel(model)
    folder = scene_cache()
    part = folder / f".{digest}.{os.getpid()}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mujoco.mj_saveModel(model, str(part), None)
        if part.stat().st_size != size:
            raise OSError("the disk is full")
        part.replace(folder / f"{digest}-{size}.mjb")
        _make_room(folder)
    except OSError as error:
        part.unlink(missing_ok=True)
        console.warn(f"the compiled scene could not be kept in {folder}: {error}")


def _make_room(folder: Path) -> None:
    """Delete what was not used for longest. Another process may be deleting too."""
    found = []
    for path in folder.glob("*.mjb"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found):
        if total <= KEPT_ON_DISK:
            break
        path.unlink(missing_ok=True)
        total -= size


# ---- what a scene is made of ----------------------------------------------------------------------------------------


def _digest(xml: str, roots: Mapping[str, Path]) -> str:
    """Of the text, of the files it names, and of what compiles them."""
    names = sorted(
        {name for element in ElementTree.fromstring(xml).iter() if (name := element.get("file")) is not None}
    )
    files = _file_digests([_file(name, roots) for name in names])
    content = [mujoco.mj_versionString(), xml, *zip(names, files, strict=True)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _file(name: str, roots: Mapping[str, Path]) -> Path:
    root, _, path = name.partition(":")
    return roots[root] / path


def _file_digests(paths: list[Path]) -> list[str]:
    """SHA-256 of each, remembered by size and time of change: 140 MB are not read again every time."""
    memo_path = scene_cache() / "digests.json"
    try:
        memo: dict[str, list[object]] = json.loads(memo_path.read_text())
    except (OSError, ValueError):
        memo = {}
    digests, learned = [], False
    for path in paths:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = memo.get(str(path))
        if known is None or known[:3] != stamp:
            with path.open("rb") as file:
                known = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
            memo[str(path)], learned = known, True
        digests.append(str(known[3]))
    if learned:
        try:
            write_json(memo_path, memo)
        except Exception as error:  # as above: only time is lost
            console.warn(f"digests could not be kept: {error}")
    return digests
