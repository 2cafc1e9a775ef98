"""LIBERO's HDF5 layout, written whole or not at all. `read.py` says what is odd about it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py

from handeye.conventions import image
from handeye.conventions.libero import HDF5_IMAGES
from handeye.data.hdf5.demo import DemoRecord, TaskHeader
from handeye.data.hdf5.read import (
    INFO,
    LACKS,
    OBSERVED,
    OPTIONAL,
    TASK,
    VECTORS,
    dataset_at,
    demo_names,
    group_at,
    lacking,
    moment,
    opened,
)
from handeye.data.source import Observed
from handeye.errors import UserError

Kind = tuple[Observed, tuple[str, ...]]
"""When its demonstrations were observed, and the fields of OPTIONAL that they lack."""


def write_task_file(path: Path, header: TaskHeader, demos: Iterable[DemoRecord], *, packed: bool = True) -> int:
    """LIBERO's layout with demo_0, demo_1, ... as they come. Whole or absent. `packed`: pictures compressed; LIBERO's
    own are not. Returns the number of steps written."""
    with _whole(path) as file:
        data = file.create_group("data")
        lengths: list[int] = []
        kinds: set[Kind] = set()
        for index, demo in enumerate(demos):
            _write(data.create_group(f"demo_{index}"), demo, packed)
            lengths.append(len(demo))
            kinds.add((demo.observed, tuple(name for name in OPTIONAL if getattr(demo, name) is None)))
        _write_header(data, header, lengths, kinds)
        return sum(lengths)


def merge_task_files(path: Path, header: TaskHeader, parts: Sequence[Path]) -> int:
    """One file of all demonstrations of `parts` (written by `write_task_file`), in order, numbered anew, copied without
    being decoded. A recorder spools one demonstration to each part and assembles them at the end."""
    with _whole(path) as file:
        data = file.create_group("data")
        lengths: list[int] = []
        kinds: set[Kind] = set()
        for part in parts:
            with opened(part) as source:
                found = group_at(source, "data", part)
                attributes = dict(found.attrs)
                kinds.add((moment(attributes, part), lacking(attributes, part)))
                for name in demo_names(found, part):
                    source.copy(group_at(found, name, part), data, f"demo_{len(lengths)}")
                    lengths.append(len(dataset_at(found, f"{name}/actions", str(part))))
        _write_header(data, header, lengths, kinds)
        return sum(lengths)


def _write_header(data: h5py.Group, header: TaskHeader, lengths: Sequence[int], kinds: set[Kind]) -> None:
    if len(kinds) != 1:
        raise ValueError(f"a file holds one kind of demonstrations, not {sorted(kinds) or 'none'}")
    observed, lacks = next(iter(kinds))
    language = {"domain_name": "robosuite", "language_instruction": header.language}
    args = {
        "type": 1,  # robomimic's code for robosuite environments
        "env_name": header.env_name,
        "problem_name": header.problem_name,
        "bddl_file": header.bddl_file,
        "env_kwargs": dict(header.env_args),
    }
    data.attrs["env_name"] = header.env_name
    data.attrs["problem_info"] = json.dumps({"problem_name": header.problem_name, **language})
    data.attrs["macros_image_convention"] = "opengl"
    data.attrs["bddl_file_name"] = header.bddl_file
    data.attrs["bddl_file_content"] = header.bddl_text
    data.attrs["env_args"] = json.dumps(args)
    data.attrs["num_demos"] = len(lengths)
    data.attrs["total"] = sum(lengths)
    data.attrs["tag"] = "libero-v1"
    data.attrs[TASK] = header.name
    data.attrs[OBSERVED] = observed
    if lacks:
        data.attrs[LACKS] = json.dumps(lacks)


def _write(group: h5py.Group, demo: DemoRecord, packed: bool) -> None:
    for field, (name, _) in VECTORS.items():
        if getattr(demo, field) is not None:
            group[name] = getattr(demo, field)
    group["obs/ee_pos"], group["obs/ee_ori"] = demo.ee_states[:, :3], demo.ee_states[:, 3:]
    group["rewards"], group["dones"] = demo.rewards, demo.dones
    for ours, name in HDF5_IMAGES.items():
        stored = image.convert(demo.images[ours], source=image.Orientation.UPRIGHT, target=image.Orientation.OPENGL)
        gzip = {"chunks": _chunk(ours, stored.shape), "compression": "gzip", "compression_opts": 4}
        group.create_dataset(f"obs/{name}", data=stored, **(gzip if packed else {}))
    group.attrs["num_samples"] = len(demo)
    group.attrs["model_file"] = demo.model_file
    if demo.init_state is not None:
        group.attrs["init_state"] = demo.init_state
    if demo.info:
        group.attrs[INFO] = json.dumps(demo.info, sort_keys=True)


def _chunk(camera: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a (T, H, W, 3) dataset. Whoever wants one frame unpacks the chunks that it lies in, so a chunk holds few. Of
    the wrist's camera, where nothing stays in its place, it holds one. Of the fixed one it holds four, a few rows of
    each at a time, so that they repeat within gzip's 32 kB window. docs/data/hdf5.md has what other layouts cost."""
    length, height, width, _ = shape
    if camera == "wrist":
        return 1, height, width, 3
    return min(4, length), min(max(1, (12 << 10) // (3 * width)), height), width, 3


@contextmanager
def _whole(path: Path) -> Iterator[h5py.File]:
    """A file that appears under its name when it is complete and on the disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with h5py.File(part, "w") as file:
            yield file
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    except OSError as error:
        raise UserError(
            f"Could not write {path}.",
            why=str(error),
            fix="free some space or choose another folder, then run it again",
        ) from error
    finally:
        part.unlink(missing_ok=True)
