"""Problem -> MJCF: the arena, the robot, and every object and fixture, merged as the reference merges them.

Order is part of the result: MuJoCo numbers bodies, geoms and joints as they come, and the solver's sums follow. Nothing
is compiled or cached here; `scene.py` does that.
"""

from __future__ import annotations

import copy
import posixpath
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from handeye.errors import UserError, unknown
from handeye.sim.assets import libero_assets, robosuite_assets
from handeye.sim.catalogue import CATEGORIES, KINDS, Category, Kind
from handeye.sim.world import Part, Place, Problem, Region

SECTIONS = ("worldbody", "actuator", "sensor", "asset", "tendon", "equality", "contact")
MERGED = ("actuator", "sensor", "tendon", "equality", "contact")

NAMING = {
    *("class", "childclass", "name", "objname", "material", "texture", "mesh", "hfield", "target", "prefix", "fixed"),
    *("joint", "joint1", "joint2", "jointinparent", "geom", "geom1", "geom2", "body", "body1", "body2"),
    *("actuator", "tendon", "tendon1", "tendon2", "slidesite", "cranksite", "site"),
}
"""Attributes that hold names, which get a prefix when a part joins others."""

OFFSETS = {"bottom": ("bottom_site", 2), "top": ("top_site", 2), "radius": ("horizontal_radius_site", 0)}
"""A thing's extent as the placement sampler believes it -> site of its model, and which coordinate says so."""

ROBOT_COLOUR, MOUNT_COLOUR, GRIPPER_COLOUR, ARENA_COLOUR = "0 0.5 0 1", "0.5 0.5 0 1", "0 0 0.5 1", "0.5 0.5 0 1"
"""What collision geoms are painted, so that they can be told apart in a debugger's picture."""

ARM_JOINTS = 7
FRICTION_LOSS, BASE_ARMATURE = 0.1, 5.0
DAMPING = (0.1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01)

TABLE = (0.5, 0.6, 0.025)
"""Half extents of the made-to-measure table; its middle stands 0.875 above the floor."""

TABLE_HEIGHT, LEG = 0.875, 0.025


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A scene in words: what is compiled, the files it needs, and what its parts mean."""

    xml: str
    """Files are named relative to `roots`: `libero:scenes/...`, `robosuite:robots/...`."""

    roots: Mapping[str, Path]
    sources: frozenset[Path]
    """The model files it was put together from."""

    parts: Mapping[str, Part]
    places: Mapping[str, Place]
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class _Files:
    roots: Mapping[str, Path]
    read: set[Path]
    """Every model file that was read so far."""


def compose(problem: Problem) -> Composed:
    """UserError where LIBERO's files are not there, or not what they should be."""
    if problem.name not in KINDS:
        raise unknown("kind of scene", problem.name, KINDS, fix="the task file's `problem` must name one of these")
    kind = KINDS[problem.name]
    files = _Files(roots={"libero": libero_assets(), "robosuite": robosuite_assets()}, read=set())
    world = _load(files, "robosuite:base.xml")
    _settings(world)
    areas = [region for region in problem.regions.values() if region.target == kind.setting.arena and region.ranges]
    _merge(world, _arena(files, kind, areas))
    _merge(world, _robot(files, kind))
    parts: dict[str, Part] = {}
    places: dict[str, Place] = {area.name: Place(name=area.name, owner=None) for area in areas}
    for name, category in _instances(problem, kind):
        root, body, part = _part(files, name, category)
        _merge(world, root, only=body)
        parts[name] = part
        places.update(_places(body, part))
    return Composed(
        xml=ElementTree.tostring(world, encoding="unicode"),
        roots=files.roots,
        sources=frozenset(files.read),
        parts=parts,
        places=places,
        kind=kind,
    )


def _instances(problem: Problem, kind: Kind) -> Iterable[tuple[str, str]]:
    """(name, category): objects, then fixtures. The arena is declared as a fixture and is none."""
    for movable, group in ((True, problem.objects), (False, problem.fixtures)):
        for category, names in group.items():
            if category not in CATEGORIES:
                if not movable and kind.setting.arena in names:
                    continue
                raise unknown("kind of object", category, CATEGORIES, fix="name one of these in the task file")
            if CATEGORIES[category].movable != movable:
                there, belongs = ("objects", "fixtures") if movable else ("fixtures", "objects")
                raise UserError(f"{category} is listed under {there}.", fix=f"list it under {belongs} in the task file")
            yield from ((name, category) for name in names)


# ---- reading one file -----------------------------------------------------------------------------------------------


def _load(files: _Files, where: str) -> Element:
    """A model file with every section, defaults written out, and file names relative to the roots."""
    root_name, _, path = where.partition(":")
    file = files.roots[root_name] / path
    files.read.add(file)
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"{file} cannot be read.", why=str(error), fix="run `handeye fetch libero`") from None
    for section in SECTIONS:
        if root.find(section) is None:
            SubElement(root, section)
    _write_out_defaults(root)
    for element in _section(root, "asset"):
        if (name := element.get("file")) is not None:
            element.set("file", f"{root_name}:{posixpath.normpath(posixpath.join(posixpath.dirname(path), name))}")
    return root


