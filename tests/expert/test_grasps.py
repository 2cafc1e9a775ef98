"""Grasps of plain shapes: closing where it is narrow, turned as little as needed, hitting nothing."""

import mujoco
import numpy as np
import pytest

from handeye.expert.geometry import Cloud, sample
from handeye.expert.grasps import OPEN, TIGHT, TIP, Taste, best, candidates, down, hits, nearby

NOTHING = np.zeros((0, 3))


def box(half, *, at=(0.0, 0.0), turn=0.0):
    size = " ".join(map(str, half))
    model = mujoco.MjModel.from_xml_string(f'<mujoco><worldbody><geom type="box" size="{size}"/></worldbody></mujoco>')
    points, normals = sample(model, 0)
    c, s = np.cos(turn), np.sin(turn)
    rot = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return Cloud(points=points @ rot.T + [*at, half[2]], normals=normals @ rot.T)


def test_a_cube_is_taken_across_the_hands_resting_direction():
    grasp = best(box((0.02, 0.02, 0.02), at=(0.1, -0.2)), NOTHING, Taste())
    np.testing.assert_allclose(grasp.pos[:2], [0.1, -0.2], atol=0.004)
    np.testing.assert_allclose(grasp.rot, down(0.0), atol=1e-6)
    assert grasp.width == pytest.approx(0.04, abs=1e-6)
    assert grasp.pos[2] > TIP  # the finger tips stay above the ground


def test_what_is_too_wide_in_one_direction_is_taken_in_the_other():
    grasp = best(box((0.02, 0.05, 0.03)), NOTHING, Taste())
    np.testing.assert_allclose(np.abs(grasp.rot[:, 0]), [1, 0, 0], atol=1e-6)


def test_what_is_too_wide_in_every_direction_is_not_taken():
    assert best(box((0.06, 0.06, 0.03)), NOTHING, Taste()) is None


def test_the_closing_direction_follows_a_turned_thing():
    turn = 0.5
    grasp = best(box((0.05, 0.015, 0.02), turn=turn), NOTHING, Taste())
    assert abs(grasp.rot[:, 0] @ [-np.sin(turn), np.cos(turn), 0]) == pytest.approx(1.0, abs=1e-6)


def test_a_neighbour_where_a_finger_would_go_turns_the_hand():
    cube = box((0.02, 0.02, 0.03))
    wall = box((0.05, 0.01, 0.05), at=(0.0, OPEN + 0.012)).points
    grasp = best(cube, wall, Taste())
    assert abs(grasp.rot[0, 0]) == pytest.approx(1.0, abs=1e-6)  # closes along x now
    assert not hits(nearby(grasp.pos, grasp.rot, wall))


def test_every_height_of_a_surface_is_tried():
    """Points lie in rows. A tall box with a shelf around all but its upper third can only be taken there."""
    tall = box((0.02, 0.02, 0.10))
    shelf = np.concatenate([box((0.01, 0.1, 0.06), at=(x, 0.0)).points for x in (-0.05, 0.05)])
    shelf = np.concatenate([shelf, shelf[:, [1, 0, 2]]])
    for limit in (40, 80, 160):
        grasps = candidates(tall, shelf, Taste(lift=0.0), want=5, limit=limit)
        assert len(grasps) == 5
        assert all(grasp.pos[2] - TIP > 0.12 for grasp in grasps)


def test_the_hand_does_not_close_on_less_than_there_is():
    """Two posts side by side: the gap's faces are opposite points too, but the fingers meet the outer faces first."""
    posts = [box((0.004, 0.006, 0.02), at=(0.0, y)) for y in (-0.014, 0.014)]
    both = Cloud(
        points=np.concatenate([post.points for post in posts]), normals=np.concatenate([post.normals for post in posts])
    )
    across = [grasp for grasp in candidates(both, NOTHING, Taste(), want=200) if abs(grasp.rot[1, 0]) > 0.99]
    assert across
    assert min(grasp.width for grasp in across) == pytest.approx(0.04, abs=0.001)


def test_a_grasp_with_room_to_spare_is_worth_more():
    cube = box((0.02, 0.02, 0.02))
    free = best(cube, NOTHING, Taste())
    narrow = np.concatenate([box((0.02, 0.01, 0.02), at=(0.0, s * (OPEN + 0.0285 + 0.01))).points for s in (-1, 1)])
    narrow = np.concatenate([narrow, narrow[:, [1, 0, 2]]])
    squeezed = best(cube, narrow, Taste())
    assert squeezed.score == pytest.approx(free.score - TIGHT, abs=0.05)


def test_different_grasps_differ():
    found = candidates(box((0.02, 0.02, 0.03)), NOTHING, Taste(), want=8, different=True)
    assert len(found) >= 2
    assert abs(found[0].rot[:, 0] @ found[1].rot[:, 0]) < 0.9 or np.linalg.norm(found[0].pos - found[1].pos) > 0.03
