"""What stands on the tabletop: blocks, plates, trays, a cabinet with a drawer, buttons; each as MJCF and as a `Part`.

A category is a colour and a shape ("red_cube"). Everything that touches is a box or a ball: flat faces meet in several
points and rest quietly, where a cylinder on a box would meet in one and rock. Visual shapes are separate and rounder.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from handeye.errors import unknown
from handeye.sim.mjcf import Attributes, Value, add, element
from handeye.sim.tabletop_arm import INVISIBLE
from handeye.sim.world import Articulation, Part, Place

COLOURS = {
    "red": (0.84, 0.12, 0.12),
    "green": (0.13, 0.62, 0.22),
    "blue": (0.10, 0.30, 0.82),
    "yellow": (0.90, 0.70, 0.08),
    "purple": (0.50, 0.20, 0.62),
    "white": (0.93, 0.92, 0.89),
    "gray": (0.42, 0.44, 0.47),
    "brown": (0.45, 0.27, 0.14),
}

SOLID: Attributes = {
    "group": 0,
    "solref": (0.008, 1),  # four physics steps: stiff enough not to sink, soft enough not to ring
    "solimp": (0.95, 0.99, 0.001),
    "friction": (0.95, 0.3, 0.1),  # LIBERO's objects
    "rgba": (0.8, 0.8, 0.8, 0.3),
}
SITE: Attributes = {"group": 0, "rgba": (0, 0, 0, 0)}
TURNED = 0.26
"""Blocks are placed turned by up to 15 degrees (rad)."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A part, ready to be put into a scene."""

    body: Element
    part: Part
    places: tuple[Place, ...] = ()
    inner: str = ""
    """A body that slides within the part and never touches it; empty: none."""


def make_part(category: str, name: str) -> Made:
    colour, _, shape = category.rpartition("_")
    if shape not in SHAPES or colour not in COLOURS:
        raise unknown(
            "tabletop category", category, (f"{c}_{s}" for c in COLOURS for s in SHAPES), fix="name one of these"
        )
    return SHAPES[shape](category, name, colour)


def _body(name: str) -> Element:
    return element("body", name=f"{name}_main")


def _movable(body: Element, name: str, mass: float) -> None:
    """Free joint, and the mass spread over the solids already there."""
    solids = [geom for geom in body.iter("geom") if geom.get("group") == "0"]
    volumes = [math.prod(2 * float(size) for size in geom.get("size", "").split()) for geom in solids]
    for geom, volume in zip(solids, volumes, strict=True):
        geom.set("mass", repr(mass * volume / sum(volumes)))
    add(body, "joint", name=f"{name}_joint0", kind="free", damping=0.0005)  # LIBERO's damping


def _solid(body: Element, name: str, size: Value, pos: Value = (0, 0, 0), yaw: float = 0.0) -> None:
    turn: Attributes = {"quat": (math.cos(yaw / 2), 0, 0, math.sin(yaw / 2))} if yaw else {}
    add(body, "geom", name=name, kind="box", size=size, pos=pos, **turn, **SOLID)


def _seen(body: Element, name: str, material: str, **shape: Value) -> None:
    add(body, "geom", name=name, material=material, **INVISIBLE, **shape)


def _both(body: Element, name: str, material: str, size: Value, pos: Value = (0, 0, 0)) -> None:
    """A box that is seen as it is felt."""
    _solid(body, f"{name}_g", size, pos)
    _seen(body, f"{name}_vis", material, kind="box", size=size, pos=pos)


def _object(category: str, name: str, height: float, radius: float, *, turned: float) -> Part:
    """`height`: half. Rotation "x" is, in LIBERO's convention, a turn by pi minus the angle about the vertical."""
    return Part(
        name=name,
        category=category,
        movable=True,
        body=f"{name}_main",
        joints=(f"{name}_joint0",),
        bottom=-height,
        top=height,
        radius=radius,
        rotation=(("x", -turned, turned),),
    )


def _cube(category: str, name: str, colour: str) -> Made:
    half = 0.024
    body = _body(name)
    _both(body, name, colour, (half, half, half))
    _movable(body, name, 0.06)
    return Made(body=body, part=_object(category, name, half, 0.034, turned=TURNED))