def _section(root: Element, name: str) -> Element:
    found = root.find(name)
    assert found is not None
    return found


def _write_out_defaults(root: Element) -> None:
    """Elements of a class get what it says and they do not; the classes go."""
    for default in root.findall("default"):
        classes = {
            group.get("class", ""): {rule.tag: rule.attrib for rule in group} for group in default.iter("default")
        }
        for element in root.iter():
            rules = classes.get(element.get("class", ""), {})
            if element.tag != "default" and "class" in element.attrib and element.get("class") in classes:
                for key, value in rules.get(element.tag, {}).items():
                    element.attrib.setdefault(key, value)
                del element.attrib["class"]
        root.remove(default)


def _prefix(root: Element, prefix: str) -> None:
    for element in root.iter():
        for key in NAMING & element.attrib.keys():
            if not element.attrib[key].startswith(prefix):
                element.set(key, prefix + element.attrib[key])


def _merge(world: Element, root: Element, *, only: Element | None = None) -> None:
    """Append what a part brings. An asset that is there by tag and name stays as it is; the first one wins."""
    assets = _section(world, "asset")
    known = {(asset.tag, asset.get("name")) for asset in assets}
    for asset in _section(root, "asset"):
        if (asset.tag, asset.get("name")) not in known:
            known.add((asset.tag, asset.get("name")))
            assets.append(asset)
    _section(world, "worldbody").extend([only] if only is not None else list(_section(root, "worldbody")))
    for section in MERGED:
        _section(world, section).extend(list(_section(root, section)))


def _settings(world: Element) -> None:
    """The reference's order of sections, and its time step."""
    _section(world, "option").set("timestep", "0.002")
    order = ("compiler", "option", "size", "asset", "visual", "actuator", "worldbody", "equality")
    rest = [section for section in world if section.tag not in order]
    world[:] = [_section(world, name) for name in order] + rest


# ---- the arena ------------------------------------------------------------------------------------------------------


def _arena(files: _Files, kind: Kind, areas: Iterable[Region]) -> Element:
    root = _load(files, f"libero:{kind.arena_file}")
    for asset in _section(root, "asset"):
        for name, style in (("texplane", kind.floor), ("tex-wall", kind.wall)):
            if asset.tag == "texture" and asset.get("name") == name:
                asset.set("file", posixpath.join(posixpath.dirname(asset.attrib["file"]), style))
    worldbody = _section(root, "worldbody")
    for geom in worldbody.iter("geom"):
        if geom.get("group", "0") == "0" and geom.get("name") != "floor":
            _paint(geom, ARENA_COLOUR)
    if kind.table_friction is not None:
        _measure_table(worldbody, kind.table_friction)
    body = _named(worldbody, "body", kind.arena_body)
    body.extend(_area(area, kind.area_offset) for area in areas)
    for camera in kind.cameras:
        found = worldbody.find(f".//camera[@name='{camera.name}']")
        element = found if found is not None else SubElement(worldbody, "camera", name=camera.name)
        element.set("pos", _text(camera.position))
        element.set("quat", _text(camera.quaternion))
    return root


def _measure_table(worldbody: Element, friction: str) -> None:
    x, y, z = TABLE
    table = _named(worldbody, "body", "table")
    table.set("pos", _text((0.0, 0.0, TABLE_HEIGHT)))
    for name in ("table_collision", "table_visual"):
        _named(table, "geom", name).set("size", _text(TABLE))
    _named(table, "geom", "table_collision").set("friction", friction)
    _named(table, "site", "table_top").set("pos", _text((0.0, 0.0, z)))
    signs = ((1, 1), (-1, 1), (-1, -1), (1, -1))
    for number, (sign_x, sign_y) in enumerate(signs, start=1):
        leg = _named(table, "geom", f"table_leg{number}_visual")
        leg.set("pos", _text((sign_x * (x - 0.1), sign_y * (y - 0.1), -TABLE_HEIGHT / 2)))
        leg.set("size", _text((LEG, TABLE_HEIGHT / 2)))


def _area(region: Region, offset: tuple[float, float, float]) -> Element:
    """A region of the arena as a flat box site, seen only by predicates."""
    x0, y0, x1, y1 = region.ranges[0]
    return Element(
        "site",
        name=region.name,
        type="box",
        pos=_text(((x0 + x1) / 2 + offset[0], (y0 + y1) / 2 + offset[1], offset[2])),
        quat="1 0 0 0",
        size=_text(((x1 - x0) / 2, (y1 - y0) / 2, 0.007)),
        rgba=_text(region.rgba),
    )


# ---- the robot ------------------------------------------------------------------------------------------------------


