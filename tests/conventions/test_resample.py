from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from handeye.conventions import resample as module
from handeye.conventions.resample import crop_and_resize, resample

RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(-1, 1, (13, 17, 3)).astype(np.float32)


@pytest.mark.parametrize("size", [(7, 5), (13, 17), (26, 40)])
def test_plain_bilinear_is_torchs(size: tuple[int, int]) -> None:
    ours = resample(IMAGE, height=size[0], width=size[1], kernel="triangle", antialias=False)
    planes = torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    theirs = functional.interpolate(planes, size, mode="bilinear", align_corners=False)[0].permute(1, 2, 0)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize("size", [(7, 5), (12, 16)])
def test_antialiased_bilinear_is_torchs(size: tuple[int, int]) -> None:
    ours = resample(IMAGE, height=size[0], width=size[1], kernel="triangle", antialias=True)
    planes = torch.from_numpy(IMAGE).permute(2, 0, 1)[None]
    theirs = functional.interpolate(planes, size, mode="bilinear", align_corners=False, antialias=True)
    np.testing.assert_allclose(ours, theirs[0].permute(1, 2, 0).numpy(), atol=1e-5)


@pytest.mark.parametrize("kernel", ["lanczos3", "triangle"])
def test_flat_stays_flat(kernel) -> None:
    flat = resample(np.full((2, 9, 8, 3), 100, np.uint8), height=5, width=11, kernel=kernel, antialias=True)
    assert flat.shape == (2, 5, 11, 3)
    np.testing.assert_allclose(flat, 100, rtol=1e-6)


def test_lanczos_overshoots_at_edges() -> None:
    edge = np.zeros((16, 16, 1), np.float32)
    edge[:, 8:] = 1
    out = resample(edge, height=24, width=24, kernel="lanczos3", antialias=True)
    assert out.min() < -0.02 and out.max() > 1.02


def test_without_the_c_library_the_sine_differs_in_the_last_bit_only(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = resample(IMAGE, height=9, width=9, kernel="lanczos3", antialias=True)
    monkeypatch.setattr(module, "_C_SIN", None)
    module._spans.cache_clear()
    np.testing.assert_allclose(resample(IMAGE, height=9, width=9, kernel="lanczos3", antialias=True), usual, atol=1e-6)
    module._spans.cache_clear()


def test_the_whole_image_as_a_box_is_itself() -> None:
    whole = crop_and_resize(IMAGE, top=0.0, left=0.0, tall=1.0, wide=1.0, height=13, width=17)
    np.testing.assert_allclose(whole, IMAGE, atol=1e-6)


def test_a_box_has_corners_on_corners() -> None:
    """Rows 3 to 9 of 13 are the box from 3/12 to 9/12."""
    part = crop_and_resize(IMAGE, top=3 / 12, left=0.0, tall=6 / 12, wide=1.0, height=7, width=17)
    np.testing.assert_allclose(part, IMAGE[3:10], atol=1e-5)


def test_outside_the_image_is_black() -> None:
    beyond = crop_and_resize(np.ones((4, 4, 3), np.float32), top=0.5, left=0.0, tall=1.0, wide=1.0, height=7, width=4)
    np.testing.assert_allclose(beyond[:4], 1, atol=1e-6)
    assert (beyond[4:] == 0).all()
