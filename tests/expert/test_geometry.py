"""Points on shapes, and what they say about heights."""

import mujoco
import numpy as np
import pytest

from handeye.expert.geometry import BURIED, CELL, HeightMap, depth, sample, thin, underside

SHAPES = {
    "box": ('type="box" size=".02 .03 .04"', (0.02, 0.03, 0.04)),
    "cylinder": ('type="cylinder" size=".02 .05"', (0.02, 0.02, 0.05)),
    "capsule": ('type="capsule" size=".02 .05"', (0.02, 0.02, 0.07)),
    "sphere": ('type="sphere" size=".03"', (0.03, 0.03, 0.03)),
    "ellipsoid": ('type="ellipsoid" size=".02 .03 .04"', (0.02, 0.03, 0.04)),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_points_span_the_shape_and_normals_point_outwards(kind):
    attributes, half = SHAPES[kind]
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody><geom {attributes}/></worldbody></mujoco>")
    points, normals = sample(model, 0)
    # Circles are sampled at angles that need not include the axes.
    np.testing.assert_allclose(points.max(0), half, atol=0.002)
    np.testing.assert_allclose(points.min(0), np.negative(half), atol=0.002)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-9)
    assert np.all(np.einsum("ni,ni->n", points, normals) > 0)


def test_a_body_comes_to_rest_on_the_highest_point_below_it():
    step = np.array([[x, y, 0.1] for x in np.arange(0, 0.1, 0.005) for y in np.arange(0, 0.1, 0.005)])
    ground = HeightMap(step, floor=0.0)
    cube = np.array([[x, y, z] for x in (-0.02, 0, 0.02) for y in (-0.02, 0, 0.02) for z in (-0.02, 0.02)])
    for place, height in (((0.05, 0.05), 0.12), ((0.3, 0.3), 0.02), ((-0.015, 0.05), 0.12)):
        np.testing.assert_allclose(ground.rest(cube, np.array(place)), [[height]])


def test_a_body_is_lowered_at_many_places_at_once():
    rng = np.random.default_rng(0)
    ground = HeightMap(rng.uniform(0, 0.1, (500, 3)), floor=0.0)
    body = rng.uniform(-0.05, 0.05, (40, 3))
    centre = np.array([0.031, 0.082])
    many = ground.rest(body, centre, (20, 9))
    assert many.shape == (41, 19)
    for i, j in ((-20, -9), (20, 9), (0, 0), (7, -3)):
        np.testing.assert_allclose(ground.rest(body, centre + CELL * np.array([i, j])), many[20 + i, 9 + j])
        everywhere = ground.at(centre + CELL * np.array([i, j]) + body[:, :2]) - body[:, 2]
        assert many[20 + i, 9 + j] == pytest.approx(everywhere.max())


def test_underside_keeps_what_touches_first():
    column = np.array([[0.001, 0.001, z] for z in (0.3, 0.1, 0.2)])
    np.testing.assert_array_equal(underside(column), [[0.001, 0.001, 0.1]])


def test_thinning_leaves_one_point_per_cell():
    points = np.concatenate([np.full((50, 3), 0.5 * CELL), np.full((1, 3), 3.5 * CELL)])
    assert len(thin(points)) == 2


@pytest.mark.parametrize("kind", SHAPES)
def test_depth_is_none_on_the_surface_and_grows_inwards(kind):
    attributes, half = SHAPES[kind]
    model = mujoco.MjModel.from_xml_string(f"<mujoco><worldbody><geom {attributes}/></worldbody></mujoco>")
    points, normals = sample(model, 0)
    np.testing.assert_allclose(depth(model, 0, points), 0.0, atol=1e-9)
    assert (depth(model, 0, points - 0.002 * normals) > 0.5 * BURIED).mean() > 0.6  # less near edges
    assert np.all(depth(model, 0, points + 0.002 * normals) < 0)
    assert depth(model, 0, np.zeros((1, 3)))[0] == pytest.approx(min(half), rel=1e-6)


def test_depth_in_a_mesh_is_that_below_the_nearest_face():
    corners = " ".join(f"{x} {y} {z}" for x in (-1, 1) for y in (-1, 1) for z in (-1, 1))
    model = mujoco.MjModel.from_xml_string(
        f"<mujoco><asset><mesh name='cube' vertex='{corners}'/></asset>"
        "<worldbody><geom type='mesh' mesh='cube'/></worldbody></mujoco>"
    )
    points = np.array([[0.9, 0.0, 0.0], [0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])
    np.testing.assert_allclose(depth(model, 0, points), [0.1, 1.0, -0.5], atol=1e-6)
