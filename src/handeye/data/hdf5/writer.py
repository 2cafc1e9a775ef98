"""Episodes of any format as LIBERO's HDF5 files: one per task, in the folder that the task's name has.

A part is a finished file of one demonstration; assembling copies the demonstrations of each task into one file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from handeye.conventions import proprio
from handeye.conventions.libero import CAMERAS
from handeye.conventions.rotation import quaternion_xyzw
from handeye.data.hdf5.demo import DemoRecord, TaskHeader
from handeye.data.hdf5.read import SUFFIX, TASK, group_at, index_file, opened
from handeye.data.hdf5.source import MODEL_FILE, TASK_FILE
from handeye.data.hdf5.write import merge_task_files, write_task_file
from handeye.data.source import Format
from handeye.errors import UserError
from handeye.types import Episode

WIDTHS = {"actions": 7, "proprio": proprio.WIDTH, "joints": 7}


class Hdf5Writer:
    """What the layout asks for and an episode lacks (simulator states, joints) is left out, and the file says so.
    `packed`: pictures compressed."""

    def __init__(self, *, packed: bool = True) -> None:
        self.packed = packed

    @property
    def format(self) -> Format:
        return "hdf5"

    @property
    def drops(self) -> tuple[str, ...]:
        return ("that success is unknown (it becomes no success)",)

    def encode(self, episode: Episode, part: Path) -> None:
        write_task_file(part, _header(episode), [_record(episode)], packed=self.packed)

    def assemble(self, parts: Sequence[Path], out: Path) -> None:
        tasks: dict[str, list[tuple[Path, TaskHeader]]] = {}
        for part in parts:
            header = _header_of(part)
            tasks.setdefault(header.name, []).append((part, header))
        for name, found in tasks.items():
            first = found[0][1]
            for _, header in found:
                _require_same(first, header)
            merge_task_files(out / f"{name}{SUFFIX}", first, [part for part, _ in found])


def _header(episode: Episode) -> TaskHeader:
    """The task's name and sentence are the episode's; what its HDF5 file said beyond them is kept."""
    steps = PurePosixPath(episode.task).parts
    if not steps or episode.task.startswith("/") or ".." in steps or "\\" in episode.task:
        raise _unfit(episode, f"its task is called {episode.task!r}, which is no file name")
    told = episode.source.get(TASK_FILE)
    kept = dict(told) if isinstance(told, Mapping) else {}
    return TaskHeader(**{**kept, "name": episode.task, "language": episode.prompt})


def _record(episode: Episode) -> DemoRecord:
    """In float64, which holds every float32 exactly. Only the axis-angle in `ee_states` is the episode's own number;
    the quaternion in `robot_states` is computed from it."""
    length = len(episode)
    if length == 0 or not episode.prompt.strip():
        raise _unfit(episode, "it has no steps" if length == 0 else "it has no sentence")
    if missing := [name for name in CAMERAS if name not in episode.images]:
        raise _unfit(episode, f"the layout needs a picture of the camera {missing[0]} for every step")
    if more := sorted(set(episode.images) - set(CAMERAS)):
        raise _unfit(episode, f"the layout has no place for the camera {more[0]}")
    for name, width in WIDTHS.items():
        values = getattr(episode, name)
        if values is not None and values.shape != (length, width):
            raise _unfit(episode, f"{name} has the shape {values.shape} instead of ({length}, {width})")
    seen = np.asarray(episode.proprio, np.float64)
    pose, fingers = seen[:, :6], seen[:, proprio.FINGERS]
    finished = np.zeros(length, np.uint8)
    finished[-1] = bool(episode.success)
    states = None if episode.states is None else np.asarray(episode.states, np.float64)
    return DemoRecord(
        actions=np.asarray(episode.actions, np.float64),
        states=states,
        images=episode.images,
        robot_states=np.concatenate([fingers, pose[:, :3], quaternion_xyzw(pose[:, 3:])], axis=1),
        joint_states=None if episode.joints is None else np.asarray(episode.joints, np.float64),
        ee_states=pose,
        gripper_states=fingers,
        rewards=finished,
        dones=finished,
        observed="before",
        init_state=None if states is None else states[0],
        model_file=str(episode.source.get(MODEL_FILE, "")),
        info=_info(episode),
    )


def _info(episode: Episode) -> dict[str, Any]:
    told = {name: value for name, value in episode.source.items() if name not in (TASK_FILE, MODEL_FILE)}
    return {**told, "converted_from": episode.id}


def _header_of(part: Path) -> TaskHeader:
    with opened(part) as file:
        name = group_at(file, "data", part).attrs.get(TASK)
    if name is None:
        raise UserError(f"{part} is no part that was encoded here.", why=f"it has no {TASK}", fix="encode it again")
    return replace(index_file(part).header, name=str(name))


def _require_same(one: TaskHeader, other: TaskHeader) -> None:
    """A file has one of each."""
    for field, value in asdict(one).items():
        if (second := asdict(other)[field]) != value:
            raise UserError(
                f"The demonstrations of {one.name} do not fit into one HDF5 file.",
                why=f"their {field} differs: {value!r} and {second!r}",
                fix="convert them into sets of their own, or give their tasks different names",
            )


def _unfit(episode: Episode, why: str) -> UserError:
    return UserError(
        f"{episode.id} cannot be written as LIBERO's HDF5.",
        why=why,
        fix="leave it out, or convert a set of LIBERO's conventions",
    )
