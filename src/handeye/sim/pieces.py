"""What is taken from the wheels of hf-libero and robosuite: which files, under which names, and in which form.

The wheels are read as archives of data: nothing in them is imported or run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from handeye.records import write_json
from handeye.sim import bddl, init_states, scene_files, wheels

SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
ROBOT_MODELS = (
    "base.xml",
    "robots/panda/robot.xml",
    "grippers/panda_gripper.xml",
    "mounts/rethink_mount.xml",
    "mounts/null_mount.xml",
)
"""With the meshes they name, all that LIBERO's scenes use of robosuite."""

_ARENAS = {"table", "floor", "kitchen_table", "study_table", "living_room_table"}
"""Categories of fixtures that are the arena itself and have no model of their own (facts 1.1)."""


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
    write_json(folder / "categories.json", sorted(categories - _ARENAS))


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
