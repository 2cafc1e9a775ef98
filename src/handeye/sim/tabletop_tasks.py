"""The tabletop suite's tasks: where things stand, what is said, and when it is done.

Distances are metres from the middle of the table. The table's far side, seen from the camera, is where the robot
stands (-x); "left" and "right" are the viewer's, as in LIBERO: left is -y.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from handeye.sim.world import Predicate, Problem, Region

ARENA = "main_table"

Rectangle = tuple[float, float, float, float]


def around(x: float, y: float, dx: float = 0.03, dy: float = 0.03) -> Rectangle:
    return (x - dx, y - dy, x + dx, y + dy)


LEFT, RIGHT = around(-0.09, -0.15), around(-0.09, 0.15)
FAR_LEFT, FAR_RIGHT = around(0.08, -0.16, 0.02), around(0.08, 0.16, 0.02)
CENTRE = around(0.06, 0.0, 0.02)
FIXED = 0.008
"""Half the range within which fixtures are placed (m); LIBERO's is 0.01."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What stands where. Things that share several rectangles swap places from episode to episode."""

    objects: tuple[tuple[str, str, tuple[Rectangle, ...]], ...]
    """(instance, category, rectangles), in the order in which they are placed."""

    fixtures: tuple[tuple[str, str, Rectangle, float], ...] = ()
    """(instance, category, rectangle, yaw)."""


COLOURS = Layout(
    objects=(
        ("blue_plate_1", "blue_plate", (FAR_LEFT, FAR_RIGHT)),
        ("yellow_plate_1", "yellow_plate", (FAR_LEFT, FAR_RIGHT)),
        ("red_cube_1", "red_cube", (LEFT, RIGHT)),
        ("green_cube_1", "green_cube", (LEFT, RIGHT)),
    )
)
SHAPES = Layout(
    objects=(
        ("brown_tray_1", "brown_tray", (CENTRE,)),
        ("green_cylinder_1", "green_cylinder", (LEFT, around(-0.14, 0.0), RIGHT)),
        ("green_ball_1", "green_ball", (LEFT, around(-0.14, 0.0), RIGHT)),
        ("green_cube_1", "green_cube", (LEFT, around(-0.14, 0.0), RIGHT)),
    )
)
PLACES = Layout(
    objects=(
        ("gray_plate_1", "gray_plate", (FAR_LEFT,)),
        ("gray_plate_2", "gray_plate", (FAR_RIGHT,)),
        ("purple_cube_1", "purple_cube", (LEFT,)),
        ("purple_cube_2", "purple_cube", (RIGHT,)),
    )
)
DRAWER = Layout(
    objects=(
        ("yellow_cube_1", "yellow_cube", (around(-0.06, 0.22),)),
        ("blue_cylinder_1", "blue_cylinder", (around(0.12, 0.21),)),
    ),
    fixtures=(("brown_cabinet_1", "brown_cabinet", around(0.02, -0.22, FIXED, FIXED), 3.141592653589793),),
)
BUTTONS = Layout(
    objects=(("yellow_cube_1", "yellow_cube", (around(-0.16, 0.0),)),),
    fixtures=(
        ("red_button_1", "red_button", around(0.02, -0.14, 0.03, 0.03), 0.0),
        ("blue_button_1", "blue_button", around(0.02, 0.14, 0.03, 0.03), 0.0),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Described:
    """One task in words, with its goal."""

    language: str
    layout: Layout
    goal: tuple[Predicate, ...]
    of_interest: tuple[str, ...]
    init: tuple[Predicate, ...] = ()
    """Besides what stands on the table: which drawer is open."""

    @property
    def name(self) -> str:
        return self.language.replace(" ", "_")


def _on_plate(language: str, layout: Layout, thing: str, plate: str) -> Described:
    return Described(
        language=language, layout=layout, goal=(("on", thing, f"{plate}_top_side"),), of_interest=(thing, plate)
    )


def _in_tray(language: str, thing: str) -> Described:
    return Described(
        language=language,
        layout=SHAPES,
        goal=(("in", thing, "brown_tray_1_contain_region"),),
        of_interest=(thing, "brown_tray_1"),
    )


_CABINET, _DRAWER = "brown_cabinet_1", "brown_cabinet_1_drawer_region"

TASKS = (
    _on_plate("put the red cube on the blue plate", COLOURS, "red_cube_1", "blue_plate_1"),
    _on_plate("put the green cube on the blue plate", COLOURS, "green_cube_1", "blue_plate_1"),
    _on_plate("put the red cube on the yellow plate", COLOURS, "red_cube_1", "yellow_plate_1"),
    Described(
        language="stack the red cube on the green cube",
        layout=COLOURS,
        goal=(("on", "red_cube_1", "green_cube_1"),),
        of_interest=("red_cube_1", "green_cube_1"),
    ),
    _in_tray("put the cylinder in the tray", "green_cylinder_1"),
    _in_tray("put the ball in the tray", "green_ball_1"),
    _on_plate("put the left cube on the left plate", PLACES, "purple_cube_1", "gray_plate_1"),
    _on_plate("put the right cube on the right plate", PLACES, "purple_cube_2", "gray_plate_2"),
    Described(language="open the drawer", layout=DRAWER, goal=(("open", _DRAWER),), of_interest=(_CABINET,)),
    Described(
        language="close the drawer",
        layout=DRAWER,
        init=(("open", _DRAWER),),
        goal=(("close", _DRAWER),),
        of_interest=(_CABINET,),
    ),
    Described(
        language="put the yellow cube in the drawer",
        layout=DRAWER,
        init=(("open", _DRAWER),),
        goal=(("in", "yellow_cube_1", _DRAWER),),
        of_interest=("yellow_cube_1", _CABINET),
    ),
    Described(
        language="press the red button",
        layout=BUTTONS,
        goal=(("turnon", "red_button_1"),),
        of_interest=("red_button_1",),
    ),
)


def problem(task: Described) -> Problem:
    """The same words as a parsed LIBERO task file."""
    regions: dict[str, Region] = {}
    init: list[Predicate] = []

    def stand(name: str, ranges: tuple[Rectangle, ...], yaw: float) -> None:
        region = Region(name=f"{ARENA}_{name}_region", target=ARENA, ranges=ranges, yaw=(yaw, yaw))
        regions[region.name] = region
        init.append(("on", name, region.name))

    for name, _, rectangle, yaw in task.layout.fixtures:
        stand(name, (rectangle,), yaw)
    for name, _, ranges in task.layout.objects:
        stand(name, ranges, 0.0)
    for predicate in (*task.init, *task.goal):
        for argument in predicate[1:]:
            owner = _owner(task.layout, argument)
            if owner != argument:
                regions.setdefault(argument, Region(name=argument, target=owner))
    return Problem(
        name="handeye_tabletop",
        language=task.language,
        regions=regions,
        fixtures={ARENA: (ARENA,)} | _by_category((c, n) for n, c, _, _ in task.layout.fixtures),
        objects=_by_category((c, n) for n, c, _ in task.layout.objects),
        of_interest=task.of_interest,
        init=(*init, *task.init),
        goal=task.goal,
    )


def _owner(layout: Layout, argument: str) -> str:
    """The part that a part's or a site's name begins with."""
    names = [name for name, _, _ in layout.objects] + [name for name, _, _, _ in layout.fixtures]
    return next(name for name in names if argument == name or argument.startswith(f"{name}_"))


def _by_category(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for category, name in pairs:
        found[category] = (*found.get(category, ()), name)
    return found