def _robot(files: _Files, kind: Kind) -> Element:
    """Arm, then what it stands on, then its hand; each behind its own prefix."""
    arm = _load(files, "robosuite:robots/panda/robot.xml")
    _name_geoms(arm)
    _prefix_and_paint(arm, "robot0_", ROBOT_COLOUR)
    base = _named(arm, "body", "robot0_base")
    base.set("pos", _text(kind.base))
    for index, joint in enumerate(list(_section(arm, "worldbody").iter("joint"))[:ARM_JOINTS]):
        joint.attrib.setdefault("frictionloss", repr(FRICTION_LOSS))
        joint.attrib.setdefault("armature", repr(BASE_ARMATURE / (index + 1)))
        joint.set("damping", repr(DAMPING[index]))
    mount = _load(files, f"robosuite:mounts/{'rethink_mount' if kind.mounted else 'null_mount'}.xml")
    _prefix_and_paint(mount, "mount0_", MOUNT_COLOUR)
    stand = _named(mount, "body", "mount0_base")
    stand.set("pos", _text((0.0, 0.0, 0.01 if kind.mounted else 0.0)))
    hand = _load(files, "robosuite:grippers/panda_gripper.xml")
    _prefix_and_paint(hand, "gripper0_", GRIPPER_COLOUR)
    for part, onto in ((mount, "robot0_base"), (hand, "robot0_right_hand")):
        _named(arm, "body", onto).extend(list(_section(part, "worldbody")))
        _section(part, "worldbody").clear()
        _merge(arm, part)
    return arm


def _name_geoms(root: Element) -> None:
    """Unnamed geoms are numbered, those that are seen and those that collide apart."""
    counts = {"vis": 0, "col": 0}
    for geom in _section(root, "worldbody").iter("geom"):
        if geom.get("name") is None:
            kind = "col" if geom.get("group", "0") == "0" else "vis"
            geom.set("name", f"g{counts[kind]}_{kind}")
            counts[kind] += 1


def _prefix_and_paint(root: Element, prefix: str, colour: str) -> None:
    _prefix(root, prefix)
    for geom in _section(root, "worldbody").iter("geom"):
        if geom.get("group", "0") == "0":
            _paint(geom, colour)


def _paint(geom: Element, colour: str) -> None:
    geom.set("rgba", colour)
    geom.attrib.pop("material", None)


# ---- objects and fixtures -------------------------------------------------------------------------------------------


def _part(files: _Files, name: str, category: str) -> tuple[Element, Element, Part]:
    """(file, its body, what it means)"""
    about = CATEGORIES[category]
    root = _load(files, f"libero:{about.model(category)}")
    outer = _section(root, "worldbody").find("body")
    body = None if outer is None else outer.find("body[@name='object']")
    if outer is None or body is None:
        raise _foreign(f"{about.model(category)} has no body called object")
    offsets = {
        field: float(_named(outer, "site", site).attrib["pos"].split()[axis]) for field, (site, axis) in OFFSETS.items()
    }
    body = copy.deepcopy(body)
    body.set("name", "main")
    for index, geom in enumerate(body.iter("geom")):
        geom.attrib.setdefault("name", f"g{index}")
    if about.movable:
        SubElement(body, "joint", name="joint0", type="free", damping="0.0005")
    SubElement(
        body,
        "site",
        name="default_site",
        type="sphere",
        size="0.002 0.002 0.002",
        pos="0 0 0",
        rgba="1 0 0 0",
        group="0",
    )
    for tree in (body, _section(root, "asset")):
        _prefix(tree, f"{name}_")
    return root, body, _describe(name, category, about, body, offsets)


def _describe(name: str, category: str, about: Category, body: Element, offsets: Mapping[str, float]) -> Part:
    return Part(
        name=name,
        category=category,
        movable=about.movable,
        body=body.attrib["name"],
        joints=tuple(joint.attrib["name"] for joint in body.iter("joint")),
        rotation=about.rotation,
        articulation=about.articulation,
        **offsets,
    )


def _places(body: Element, part: Part) -> dict[str, Place]:
    """Every site of a part. A site belongs to the deepest body above it that is met before the first body without any
    site below it, and that body's own joints open and close it: the reference's rule, early end included."""
    joints: dict[str, tuple[str, ...]] = {}
    for inner in body.iter("body"):
        sites = [site.attrib["name"] for site in inner.iter("site")]
        if not sites:
            break
        own = tuple(joint.attrib["name"] for joint in inner.findall("joint"))
        joints.update(dict.fromkeys(sites, own))
    every = [site.attrib["name"] for site in body.iter("site")]
    return {name: Place(name=name, owner=part.name, joints=joints.get(name, ())) for name in every}


def _named(root: Element, tag: str, name: str) -> Element:
    for element in root.iter(tag):
        if element.get("name") == name:
            return element
    raise _foreign(f"there is no {tag} called {name} where one should be")


def _foreign(why: str) -> UserError:
    return UserError("LIBERO's scene files are not the ones we know.", why=why, fix="run `handeye fetch libero`")


def _text(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(number)) for number in numbers)
