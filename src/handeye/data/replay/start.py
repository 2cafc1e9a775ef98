"""How a recorded episode began: which task, which scene, which state; and what was done in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float, Float64

from handeye.data.hdf5.source import Hdf5Source
from handeye.data.source import EpisodeRef, Source
from handeye.errors import UserError
from handeye.sim import suites
from handeye.sim.suites import Task
from handeye.types import EpisodeId

Pose = tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "4"]]


@dataclass(frozen=True, kw_only=True)
class Start:
    """Everything that the simulator must be given to go through an episode again."""

    task: Task
    actions: Float[np.ndarray, "N 7"]
    """All of them, in order, as they lie in the file."""

    states: Float[np.ndarray, "N D"]
    """Before each action: the first one is where to begin, the others tell the drift."""

    identity: EpisodeId | None
    """Of our own recordings: the scene is made from it alone, and the replay is exact."""

    fixtures: dict[str, Pose]
    """Body -> where it stood, from the scene's XML in the file. Empty: not recorded; they stand as after a reset."""


def start_of(source: Source, ref: EpisodeRef, *, suite: str | None = None) -> Start:
    """UserError where the format does not hold what is needed, or no task of ours is meant."""
    if not isinstance(source, Hdf5Source):
        raise UserError(
            f"{source.root} cannot be replayed.",
            why=f"{source.stored.format} holds no simulator states, so nobody knows where things stood at the start",
            fix="replay the HDF5 demonstrations that it was made from",
        )
    record = source.record(ref, images=False)
    if record.states is None:
        raise UserError(
            f"{source.root} cannot be replayed.",
            why="it was converted from a format without simulator states, so nobody knows where things stood",
            fix="replay the HDF5 demonstrations that it was made from",
        )
    identity = _identity(record.info)
    return Start(
        task=suites.task(identity.suite, identity.task) if identity else find_task(ref, suite),
        actions=record.actions,
        states=record.states,
        identity=identity,
        fixtures={} if identity else fixtures(record.model_file, where=ref.id),
    )


def _identity(info: Any) -> EpisodeId | None:
    said = info.get("episode") if isinstance(info, dict) else None
    return EpisodeId(**said) if isinstance(said, dict) else None


def find_task(ref: EpisodeRef, suite: str | None) -> Task:
    """By the name of the task's file, in the suite that is named or the only one that has it; a folder's name decides
    between two."""
    folder, name = PurePosixPath(ref.task).parent.as_posix(), PurePosixPath(ref.task).name
    searched = (
        [suite] if suite else ["libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90", "tabletop"]
    )
    found = [task for each in searched for task in suites.tasks(each) if task.name == name]
    if len(found) > 1 and len(named := [task for task in found if task.suite in folder]) == 1:
        found = named
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(
            f"{ref.id}: several suites have this task.",
            why=", ".join(task.suite for task in found),
            fix="name one with --suite",
        )
    raise UserError(
        f"{ref.id} belongs to no task that can be simulated.",
        why=f"no task of {', '.join(searched)} is called {name!r}",
        fix="name the file after its task, as LIBERO does: <task>_demo.hdf5; or name its suite with --suite",
    )


def fixtures(xml: str, *, where: str) -> dict[str, Pose]:
    """Pose of every body that stands in the world without a joint of its own. MuJoCo writes the model's numbers as they
    were when the file was saved, so these are the poses of that recording."""
    if not xml:
        return {}
    if re.search(r"<!(DOCTYPE|ENTITY)", xml):  # neither occurs in a model, and entities can be made to explode
        raise UserError(f"{where}: its model_file is no MJCF.", why="it declares entities", fix="fetch it again")
    try:
        world = ElementTree.fromstring(xml).find("worldbody")
        bodies = [] if world is None else world.findall("body")
        return {
            str(body.get("name")): (_numbers(body.get("pos", "0 0 0"), 3), _numbers(body.get("quat", "1 0 0 0"), 4))
            for body in bodies
            if body.find("freejoint") is None and not any(j.get("type") == "free" for j in body.findall("joint"))
        }
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{where}: its model_file is no MJCF.", why=str(error), fix="fetch it again") from None


def _numbers(text: str, count: int) -> Float64[np.ndarray, "_"]:
    values = np.array([float(word) for word in text.split()])
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"{text!r} is not {count} numbers")
    return values
