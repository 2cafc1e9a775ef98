"""What a simulated world is made of: a problem (a task's words) and a scene (a compiled model, its parts explained).

Both LIBERO's scenes and the built-in tabletop's are a `Scene`, so placement, control, observation and predicates are
written once. Quaternions are MuJoCo's (w, x, y, z) here; lengths in metres, angles in radians.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    import mujoco

Predicate = tuple[str, ...]
"""A name and its arguments, lower case: ("on", "akita_black_bowl_1", "plate_1")."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """A named place of a task file: a rectangle on an arena surface, or a site that an object or fixture owns."""

    name: str
    """Full name, target included: `main_table_plate_region`, `wooden_cabinet_1_top_region`."""

    target: str
    ranges: tuple[tuple[float, float, float, float], ...] = ()
    """(x0, y0, x1, y1) relative to the arena's workspace; empty for regions that name a site."""

    yaw: tuple[float, float] = (0.0, 0.0)
    rgba: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One parsed task."""

    name: str
    """Problem class, lower case: `libero_tabletop_manipulation`, `handeye_tabletop`."""

    language: str
    regions: Mapping[str, Region]
    fixtures: Mapping[str, tuple[str, ...]]
    """category -> instance names, in file order; includes arena pseudo-fixtures such as main_table."""

    objects: Mapping[str, tuple[str, ...]]
    of_interest: tuple[str, ...]
    init: tuple[Predicate, ...]
    goal: tuple[Predicate, ...]
    """A conjunction."""


@dataclass(frozen=True, kw_only=True)
class Articulation:
    """When a joint counts as open, closed, on or off, and where a reset puts it."""

    open_range: tuple[float, float] | None = None
    """Where the `open` sampler puts the joint; None: cannot be opened."""

    close_range: tuple[float, float] | None = None
    is_open: tuple[Literal["<", ">", ">="], float] | None = None
    is_close: tuple[Literal["<", ">", ">="], float] | None = None
    turnon_range: tuple[float, float] | None = None
    turnoff_range: tuple[float, float] | None = None
    is_on: tuple[Literal["<", ">", ">="], float] | None = None
    is_off: tuple[Literal["<", ">", ">="], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """An object (free) or a fixture (fixed to the world) of a scene. The robot and the arena are not parts."""

    name: str
    """Instance name: `plate_1`."""

    category: str
    movable: bool
    body: str
    """Name of its root body."""

    joints: tuple[str, ...] = ()
    """Hinges and slides of a fixture, in document order; the free joint of an object."""

    bottom: float = -0.06
    """z of the lowest point relative to the body, as the placement sampler believes it."""

    top: float = 0.04
    radius: float = 0.025
    """Horizontal, likewise."""

    rotation: tuple[tuple[str, float, float], ...] = ()
    """Placement's random turns in order: (axis "x" | "y" | "z", low, high). Fixtures: empty."""

    articulation: Articulation | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """A region as it stands in the scene: a site."""

    name: str
    """Name of the site, which is also the region's full name."""

    owner: str | None
    """The part it belongs to; None for an area of the arena."""

    joints: tuple[str, ...] = ()
    """Joints that open and close it: a drawer's slide."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the arena contributes to placement."""

    workspace: tuple[float, float, float]
    """Offset added to region rectangles and heights."""

    fixture_height: float
    """z offset of fixtures placed on the arena."""

    shrink_by_radius: bool
    """Whether a placement rectangle is shrunk by the object's radius."""

    arena: str = ""
    """Name of the arena pseudo-fixture that regions target: `main_table`, `floor`, ..."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A compiled model and what its parts mean. The model is shared by all environments of the scene in this process
    (it holds up to 140 MB of textures); the few arrays that an episode changes are in `pristine` as compiled, and
    every environment writes its own before it simulates."""

    problem: Problem
    model: "mujoco.MjModel"
    setting: Setting
    parts: Mapping[str, Part]
    """Objects first, then fixtures, each in the order of the model's bodies."""

    places: Mapping[str, Place]
    digest: str
    """SHA-256 of everything the model was compiled from, and of the MuJoCo version that did it."""

    init_qpos: tuple[float, ...] = field(
        default=(0.0, -0.161037389, 0.0, -2.44459747, 0.0, 2.2267522, 0.7853981633974483)
    )
    """The arm's joints after a reset. 0.7853...: pi/4."""

    def __post_init__(self) -> None:
        if self.model not in _PRISTINE:
            _PRISTINE[self.model] = {name: getattr(self.model, name).copy() for name in EPISODE_ARRAYS}

    @property
    def pristine(self) -> Mapping[str, np.ndarray]:
        """Array of the model -> its values before any episode."""
        return _PRISTINE[self.model]


EPISODE_ARRAYS = ("body_pos", "body_quat", "site_rgba")
"""What an episode changes in a model: where fixtures stand, and which sites are seen."""

_PRISTINE: WeakKeyDictionary["mujoco.MjModel", Mapping[str, np.ndarray]] = WeakKeyDictionary()
"""By model, not by scene: tasks that differ only in their words share a model."""
