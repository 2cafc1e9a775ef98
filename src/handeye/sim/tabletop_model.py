"""Composes a tabletop task's model: room, wooden table, cameras, robot, and what stands there. No files are read."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import cache
from xml.etree.ElementTree import Element

import mujoco
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from handeye.sim.mjcf import Attributes, add, document, element
from handeye.sim.tabletop_arm import INVISIBLE, actuators, materials, robot
from handeye.sim.tabletop_parts import COLOURS, Made, make_part
from handeye.sim.world import Place, Problem, Scene, Setting

BASE = (-0.66, 0.0, 0.912)  # as in LIBERO's table scenes, like the table and the cameras below (facts 1.2 and 1.3)
TABLE_TOP = 0.90
AGENTVIEW: Attributes = {
    "pos": (0.6586131746834771, 0.0, 1.6103500240372423),
    "quat": (0.6380177736282349, 0.3048497438430786, 0.30484986305236816, 0.6380177736282349),
}
FRONTVIEW: Attributes = {"pos": (1.0, 0.0, 1.48), "quat": (0.56, 0.43, 0.43, 0.56)}
DROP = 0.001
"""Things start this far above the table (m) and settle within a few control steps."""

SETTING = Setting(
    # The sampler lifts objects by 10 mm and fixtures by `fixture_height`, both from the workspace's height.
    workspace=(0.0, 0.0, TABLE_TOP - 0.01 + DROP),
    fixture_height=0.01 - DROP,
    shrink_by_radius=False,
    arena="main_table",
)


def compose(problem: Problem) -> Scene:
    """Compile a task's scene."""
    made = _made(problem)
    xml = model_xml(problem, made)
    content = hashlib.sha256(xml.encode() + wood().tobytes() + mujoco.__version__.encode())
    places = [place for one in made for place in one.places]
    places += [
        Place(name=name, owner=None) for name, region in problem.regions.items() if region.target == SETTING.arena
    ]
    return Scene(
        problem=problem,
        model=_compiled(xml),
        setting=SETTING,
        parts={one.part.name: one.part for one in made},
        places={place.name: place for place in places},
        digest=content.hexdigest(),
    )


def recompile(problem: Problem) -> None:
    """As scene.recompile: compile a scene and throw it away."""
    _compiled.__wrapped__(model_xml(problem, _made(problem)))


def _made(problem: Problem) -> list[Made]:
    return [
        make_part(category, name)
        for group in (problem.objects, problem.fixtures)
        for category, names in group.items()
        if category != SETTING.arena
        for name in names
    ]


@cache
def _compiled(xml: str) -> mujoco.MjModel:
    """Tasks that differ only in their words share a model."""
    picture = io.BytesIO()
    Image.fromarray(wood()).save(picture, "png")
    return mujoco.MjModel.from_xml_string(xml, {"wood.png": picture.getvalue()})


def model_xml(problem: Problem, made: Sequence[Made]) -> str:
    """The order of bodies and the physics settings are LIBERO's: arena, robot, objects, fixtures."""
    root = element("mujoco", model="tabletop")
    add(root, "compiler", angle="radian", inertiagrouprange=(0, 0))
    add(root, "option", impratio=20, cone="elliptic", density=1.2, viscosity=0.00002, timestep=0.002)
    visual = add(root, "visual")
    add(visual, "map", znear=0.001)
    add(visual, "headlight", ambient=(0.3, 0.3, 0.3), diffuse=(0.25, 0.25, 0.25), specular=(0.1, 0.1, 0.1))
    # Round shapes in 20 x 8 facets: a third of the default's triangles, and no edge to be seen at 256 pixels.
    add(visual, "quality", numslices=20, numstacks=8, numquads=1, shadowsize=0)
    assets = add(root, "asset")
    add(assets, "texture", name="wood", kind="2d", file="wood.png")
    add(assets, "texture", name="tiles", kind="2d", builtin="checker", rgb1=(0.74, 0.75, 0.76), rgb2=(0.68, 0.69, 0.71),
        width=64, height=64)  # fmt: skip
    add(assets, "material", name="wood", texture="wood", specular=0.1, shininess=0.1)
    add(assets, "material", name="tiles", texture="tiles", texrepeat=(4, 4), texuniform="true", specular=0.1)
    for name, rgb in (COLOURS | {"pale": (0.80, 0.66, 0.46), "wall": (0.80, 0.83, 0.84)}).items():
        add(assets, "material", name=name, rgba=(*rgb, 1), specular=0.2, shininess=0.3)
    assets.extend(materials())
    world = add(root, "worldbody")
    _room(world, problem)
    world.append(robot(BASE))
    world.extend(one.body for one in made)
    contact = add(root, "contact")
    for one in made:
        if one.inner:
            add(contact, "exclude", body1=one.part.body, body2=one.inner)
    add(root, "actuator").extend(actuators())
    return document(root)


