from __future__ import annotations

import numpy as np
import pytest

from handeye.conventions.image import Orientation
from handeye.data.pipeline.images import (
    CompressImages,
    CropImages,
    FitImages,
    MarkCameras,
    NormalizeImages,
    ResizeImages,
    SelectCameras,
    TurnImages,
)
from handeye.errors import UserError

HALF = (0.5, 0.5, 0.5)


def test_cameras_are_chosen_and_ordered(item: dict) -> None:
    assert [n for n in SelectCameras(("wrist",))(item) if n.startswith("image.")] == ["image.wrist"]
    with pytest.raises(UserError, match="through the camera 'front', which is not there"):
        SelectCameras(("agentview", "front"))(item)


def test_turned_images_are_mirrored(item: dict) -> None:
    turned = TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180)(item)["image.wrist"]
    np.testing.assert_array_equal(turned, item["image.wrist"][:, :, ::-1])


def test_sizes(item: dict) -> None:
    assert ResizeImages(5, 4, "area")(item)["image.agentview"].shape == (3, 5, 4, 3)
    assert FitImages(10, 10, "bilinear")(item)["image.agentview"].shape == (3, 10, 10, 3)


def test_compression_loses_detail_and_depends_on_the_orientation() -> None:
    """So it is done in the orientation in which the images were stored."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    once = CompressImages()({"image.a": pixels})["image.a"]
    assert 1 < np.abs(once.astype(int) - pixels).mean() < 60
    mirrored = CompressImages()({"image.a": pixels[:, ::-1]})["image.a"][:, ::-1]
    assert (mirrored != once).any()


def test_a_crop_is_the_middle_enlarged() -> None:
    ramp = np.broadcast_to(np.arange(0, 250, 10, dtype=np.uint8)[None, :, None], (25, 25, 3))
    cropped = CropImages(0.64)({"image.a": ramp})["image.a"].astype(int)
    np.testing.assert_allclose(cropped[12, [0, 12, 24], 0], [24, 120, 216], atol=1)  # a fifth of the width is lost
    for area in (0.0, 1.5, float("nan")):
        with pytest.raises(UserError, match="is not possible"):
            CropImages(area)
    for side in (0, -3, 10**9):
        with pytest.raises(UserError, match=f"A height of {side} is not possible"):
            ResizeImages(side, 4, "area")


def test_one_tower_or_two(item: dict) -> None:
    one = NormalizeImages((HALF,), (HALF,))(item)["image.wrist"]
    two = NormalizeImages(((0.485, 0.456, 0.406), HALF), ((0.229, 0.224, 0.225), HALF))(item)["image.wrist"]
    assert (one.shape, two.shape, two.dtype) == ((3, 8, 6, 3), (3, 8, 6, 6), np.float32)
    np.testing.assert_array_equal(two[..., 3:], one)
    for means, stds in (((HALF,), ()), ((), ()), ((HALF,), ((0.5, 0.0, 0.5),))):
        with pytest.raises(UserError, match="cannot be normalised"):
            NormalizeImages(means, stds)


def test_absent_cameras_are_black_and_masked(item: dict) -> None:
    marked = MarkCameras(("right_wrist",))(item)
    assert [n for n in marked if n.startswith("image.")] == ["image.agentview", "image.wrist", "image.right_wrist"]
    assert not marked["image.right_wrist"].any()
    assert marked["image_mask.right_wrist"].tolist() == [False] * 3
    assert marked["image_mask.wrist"].tolist() == [True] * 3
    alone = MarkCameras(())({"image.a": np.zeros((2, 2, 3), np.uint8)})
    assert alone["image_mask.a"].shape == ()
    with pytest.raises(UserError, match="is there, and declared absent"):
        MarkCameras(("wrist",))(item)
    with pytest.raises(UserError, match="no camera"):
        MarkCameras(("wrist",))({"proprio": np.zeros(8)})
