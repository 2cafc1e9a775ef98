from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from handeye.conventions.image import Method, Orientation, convert, fit, normalise, resize, to_levels, to_unit

UPRIGHT = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("there", Orientation)
@pytest.mark.parametrize("here", Orientation)
def test_round_trip(here: Orientation, there: Orientation) -> None:
    stored = convert(UPRIGHT, source=Orientation.UPRIGHT, target=here)
    back = convert(convert(stored, source=here, target=there), source=there, target=here)
    np.testing.assert_array_equal(back, stored)


def test_what_published_policies_see_is_mirrored() -> None:
    """The raw image turned by 180 degrees is not upright: left and right are swapped."""
    raw = convert(UPRIGHT, source=Orientation.UPRIGHT, target=Orientation.OPENGL)
    np.testing.assert_array_equal(raw, UPRIGHT[:, ::-1])
    published = convert(raw, source=Orientation.OPENGL, target=Orientation.TURNED_180)
    np.testing.assert_array_equal(published, raw[:, ::-1, ::-1])
    np.testing.assert_array_equal(published, UPRIGHT[:, :, ::-1])


def test_area_is_the_mean_of_the_pixels() -> None:
    small = resize(UPRIGHT, height=2, width=3, method="area")
    means = UPRIGHT.reshape(2, 2, 2, 3, 2, 3).mean(axis=(2, 4))
    assert small.shape == (2, 2, 3, 3) and small.dtype == np.uint8
    assert np.abs(small - means).max() <= 1  # Pillow rounds after each of its two passes


@pytest.mark.parametrize("method", get_args(Method))
def test_frames_are_resized_on_their_own(method) -> None:
    both = resize(UPRIGHT, height=3, width=5, method=method)
    for frame, alone in zip(UPRIGHT, both, strict=True):
        np.testing.assert_array_equal(resize(frame, height=3, width=5, method=method), alone)
    flat = np.full((8, 8, 3), 77, np.uint8)
    np.testing.assert_array_equal(resize(flat, height=5, width=3, method=method), np.full((5, 3, 3), 77))


def test_a_view_with_reversed_rows_is_resized_as_it_looks() -> None:
    np.testing.assert_array_equal(
        resize(UPRIGHT[:, ::-1], height=2, width=3, method="area"),
        resize(UPRIGHT, height=2, width=3, method="area")[:, ::-1],
    )


HALF = (0.5, 0.5, 0.5)


def test_normalise() -> None:
    halves = normalise(UPRIGHT, means=(HALF,), stds=(HALF,))
    assert halves.dtype == np.float32
    np.testing.assert_allclose(halves, UPRIGHT / 127.5 - 1, atol=1e-6)
    two = normalise(UPRIGHT, means=((0.1, 0.2, 0.3), HALF), stds=((0.4, 0.5, 0.6), HALF))
    np.testing.assert_allclose(two[..., :3], (UPRIGHT / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6], atol=1e-6)
    np.testing.assert_array_equal(two[..., 3:], halves)


def test_floats_are_normalised_like_levels() -> None:
    floats = UPRIGHT.astype(np.float32) / np.float32(255)
    rows = {"means": ((0.1, 0.2, 0.3), HALF), "stds": ((0.4, 0.5, 0.6), HALF)}
    np.testing.assert_array_equal(normalise(floats, **rows), normalise(UPRIGHT, **rows))


def test_levels_come_back() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 256, 1).repeat(3, -1)
    np.testing.assert_array_equal(to_levels(to_unit(every)), every)
    beyond = np.array([[[-0.1, 1.1, 1.0]]], np.float32)
    assert to_levels(beyond).tolist() == [[[0, 255, 255]]]
    assert to_unit(beyond) is beyond


@pytest.mark.parametrize("method", ["bilinear", "jax_bilinear", "torch_bilinear", "tensorflow_lanczos3"])
def test_fit_keeps_the_aspect_ratio(method) -> None:
    """4 x 6 into 9 x 7: 4 x 7 in the middle, the odd remainder below."""
    out = fit(np.full((2, 4, 6, 3), 200, np.uint8), height=9, width=7, method=method)
    assert out.shape == (2, 9, 7, 3)
    assert (out[:, 2:6] == 200).all()
    assert (out[:, :2] == 0).all() and (out[:, 6:] == 0).all()


def test_fit_of_floats_is_black_at_minus_one() -> None:
    out = fit(np.full((4, 6, 3), 0.5, np.float32), height=6, width=6, method="jax_bilinear")
    assert out.dtype == np.float32 and (out[0] == -1).all()
    np.testing.assert_allclose(out[1:5], 0.5, atol=1e-6)
    with pytest.raises(ValueError, match="take uint8"):
        fit(np.zeros((4, 6, 3), np.float32), height=6, width=6, method="bilinear")


def test_an_image_of_the_right_size_is_left_alone() -> None:
    assert fit(UPRIGHT, height=4, width=6, method="bilinear") is UPRIGHT
    assert resize(UPRIGHT, height=4, width=6, method="tensorflow_lanczos3") is UPRIGHT
