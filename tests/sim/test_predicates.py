"""What the goal words mean, one at a time, in a world of two boxes, a cabinet and a marked area."""

from __future__ import annotations

import mujoco
import pytest

from handeye.errors import UserError
from handeye.sim.predicates import Predicates
from handeye.sim.world import Articulation, Part, Place, Problem, Scene, Setting

WORLD = """
<mujoco>
  <worldbody>
    <site name="floor_area" type="box" size=".1 .2 .01" pos="1 0 0"/>
    <body name="a_main"><freejoint name="a_joint0"/><geom name="a" type="box" size=".05 .05 .05"/>
      <geom type="box" size=".2 .2 .2" group="1" contype="0" conaffinity="0"/></body>
    <body name="b_main" pos="0 0 .1"><freejoint name="b_joint0"/><geom name="b" type="box" size=".05 .05 .05"/></body>
    <body name="box_main" pos="3 0 0">
      <geom type="box" size=".1 .1 .01"/>
      <site name="box_top" type="box" size=".1 .1 .01" euler="0 0 90"/>
      <body name="box_upper"><joint name="box_one" type="slide" axis="0 1 0"/><geom size=".01" pos="0 0 1"/></body>
      <body name="box_lower"><joint name="box_two" type="slide" axis="0 1 0"/><geom size=".01" pos="0 0 2"/></body>
    </body>
  </worldbody>
</mujoco>
"""
DRAWERS = Articulation(is_open=("<", -0.14), is_close=(">", 0.0), is_on=(">=", 0.5))


@pytest.fixture(scope="module")
def scene() -> Scene:
    parts = {
        "a": Part(name="a", category="cube", movable=True, body="a_main", joints=("a_joint0",)),
        "b": Part(name="b", category="cube", movable=True, body="b_main", joints=("b_joint0",)),
        "box": Part(
            name="box",
            category="cabinet",
            movable=False,
            body="box_main",
            joints=("box_one", "box_two"),
            articulation=DRAWERS,
        ),
    }
    places = {
        "floor_area": Place(name="floor_area", owner=None),
        "box_top": Place(name="box_top", owner="box"),
    }
    problem = Problem(name="p", language="", regions={}, fixtures={}, objects={}, of_interest=(), init=(), goal=())
    return Scene(
        problem=problem,
        model=mujoco.MjModel.from_xml_string(WORLD),
        setting=Setting(workspace=(0.0, 0.0, 0.0), fixture_height=0.0, shrink_by_radius=False),
        parts=parts,
        places=places,
        digest="",
    )


@pytest.fixture
def world(scene: Scene) -> Predicates:
    data = mujoco.MjData(scene.model)
    mujoco.mj_forward(scene.model, data)
    return Predicates(scene, data)


def put(world: Predicates, **where: tuple[float, float, float] | float) -> None:
    for name, value in where.items():
        joint = world.data.joint(f"{name}_joint0" if isinstance(value, tuple) else name)
        joint.qpos[: 3 if isinstance(value, tuple) else 1] = value
    mujoco.mj_forward(world.model, world.data)


def holds(world: Predicates, *words: str) -> bool:
    return world.bind(words)()


def test_on_a_thing_asks_for_height_contact_and_nearness(world: Predicates) -> None:
    put(world, a=(0, 0, 0), b=(0, 0, 0.0995))
    assert holds(world, "on", "b", "a")
    assert not holds(world, "on", "a", "b")
    put(world, b=(0, 0, 0.11))
    assert not holds(world, "on", "b", "a"), "not touching"
    put(world, b=(0.031, 0, 0.0995))
    assert world.contact("a", "b")
    assert not holds(world, "on", "b", "a"), "3 cm from the middle"


def test_visual_geoms_touch_nothing(world: Predicates) -> None:
    put(world, a=(0, 0, 0), b=(0, 0, 0.2))
    assert not world.contact("a", "b")


def test_on_an_area_of_the_arena_needs_no_contact(world: Predicates) -> None:
    put(world, a=(1, 0.15, 0.05))
    assert holds(world, "on", "a", "floor_area")
    for wrong in [(1.11, 0, 0.05), (1, 0.21, 0.05), (1, 0, 0.12), (1, 0, 0.0049)]:
        put(world, a=wrong)
        assert not holds(world, "on", "a", "floor_area"), wrong


def test_on_a_region_of_a_part_needs_contact_with_it(world: Predicates) -> None:
    put(world, a=(3, 0, 0.0595))
    assert holds(world, "on", "a", "box_top")
    put(world, a=(3, 0, 0.07))
    assert not holds(world, "on", "a", "box_top")


def test_in_a_region_is_a_box_with_a_little_room_below(world: Predicates) -> None:
    for inside in [(1, 0, 0), (1.09, -0.19, 0.009), (1, 0, -0.019)]:
        put(world, a=inside)
        assert holds(world, "in", "a", "floor_area"), inside
    for outside in [(1.11, 0, 0), (1, 0, 0.011), (1, 0, -0.021)]:
        put(world, a=outside)
        assert not holds(world, "in", "a", "floor_area"), outside
    put(world, a=(0, 0, 0), b=(0, 0, 0.05))
    assert not holds(world, "in", "a", "b"), "a thing that is no region has no inside"


def test_any_joint_opens_and_all_joints_close(world: Predicates) -> None:
    for one, two, opened, closed in [
        (-0.15, 0.0, True, False),
        (-0.13, -0.13, False, False),
        (0.001, 0.0, False, False),
        (0.001, 0.001, False, True),
    ]:
        put(world, box_one=one, box_two=two)
        assert (holds(world, "open", "box"), holds(world, "close", "box")) == (opened, closed)
    put(world, box_one=0.5)
    assert holds(world, "turnon", "box"), "at the bound"


def test_a_region_without_joints_is_closed_and_cannot_be_open(world: Predicates) -> None:
    assert holds(world, "close", "box_top")
    assert not holds(world, "open", "box_top")


def test_up_and_the_constants(world: Predicates) -> None:
    put(world, a=(0, 0, 1.0))
    assert holds(world, "up", "a")
    put(world, a=(0, 0, 0.999))
    assert not holds(world, "up", "a")
    assert holds(world, "true")
    assert not holds(world, "false")


@pytest.mark.parametrize(
    "words",
    [
        ("on", "a", "nowhere"),
        ("on", "ghost", "b"),
        ("open", "a"),
        ("turnoff", "box"),
        ("open", "floor_area"),
        ("near", "a", "b"),
        ("on", "a"),
    ],
)
def test_words_without_meaning_are_refused_at_once(world: Predicates, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="means nothing"):
        world.bind(words)


def test_every_part_of_a_goal_is_told(world: Predicates) -> None:
    put(world, a=(0, 0, 0), b=(0, 0, 0.0995))
    tests = world.bind_all((("on", "b", "a"), ("open", "box")))
    assert {words: test() for words, test in tests.items()} == {("on", "b", "a"): True, ("open", "box"): False}
