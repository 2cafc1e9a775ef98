"""How parts become one scene: rules on small documents, then every task of LIBERO."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.sim import compose, libero, suites
from handeye.sim.compose import Composed
from handeye.sim.world import Part, Problem

SUITES = [name for name in suites.SUITES if name.startswith("libero_")]


EMPTY = Problem(
    name="libero_floor_manipulation",
    language="",
    regions={},
    fixtures={},
    objects={},
    of_interest=(),
    init=(),
    goal=(),
)


def document(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    for section in compose.SECTIONS:
        if root.find(section) is None:
            ElementTree.SubElement(root, section)
    return root


# ---- the rules ------------------------------------------------------------------------------------------------------


def test_defaults_are_written_out_and_what_is_set_stays() -> None:
    root = document(
        '<m><default><default class="v"><geom group="1" mass="0"/></default></default>'
        '<worldbody><geom class="v" mass="2"/><geom/><site class="v"/></worldbody></m>'
    )
    compose._write_out_defaults(root)
    assert [element.attrib for element in root.find("worldbody")] == [{"mass": "2", "group": "1"}, {}, {}]
    assert root.find("default") is None


def test_names_get_a_prefix_once() -> None:
    root = document('<m><worldbody><geom name="a" mesh="b_c" rgba="1 0 0 1"/><site name="b_d"/></worldbody></m>')
    compose._prefix(root, "b_")
    assert [element.attrib for element in root.find("worldbody")] == [
        {"name": "b_a", "mesh": "b_c", "rgba": "1 0 0 1"},
        {"name": "b_d"},
    ]


def test_the_first_asset_of_a_name_wins() -> None:
    world = document('<m><asset><texture name="t" file="a"/></asset></m>')
    part = document(
        '<m><asset><texture name="t" file="b"/><material name="t"/><texture name="u" file="c"/>'
        '<texture name="u" file="d"/></asset><worldbody><body name="x"/></worldbody><actuator><motor/></actuator></m>'
    )
    compose._merge(world, part)
    assert [(a.tag, a.get("file")) for a in world.find("asset")] == [
        ("texture", "a"), ("material", None), ("texture", "c"),
    ]  # fmt: skip
    assert [element.tag for element in (*world.find("worldbody"), *world.find("actuator"))] == ["body", "motor"]


def test_a_site_opens_with_the_joints_of_the_last_body_that_has_it() -> None:
    body = ElementTree.fromstring(
        '<body name="root"><site name="top"/><body name="drawer"><joint name="slide"/><site name="inside"/></body>'
        '<body name="bare"/><body name="door"><joint name="hinge"/><site name="behind"/></body></body>'
    )
    part = Part(name="cupboard_1", category="cupboard", movable=False, body="root")
    places = compose._places(body, part)
    assert {name: place.joints for name, place in places.items()} == {
        "top": (), "inside": ("slide",), "behind": (),  # the walk ended at the body without sites
    }  # fmt: skip
    assert {place.owner for place in places.values()} == {"cupboard_1"}


def test_an_unknown_scene_is_named() -> None:
    nowhere = replace(EMPTY, name="libero_flor_manipulation")
    with pytest.raises(UserError, match="libero_floor_manipulation"):
        compose.compose(nowhere)


@pytest.mark.libero
@pytest.mark.parametrize(
    ("group", "word"), [({"bananna": ("b_1",)}, "bananna"), ({"wine_rack": ("wine_rack_1",)}, "listed under objects")]
)
def test_an_impossible_object_is_named(group: dict[str, tuple[str, ...]], word: str) -> None:
    problem = replace(EMPTY, fixtures={"floor": ("floor",)}, objects=group)
    with pytest.raises(UserError, match=word):
        compose.compose(problem)


@pytest.mark.libero
def test_a_foreign_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in ("<mujoco", "<mujoco/>"):
        file = tmp_path / "scenes" / "libero_floor_base_style.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        monkeypatch.setattr(compose, "libero_assets", lambda: tmp_path)
        with pytest.raises(UserError, match="fetch libero"):
            compose.compose(libero.problem(suites.task("libero_object", 0)))


# ---- all of LIBERO --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def composed() -> list[tuple[Problem, Composed]]:
    problems = [libero.problem(task) for suite in SUITES for task in suites.tasks(suite)]
    return [(problem, compose.compose(problem)) for problem in problems]


@pytest.mark.libero
def test_every_task_composes(composed) -> None:
    assert len(composed) == 130
    assert len({scene.xml for _, scene in composed}) == 32  # what the cache has to hold
    missing = set()
    for _, scene in composed:
        for element in ElementTree.fromstring(scene.xml).iter():
            root, _, path = element.get("file", "").partition(":")
            if root and not (scene.roots[root] / path).is_file():
                missing.add(path)
    assert not missing


@pytest.mark.libero
def test_every_word_of_a_task_means_something(composed) -> None:
    words = 0
    for problem, scene in composed:
        for _, *names in (*problem.init, *problem.goal):
            assert {*names} <= scene.parts.keys() | scene.places.keys()
            words += len(names)
        bodies = [name for group in (problem.objects, problem.fixtures) for names in group.values() for name in names]
        assert [name for name in bodies if name != scene.kind.setting.arena] == list(scene.parts)
        assert {part.movable for part in scene.parts.values() if part.joints[-1:] == (f"{part.name}_joint0",)} <= {True}
    assert words > 1000


EXTENTS = {
    "alphabet_soup": (-0.04, 0.04, 0.025), "bbq_sauce": (-0.06, 0.06, 0.015), "butter": (-0.02, 0.02, 0.02),
    "cream_cheese": (-0.025, 0.025, 0.03), "plate": (-0.06, 0.04, 0.025),
    "milk": (-0.06, 0.04, 0.03), "flat_stove": (-0.045, 0.045, 0.045), "wooden_cabinet": (-0.045, 0.045, 0.045),
    "microwave": (-0.06, 0.06, 0.015),
}  # fmt: skip
"""Bottom, top and radius of some categories in the files that the parity tests ran with."""


@pytest.mark.libero
def test_extents_come_from_the_models(composed) -> None:
    found = {
        part.category: (part.bottom, part.top, part.radius) for _, scene in composed for part in scene.parts.values()
    }
    assert {name: found[name] for name in EXTENTS} == EXTENTS