def _room(world: Element, problem: Problem) -> None:
    add(world, "geom", name="floor", kind="plane", size=(3, 3, 0.125), material="tiles", condim=3, group=1)
    for side, at, size in (
        ("rear", (-1.8, 0.0, 1.5), (0.02, 3.0, 1.5)),
        ("front", (2.5, 0.0, 1.5), (0.02, 3.0, 1.5)),
        ("left", (0.0, -2.5, 1.5), (3.0, 0.02, 1.5)),
        ("right", (0.0, 2.5, 1.5), (3.0, 0.02, 1.5)),
    ):
        add(world, "geom", name=f"wall_{side}_visual", kind="box", pos=at, size=size, material="wall", **INVISIBLE)
    table = add(world, "body", name="table", pos=(0, 0, TABLE_TOP - 0.025))
    add(table, "geom", name="table_collision", kind="box", size=(0.5, 0.6, 0.025), friction=(0.6, 0.005, 0.0001),
        rgba=(0.5, 0.5, 0, 1), group=0)  # fmt: skip
    add(table, "geom", name="table_visual", kind="box", size=(0.5, 0.6, 0.025), material="wood", **INVISIBLE)
    for index, (x, y) in enumerate(((0.4, 0.5), (-0.4, 0.5), (-0.4, -0.5), (0.4, -0.5)), start=1):
        add(table, "geom", name=f"table_leg{index}_visual", kind="box", size=(0.025, 0.025, 0.4375),
            pos=(x, y, -0.4375), material="gray", **INVISIBLE)  # fmt: skip
    for name, region in problem.regions.items():
        if region.target == SETTING.arena:
            x0, y0, x1, y1 = region.ranges[0]
            add(table, "site", name=name, kind="box", pos=((x0 + x1) / 2, (y0 + y1) / 2, 0.025),
                size=((x1 - x0) / 2, (y1 - y0) / 2, 0.007), group=0, rgba=(0, 0, 0, 0))  # fmt: skip
    # One lamp above, one behind the camera's left shoulder: every face a camera sees is lit, each differently.
    for index, (at, direction) in enumerate(
        (((-0.3, 0.6, 3.0), (0.1, -0.2, -1.0)), ((2.0, -1.2, 2.2), (-1.0, 0.6, -0.75)))
    ):
        add(world, "light", name=f"light{index + 1}", pos=at, dir=direction, diffuse=(0.55, 0.55, 0.53),
            specular=(0.2, 0.2, 0.2), castshadow="false", cutoff=90)  # fmt: skip
    add(world, "camera", name="frontview", mode="fixed", **FRONTVIEW)
    add(world, "camera", name="agentview", mode="fixed", **AGENTVIEW)


@cache
def wood(size: int = 256, planks: int = 6) -> UInt8[np.ndarray, "H W 3"]:
    """Planks with a grain: waves along the board, bent by slower waves, each plank with its own shade."""
    rng = np.random.RandomState(7)
    v, u = np.meshgrid(np.linspace(0, 1, size, endpoint=False), np.linspace(0, 1, size, endpoint=False), indexing="ij")
    plank = np.floor(v * planks).astype(int)
    phase, shade = rng.uniform(0, 2 * np.pi, planks)[plank], rng.uniform(-0.05, 0.05, planks)[plank]
    bend = 0.35 * np.sin(2 * np.pi * u + phase) + 0.15 * np.sin(6 * np.pi * u + 2 * phase)
    grain = (
        np.sin(2 * np.pi * (7 * (v * planks % 1) + bend)) * 0.035
        + np.sin(2 * np.pi * (23 * (v * planks % 1) + 2 * bend)) * 0.015
    )
    light = 1 + shade + grain + rng.uniform(-0.015, 0.015, (size, size))
    light[(v * planks % 1) < 0.02] *= 0.82  # the joint between two planks
    return np.clip(np.array([214, 172, 124]) * light[..., None], 0, 255).astype(np.uint8)
