from __future__ import annotations

import numpy as np
import pytest

from handeye.conventions.image import Orientation, convert, normalise, resize

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


@pytest.mark.parametrize("method", ["area", "bilinear", "bicubic", "lanczos"])
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


def test_normalise() -> None:
    halves = normalise(UPRIGHT, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert halves.dtype == np.float32
    np.testing.assert_allclose(halves, UPRIGHT / 127.5 - 1, atol=1e-6)
    channels = normalise(UPRIGHT, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    np.testing.assert_allclose(channels, (UPRIGHT / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6], atol=1e-6)
