"""The vocabulary against the task files that use it."""

from __future__ import annotations

import math

import pytest

from handeye.sim import libero, suites
from handeye.sim.assets import libero_assets
from handeye.sim.catalogue import CATEGORIES, KINDS
from handeye.sim.world import Problem

SUITES = [name for name in suites.SUITES if name.startswith("libero_")]


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    found = [libero.problem(task) for suite in SUITES for task in suites.tasks(suite)]
    assert len(found) == 130
    return found


@pytest.mark.libero
def test_every_category_is_known_and_used(problems) -> None:
    arenas = {kind.setting.arena for kind in KINDS.values()}
    objects = {category for problem in problems for category in problem.objects}
    fixtures = {
        category for problem in problems for category, names in problem.fixtures.items() if not arenas & {*names}
    }
    assert objects == {name for name, category in CATEGORIES.items() if category.movable}
    assert fixtures == {name for name, category in CATEGORIES.items() if not category.movable}


@pytest.mark.libero
def test_every_kind_is_used(problems) -> None:
    assert {problem.name for problem in problems} == KINDS.keys()


@pytest.mark.libero
def test_every_model_and_style_is_there() -> None:
    folder = libero_assets()
    wanted = [category.model(name) for name, category in CATEGORIES.items()]
    wanted += [kind.arena_file for kind in KINDS.values()]
    wanted += [f"textures/{style}" for kind in KINDS.values() for style in (kind.floor, kind.wall)]
    assert [path for path in wanted if not (folder / path).is_file()] == [] and len(wanted) >= 48


def test_what_moves_turns_and_what_opens_does_not_move() -> None:
    for name, category in CATEGORIES.items():
        assert category.movable == bool(category.rotation), name
        assert not (category.movable and category.articulation), name
        assert {axis for axis, _, _ in category.rotation} <= {"x", "y", "z"}
        assert all(low <= high for _, low, high in category.rotation)


def test_cameras_are_rotations() -> None:
    """To the digits that LIBERO gives; MuJoCo makes them units."""
    poses = [camera for kind in KINDS.values() for camera in kind.cameras]
    assert len(poses) >= 15
    for camera in poses:
        assert math.hypot(*camera.quaternion) == pytest.approx(1, abs=2e-3), camera.name