def _cylinder(category: str, name: str, colour: str) -> Made:
    """Four crossed boxes make an eight-sided prism; the two that stand askew are shorter and stay off the table."""
    radius, half = 0.024, 0.034
    side = radius * math.tan(math.pi / 8)
    body = _body(name)
    for index in range(4):
        _solid(body, f"{name}_g{index}", (radius, side, half - 0.001 * (index % 2)), yaw=index * math.pi / 4)
    _seen(body, f"{name}_vis", colour, kind="cylinder", size=(radius, half))
    _movable(body, name, 0.07)
    return Made(body=body, part=_object(category, name, half, 0.03, turned=TURNED))


def _ball(category: str, name: str, colour: str) -> Made:
    radius = 0.026
    body = _body(name)
    # Rolling friction, for which condim 6 is needed: it comes to rest within a hand's breadth.
    rolling = SOLID | {"friction": (0.95, 0.3, 0.003), "condim": 6}
    add(body, "geom", name=f"{name}_g", kind="sphere", size=radius, **rolling)
    _seen(body, f"{name}_vis", colour, kind="sphere", size=radius)
    _movable(body, name, 0.05)
    return Made(body=body, part=_object(category, name, radius, 0.03, turned=0.0))


def _plate(category: str, name: str, colour: str) -> Made:
    """A disc one centimetre high, solid as two crossed boxes."""
    radius, half = 0.075, 0.005
    inner = radius * math.cos(math.pi / 8)
    body = _body(name)
    for index in range(2):
        _solid(body, f"{name}_g{index}", (inner, inner * 0.72, half - 0.0005 * index), yaw=index * math.pi / 2)
    _seen(body, f"{name}_vis", colour, kind="cylinder", size=(radius, half))
    _seen(body, f"{name}_rim_vis", "white", kind="cylinder", size=(radius * 0.72, half + 0.0012))
    _seen(body, f"{name}_centre_vis", colour, kind="cylinder", size=(radius * 0.64, half + 0.0024))
    _movable(body, name, 0.4)
    site = f"{name}_top_side"
    add(body, "site", name=site, kind="box", size=(0.05, 0.05, 0.002), pos=(0, 0, half), **SITE)
    return Made(
        body=body,
        part=_object(category, name, half, radius, turned=0.0),
        places=(Place(name=site, owner=name),),
    )


def _tray(category: str, name: str, colour: str) -> Made:
    """Open box: a floor and four walls. The body's origin is in the middle of its height."""
    x, y, half, wall = 0.085, 0.11, 0.02, 0.004
    body = _body(name)
    _both(body, f"{name}_floor", colour, (x, y, wall), (0, 0, wall - half))
    for index, sign in enumerate((-1, 1)):
        _both(body, f"{name}_end{index}", colour, (wall, y, half - wall), (sign * (x - wall), 0, wall))
        _both(body, f"{name}_side{index}", colour, (x - 2 * wall, wall, half - wall), (0, sign * (y - wall), wall))
    _movable(body, name, 0.6)
    site = f"{name}_contain_region"
    add(body, "site", name=site, kind="box", size=(x - 2 * wall, y - 2 * wall, half), pos=(0, 0, 2 * wall), **SITE)
    return Made(
        body=body,
        part=_object(category, name, half, 0.13, turned=0.0),
        places=(Place(name=site, owner=name),),
    )


DRAWER = Articulation(
    open_range=(-0.15, -0.144),  # as LIBERO's drawers: nearly as far as it goes, which is 15 cm
    close_range=(0.0, 0.0),
    is_open=("<", -0.11),
    is_close=(">", -0.006),
)


def _cabinet(category: str, name: str, colour: str) -> Made:
    """One drawer that slides along -y, with a bar across its front. The origin is at the middle of the height."""
    x, y, z, wall = 0.105, 0.10, 0.05, 0.005
    body = _body(name)
    _both(body, f"{name}_top", colour, (x, y, wall), (0, 0, z - wall))
    _both(body, f"{name}_floor", colour, (x, y, wall), (0, 0, wall - z))
    _both(body, f"{name}_back", colour, (x, wall, z - 2 * wall), (0, y - wall, 0))
    for index, sign in enumerate((-1, 1)):
        at = (sign * (x - wall), -wall, 0)
        _both(body, f"{name}_side{index}", colour, (wall, y - wall, z - 2 * wall), at)
    places = (_drawer(body, name, inside=(x - 2 * wall, y - 2 * wall, z - 2 * wall), front=-y),)
    part = Part(
        name=name,
        category=category,
        movable=False,
        body=f"{name}_main",
        joints=(f"{name}_drawer_level",),
        bottom=-z,
        top=z,
        radius=0.17,
        articulation=DRAWER,
    )
    return Made(body=body, part=part, places=places, inner=f"{name}_drawer")


