"""What the simulator's verbs and its environments are configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from handeye.errors import UserError

Backend = Literal["auto", "egl", "osmesa", "glfw"]
CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}
"""Our name of a camera -> its name in the scene."""


@dataclass(frozen=True, kw_only=True)
class SimConfig:
    """How an environment is simulated and seen. Part of every result."""

    camera_size: int = 128
    """Height and width of the images, in pixels."""

    cameras: tuple[str, ...] = ("agentview", "wrist")
    """Empty: nothing is rendered and no graphics library is needed."""

    arithmetic: Literal["bitwise", "fast"] = "bitwise"
    """`bitwise` repeats the reference's control step to the last bit; `fast` solves the same equations with less work
    (a third of the time saved; states within 1e-9 of the reference's after 50 steps, except where a last bit decides
    a contact: docs/simulator.md)."""

    backend: Backend = "auto"
    """Graphics library. `auto` takes the first of EGL, OSMesa, GLFW that renders a frame."""

    allow_mujoco: bool = False
    """Run with a MuJoCo outside the supported range. Results will say so."""

    def __post_init__(self) -> None:
        if self.camera_size < 16:
            raise UserError(
                f"--camera-size {self.camera_size} is too small.",
                why="no policy sees anything below 16 pixels",
                fix="use 128 or 256",
            )
        if unknown_cameras := [c for c in self.cameras if c not in CAMERAS]:
            raise UserError(
                f"There is no camera called {unknown_cameras[0]!r}.",
                why=f"known: {', '.join(CAMERAS)}",
                fix="name one of these",
            )


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """Bring LIBERO's task files, initial states, robot and scenes; without any flag, from where each is published."""

    assets: Path | None = None
    """Use LIBERO's scene files from this folder, where they are, instead of the download ($HANDEYE_LIBERO_ASSETS)."""

    copy: bool = False
    """Copy what is needed from --assets, so that the folder may go away."""

    wheels: Path | None = None
    """A folder with hf_libero-0.1.4-*.whl and robosuite-1.4.0-*.whl, instead of the package index."""

    index: str = ""
    """A package index to ask instead of the one pip is configured with."""

    def __post_init__(self) -> None:
        for flag, folder in (("--assets", self.assets), ("--wheels", self.wheels)):
            if folder is not None and not folder.is_dir():
                raise UserError(f"{flag} {folder} is not a folder.", fix="check the path")


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """Is this simulator the one the numbers are about? A few seconds; exit code 1 if not."""

    backend: Backend = "auto"
    """Graphics library to check. `auto` takes the first of EGL, OSMesa, GLFW that renders a frame."""


@dataclass(frozen=True, kw_only=True)
class BenchSimConfig:
    """How fast is the simulator: against MuJoCo alone and, where one is given, against the reference.

    Times are processor time of one process on one core, medians of alternating blocks; only ratios mean anything.
    """

    reference: Path | None = None
    """A Python interpreter with hf-libero 0.1.4, robosuite 1.4.0 and mujoco 3.3.2. Without it only ours is measured."""

    tasks: tuple[str, ...] = ("libero_spatial/0", "libero_object/2", "libero_goal/3", "libero_10/3")
    """SUITE/INDEX of the tasks that are measured: control step, start, episodes with two cameras, memory."""

    blocks: int = 8
    """Alternations per figure."""

    horizon: int = 220
    """Control steps of the episode that episodes per minute are stated for (220: LIBERO-Spatial's)."""

    backend: Backend = "osmesa"
    """Graphics library of both sides. Software by default, so that the figure needs no GPU."""

    json: Path | None = None
    """Also write every figure to this file."""

    def __post_init__(self) -> None:
        if self.reference is not None and not self.reference.is_file():
            raise UserError(f"--reference {self.reference} is not a Python interpreter.", fix="give its path")
        for task in self.tasks:
            if not re.fullmatch(r"\w+/\d+", task):
                raise UserError(f"--tasks {task!r} names no task.", why="it is not SUITE/INDEX", fix="libero_spatial/0")
        if not self.tasks or self.blocks < 2 or self.horizon < 8:
            raise UserError(
                "There is nothing to measure.", why="one task, two blocks and eight steps at least", fix="raise them"
            )
