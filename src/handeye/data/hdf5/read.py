"""LIBERO's HDF5 demonstrations: one file per task, read strictly.

Two things in the layout are easy to get wrong, and both are declared here. Images are stored bottom row first. And in
LIBERO's raw files the observations of row t were made *after* action t, in regenerated ("no_noops") ones and in ours
before it; `DemoRecord.observed` says which, and `DemoRecord.episode` gives every action what was seen before it.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from handeye.conventions import image
from handeye.conventions.libero import ACTION, HDF5_IMAGES
from handeye.conventions.prompt import sentence_of_name
from handeye.data.hdf5 import chunks, precheck
from handeye.data.hdf5.demo import DemoRecord, TaskHeader
from handeye.data.source import Observed
from handeye.errors import UserError

SUFFIX = "_demo.hdf5"
OBSERVED = "handeye_observed"
"""Attribute of `data` in our files: before | after. Not in LIBERO's layout; others ignore it."""

TASK = "handeye_task"
"""Attribute of `data` in our files: TaskHeader.name."""

LACKS = "handeye_lacks"
"""Attribute of `data` in our files that were converted from a format that holds less: which of OPTIONAL are not there,
as JSON. In any other file their absence is a defect."""

INFO = "handeye_info"
"""Attribute of a demo in our files: DemoRecord.info as JSON."""

MOST_BYTES = 1_000_000_000
"""Of one array of one demonstration, unpacked: 5,000 frames of 256 x 256, ten times LIBERO's longest. A few bytes can
declare any size; more than this is not read."""

MOST_PACKED, FEW_BYTES = 1100, 1_000_000
"""Deflate makes at most 1,030 bytes of one. What was never written reads as zeros: beyond a few bytes, it is not."""

LARGEST = 1e9
"""No position, angle or velocity comes near it; NaN and infinity are refused by the same comparison."""

VECTORS = {
    "actions": ("actions", 7),
    "states": ("states", None),
    "robot_states": ("robot_states", 9),
    "joint_states": ("obs/joint_states", 7),
    "ee_states": ("obs/ee_states", 6),
    "gripper_states": ("obs/gripper_states", 2),
}
"""Field of DemoRecord -> dataset and width; float64. ee_pos and ee_ori repeat ee_states."""

OPTIONAL = {"states": "simulator states", "joint_states": "joints"}
"""Fields of DemoRecord that a file may do without if it says so, and what they are in words."""


@dataclass(frozen=True, kw_only=True)
class FileIndex:
    """What a file holds, without its arrays."""

    path: Path
    header: TaskHeader
    """Its name is the file's without `_demo`; its language is what a policy is asked."""

    version: str
    """`raw` (LIBERO's own), `regenerated` ("no_noops": replayed, without attributes) or `handeye` (ours)."""

    observed: Observed
    lacks: tuple[str, ...]
    """Fields of OPTIONAL that are not there."""

    codec: str
    """Of the images: `raw` or h5py's name of the compression."""

    image_size: tuple[int, int]
    demos: tuple[tuple[str, int], ...]
    """Names in numeric order, each with its number of rows."""

    warnings: tuple[str, ...]
    """Odd, but no reason to refuse the file."""

    @property
    def task(self) -> str:
        return self.header.name

    @property
    def prompt(self) -> str:
        return self.header.language


def index_file(path: Path) -> FileIndex:
    """Shapes, lengths and language are checked; array contents are not read, except `dones`."""
    with opened(path) as file:
        data = group_at(file, "data", path)
        attributes = dict(data.attrs)
        lacks = lacking(attributes, path)
        header, warnings = _header(attributes, path)
        demos, sizes, codecs = [], set(), set()
        for name in demo_names(data, path):
            demo = group_at(data, name, path)
            length, size = check_shapes(demo, f"{path}: {name}", lacks)
            sizes.add(size)
            codecs |= {dataset_at(demo, f"obs/{camera}", name).compression or "raw" for camera in HDF5_IMAGES.values()}
            demos.append((name, length))
            if not _array(demo, "dones", f"{path}: {name}")[-1]:
                warnings.append(f"{name} does not end with done: no demonstrated success")
            if (said := _whole(demo.attrs.get("num_samples", length))) != length:
                warnings.append(f"{name}: attribute num_samples says {said}, it has {length} steps")
        if len(sizes) > 1:
            raise _bad(str(path), f"its demonstrations have images of different sizes: {sorted(sizes)}")
        steps = sum(length for _, length in demos)
        for key, counted in (("total", steps), ("num_demos", len(demos))):
            if key in attributes and (said := _whole(attributes[key])) != counted:
                warnings.append(f"attribute {key} says {said}, the demonstrations have {counted}")
        return FileIndex(
            path=path,
            header=header,
            version=_version(attributes),
            observed=moment(attributes, path),
            lacks=lacks,
            codec="+".join(sorted(codecs)),
            image_size=sizes.pop(),
            demos=tuple(demos),
            warnings=tuple(warnings),
        )