def _drawer(cabinet: Element, name: str, inside: tuple[float, float, float], front: float) -> Place:
    x, y, z = (half - 0.002 for half in inside)  # 2 mm of play all around
    wall = 0.004
    body = add(cabinet, "body", name=f"{name}_drawer")
    add(body, "inertial", pos=(0, 0, 0), mass=0.6, diaginertia=(0.004, 0.004, 0.004))
    # Damped and with some stiction: a push moves it as far as the hand goes and no farther.
    add(body, "joint", name=f"{name}_drawer_level", kind="slide", axis=(0, 1, 0), limited="true", range=(-0.15, 0.0),
        damping=20, frictionloss=0.5)  # fmt: skip
    low = 0.6 * z  # sides end below the cabinet's top so that a hand can reach in
    depth = y - 0.004
    _both(body, f"{name}_drawer_floor", "pale", (x, depth, wall), (0, -0.004, wall - z))
    for index, sign in enumerate((-1, 1)):
        _both(body, f"{name}_drawer_side{index}", "pale", (wall, depth, low), (sign * (x - wall), -0.004, low - z))
    _both(body, f"{name}_drawer_back", "pale", (x - 2 * wall, wall, low), (0, depth - wall - 0.004, low - z))
    _both(body, f"{name}_drawer_front", "pale", (x + 0.004, 0.006, z + 0.004), (0, front - 0.006, 0))
    # The bar stands 62 mm off the front, near its upper edge: an open hand fits around it, its palm above the cabinet.
    face, off = front - 0.012, 0.062
    for index, sign in enumerate((-1, 1)):
        at = (sign * 0.05, face - off / 2, 0.02)
        _both(body, f"{name}_drawer_post{index}", "gray", (0.005, off / 2, 0.005), at)
    _both(body, f"{name}_drawer_handle", "gray", (0.055, 0.006, 0.006), (0, face - off, 0.02))
    site = f"{name}_drawer_region"
    add(body, "site", name=site, kind="box", size=(x - 2 * wall, depth - 2 * wall, z), pos=(0, -0.004, 0), **SITE)
    return Place(name=site, owner=name, joints=(f"{name}_drawer_level",))


BUTTON = Articulation(
    turnon_range=(-0.01, -0.01),
    turnoff_range=(0.0, 0.0),
    is_on=("<", -0.006),
    is_off=(">", -0.002),
)


def _button(category: str, name: str, colour: str) -> Made:
    """A box with a round key on a spring: on while it is held down by more than 6 of its 10 mm."""
    x, half = 0.045, 0.02
    body = _body(name)
    _both(body, f"{name}_box", "gray", (x, x, half))
    key = add(body, "body", name=f"{name}_key", pos=(0, 0, half))
    key.set("gravcomp", "1")  # the spring need not carry it
    add(key, "inertial", pos=(0, 0, 0), mass=0.05, diaginertia=(0.0001, 0.0001, 0.0001))
    add(key, "joint", name=f"{name}_button", kind="slide", axis=(0, 0, 1), limited="true", range=(-0.01, 0.0),
        stiffness=150, damping=4)  # fmt: skip
    _solid(key, f"{name}_key_g", (0.022, 0.022, 0.009), (0, 0, 0.006))
    _seen(key, f"{name}_key_vis", colour, kind="cylinder", size=(0.03, 0.009), pos=(0, 0, 0.006))
    part = Part(
        name=name,
        category=category,
        movable=False,
        body=f"{name}_main",
        joints=(f"{name}_button",),
        bottom=-half,
        top=half + 0.015,
        radius=0.065,
        articulation=BUTTON,
    )
    return Made(body=body, part=part, inner=f"{name}_key")


SHAPES: dict[str, Callable[[str, str, str], Made]] = {
    "cube": _cube,
    "cylinder": _cylinder,
    "ball": _ball,
    "plate": _plate,
    "tray": _tray,
    "cabinet": _cabinet,
    "button": _button,
}