def read_demo(path: Path, name: str, *, images: bool = True) -> DemoRecord:
    """One demonstration exactly as stored, but with its images upright. `images=False` leaves them out."""
    with opened(path) as file:
        data = group_at(file, "data", path)
        attributes = dict(data.attrs)
        where, demo = f"{path}: {name}", group_at(data, name, path)
        return _read(demo, where, moment(attributes, path), lacking(attributes, path), images)


def find_files(root: Path) -> list[Path]:
    """Every demonstration file under `root` (or `root` itself), sorted."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise UserError(f"{root} does not exist.", fix="check the path, or make demonstrations with `handeye demos`")
    if not (found := sorted(p for p in root.rglob("*.hdf5") if not p.name.startswith("."))):
        raise UserError(
            f"{root} holds no demonstrations.",
            why="there is no file named *.hdf5 in it or below it",
            fix="check the path, or make demonstrations with `handeye demos`",
        )
    return found


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Whatever HDF5 makes of a damaged file, here or in what is done with it, ends as a UserError."""
    check_file(path)
    with damage(path), h5py.File(path, "r") as file:
        yield file


def check_file(path: Path) -> None:
    """There, not empty, no pointer to what was never downloaded, nothing that the HDF5 library must not be shown."""
    if not path.is_file():
        raise UserError(f"{path} is not a file.", fix="check the path")
    with path.open("rb") as raw:
        start = raw.read(64)
    if not start:
        raise _bad(str(path), "it is empty")
    if start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a Git LFS pointer, not the data itself.", fix="run `git lfs pull` where it was cloned"
        )
    with damage(path):
        precheck.check(path)


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever HDF5 makes of a damaged file ends as a UserError."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:  # while copying from this file to another
            raise
        raise _bad(str(path), str(error)) from error
    except (RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise _bad(str(path), str(error) or type(error).__name__) from error


def _member(parent: h5py.Group, name: str, where: str) -> Any:
    """Only what the file itself holds: links to other files (or anywhere else) are refused, not followed."""
    for part in name.split("/"):
        link = parent.get(part, getlink=True) if isinstance(parent, h5py.Group) else None
        if link is None:
            raise _bad(where, f"there is no {name}")
        if not isinstance(link, h5py.HardLink):
            raise _bad(where, f"{name} is a link to another place; only data inside the file is read")
        parent = parent[part]
    return parent


def group_at(parent: h5py.Group, name: str, where: object) -> h5py.Group:
    found = _member(parent, name, str(where))
    if not isinstance(found, h5py.Group):
        raise _bad(str(where), f"{name} is not a group")
    return found


def dataset_at(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    found = _member(group, name, where)
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external:
        raise _bad(where, f"{name} is not a plain dataset inside the file")
    if found.ndim == 0 or found.nbytes > MOST_BYTES:
        raise _bad(where, f"{name} has the shape {found.shape}: {found.nbytes} bytes")
    if (stored := found.id.get_storage_size()) * MOST_PACKED + FEW_BYTES < found.nbytes:
        raise _bad(where, f"{name} has {found.nbytes} bytes, but only {stored} of it are in the file")
    return found


def _array(group: h5py.Group, name: str, where: str) -> np.ndarray:
    return np.asarray(chunks.check(dataset_at(group, name, where))[()])


def _small(group: h5py.Group, name: str, where: str) -> UInt8[np.ndarray, "T"]:
    values = _array(group, name, where)
    if (odd := np.flatnonzero(~((values >= 0) & (values <= 255)))).size:
        raise _bad(where, f"{name}[{odd[0]}] is {values[odd[0]]}")
    return values.astype(np.uint8)


def _floats(value: Any, where: str) -> np.ndarray:
    values = np.asarray(value)
    if values.dtype.kind not in "fiu":
        raise _bad(where, f"it is {values.dtype} instead of numbers")
    return values.astype(np.float64)


def _whole(value: Any) -> int:
    """Also of an array with one number in it, as other programs write attributes."""
    return int(np.asarray(value).item())


def demo_names(data: h5py.Group, path: Path) -> list[str]:
    names = list(data)
    if odd := [name for name in names if not re.fullmatch(r"demo_\d+", name)]:
        raise _bad(str(path), f"data/{odd[0]} is not named demo_<number>")
    if not names:
        raise _bad(str(path), "the group data has no demonstration")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def check_shapes(demo: h5py.Group, where: str, lacks: tuple[str, ...]) -> tuple[int, tuple[int, int]]:
    """Number of rows, and height and width of the images."""
    length = len(dataset_at(demo, "actions", where))
    if length == 0:
        raise _bad(where, "it has no steps")
    for field, (name, width) in VECTORS.items():
        if field in lacks:
            continue
        dataset = dataset_at(demo, name, where)
        if dataset.dtype.kind != "f" or dataset.shape[1:] != (width or dataset.shape[-1],) or len(dataset) != length:
            expected = f"({length}, {width or 'any'})"
            raise _bad(where, f"{name} is {dataset.dtype} {dataset.shape} instead of floats {expected}")
    for name in ("rewards", "dones"):
        dataset = dataset_at(demo, name, where)
        if dataset.dtype.kind not in "iufb" or dataset.shape != (length,):
            raise _bad(where, f"{name} is {dataset.dtype} {dataset.shape} instead of numbers ({length},)")
    shapes = set()
    for name in HDF5_IMAGES.values():
        dataset = dataset_at(demo, f"obs/{name}", where)
        if dataset.dtype != np.uint8:
            raise _bad(where, f"obs/{name} is {dataset.dtype} instead of uint8")
        if dataset.ndim != 4 or dataset.shape[-1] != 3 or not all(1 < side <= 4096 for side in dataset.shape[1:3]):
            raise _bad(where, f"obs/{name} has the shape {dataset.shape} instead of (steps, height, width, 3)")
        if len(dataset) != length:
            raise _bad(where, f"it has {length} actions but {len(dataset)} frames in obs/{name}")
        shapes.add(dataset.shape[1:3])
    if len(shapes) != 1:
        raise _bad(where, f"its cameras have images of different sizes: {sorted(shapes)}")
    return length, shapes.pop()


def _read(demo: h5py.Group, where: str, observed: Observed, lacks: tuple[str, ...], images: bool) -> DemoRecord:
    check_shapes(demo, where, lacks)
    there = {field: name for field, (name, _) in VECTORS.items() if field not in lacks}
    vectors = {field: _array(demo, name, where).astype(np.float64) for field, name in there.items()}
    for field, values in vectors.items():
        if (odd := np.argwhere(~(np.abs(values) < LARGEST))).size:
            step, dimension = odd[0]
            raise _bad(where, f"{VECTORS[field][0]}[{step}, {dimension}] is {values[step, dimension]}")
    actions = vectors["actions"]
    if (beyond := np.argwhere((actions < ACTION.low) | (actions > ACTION.high))).size:
        step, dimension = beyond[0]
        raise _bad(
            where,
            f"actions[{step}, {dimension}] is {actions[step, dimension]}; "
            f"LIBERO's actions lie in [{ACTION.low:g}, {ACTION.high:g}]",
        )
    if not lacks:
        _check_observed(vectors["joint_states"], vectors["states"][:, 1:8], observed, where)
    if observed == "after" and len(actions) < 2:
        raise _bad(where, "it has one step, and what was seen before it was not recorded")
    stored = {ours: _array(demo, f"obs/{name}", where) for ours, name in HDF5_IMAGES.items()} if images else {}
    turned = {
        name: image.convert(frames, source=image.Orientation.OPENGL, target=image.Orientation.UPRIGHT)
        for name, frames in stored.items()
    }
    init_state = demo.attrs.get("init_state")
    missing: dict[str, Any] = dict.fromkeys(lacks)
    return DemoRecord(
        **missing,
        **vectors,
        images=turned,
        rewards=_small(demo, "rewards", where),
        dones=_small(demo, "dones", where),
        observed=observed,
        init_state=None if init_state is None else _floats(init_state, f"{where}: attribute init_state"),
        model_file=str(demo.attrs.get("model_file", "")),
        info=json.loads(demo.attrs.get(INFO, "{}")),
    )


def _task(path: Path) -> str:
    return path.stem.removesuffix("_demo")


def _header(attributes: Mapping[str, Any], path: Path) -> tuple[TaskHeader, list[str]]:
    """And what is odd about it. Only the language is needed to use a file; the rest travels along."""
    language, warnings = _language(attributes, path), []
    said: dict[str, dict[str, Any]] = {}
    for key in ("problem_info", "env_args"):
        try:
            value = json.loads(attributes.get(key, "{}"))
        except (ValueError, TypeError, RecursionError):
            value = None
        if not isinstance(value, dict):
            warnings.append(f"attribute {key} is not a JSON object")
        said[key] = value if isinstance(value, dict) else {}
    kwargs = said["env_args"].get("env_kwargs")
    header = TaskHeader(
        name=_task(path),
        language=language,
        env_name=str(attributes.get("env_name", "")),
        problem_name=str(said["problem_info"].get("problem_name", "")),
        bddl_file=str(attributes.get("bddl_file_name", "")),
        bddl_text=str(attributes.get("bddl_file_content", "")),
        env_args=kwargs if isinstance(kwargs, dict) else {},
    )
    return header, warnings


def _language(attributes: Mapping[str, Any], path: Path) -> str:
    """Of our own files, what problem_info says. Of others, the sentence in the file's name where it holds one: the
    benchmark asks policies with that one, and it can differ from problem_info's ("pick the akita black bowl ...")."""
    named = sentence_of_name(_task(path)) if path.name.endswith(SUFFIX) else None
    if named and OBSERVED not in attributes:
        return named
    try:
        spoken = json.loads(attributes.get("problem_info", "{}"))["language_instruction"]
        sentence = "".join(spoken).strip().strip('"')  # some files hold a list of characters or of one string
    except (ValueError, KeyError, TypeError):
        sentence = ""
    if not sentence:
        raise UserError(
            f"{path} does not say what its demonstrations are for.",
            why="problem_info has no language_instruction, and the file's name holds no sentence",
            fix="rename the file to <the_sentence_with_underscores>_demo.hdf5",
        )
    return sentence


def _version(attributes: Mapping[str, Any]) -> str:
    return "handeye" if OBSERVED in attributes else "raw" if "env_args" in attributes else "regenerated"


def moment(attributes: Mapping[str, Any], path: Path) -> Observed:
    """Ours say it. LIBERO's create_dataset.py looks after each step and writes attributes; the regenerating script
    looks before each step and writes none (openvla experiments/robot/libero/regenerate_libero_dataset.py)."""
    said = attributes.get(OBSERVED, "after" if "env_args" in attributes else "before")
    if said not in ("before", "after"):
        raise _bad(str(path), f"attribute {OBSERVED} is {said!r}, neither before nor after")
    return said


def lacking(attributes: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Fields of OPTIONAL that the file says it does without."""
    try:
        said = json.loads(attributes.get(LACKS, "[]"))
    except (ValueError, TypeError, RecursionError):
        said = None
    if not isinstance(said, list) or not all(name in OPTIONAL for name in said):
        raise _bad(str(path), f"attribute {LACKS} is {attributes[LACKS]!r}; known: {', '.join(OPTIONAL)}")
    return tuple(name for name in OPTIONAL if name in said)


def _check_observed(seen: np.ndarray, arm: np.ndarray, observed: Observed, where: str) -> None:
    """The joints that were observed against those of the simulator's states: in row t they are the arm before action t,
    or after it, which is (nearly) row t + 1 of the states. On the goldens the wrong one is 24 times as far away."""
    if len(seen) < 2 or arm.shape[1] < 7:
        return
    away = {"before": np.abs(seen - arm).mean(), "after": np.abs(seen[:-1] - arm[1:]).mean()}
    other: Observed = "before" if observed == "after" else "after"
    if away[other] * 4 < away[observed]:
        raise UserError(
            f"{where} was observed {other} each action, but the file is read as observed {observed}.",
            why=f"its joint_states are {away[other]:.2g} rad from the states then, {away[observed]:.2g} rad otherwise",
            fix=f"say so in the file: set the attribute {OBSERVED} of its group data to '{other}'",
        )


def _bad(where: str, why: str) -> UserError:
    return UserError(
        f"{where} cannot be used.", why=why, fix="fetch or record the demonstrations again, or take the file away"
    )
