from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from handeye.conventions.image import to_unit
from handeye.data.pipeline import colours
from handeye.data.pipeline.augment_openpi import JitterValue, WarpImages, warp
from handeye.errors import UserError


def test_augmax(record_property) -> None:
    """Recorded outputs of augmax itself, with what it drew: see make_augmax.py."""
    with np.load(Path(__file__).with_name("augmax.npz")) as file:
        found = {name: file[name] for name in file.files}
    assert found["applied"].any() and not found["applied"].all()
    for case, image in enumerate(found["input"]):
        ours, side = to_unit(image), len(image)
        if not found["wrist"][case]:
            small = int(side * 0.95), int(side * 0.95)
            shift = (float(found["shift"][case, 0]), float(found["shift"][case, 1]))
            ours = warp(ours, small=small, shift=shift, angle=float(found["angle"][case]))
        if found["applied"][case]:
            value, slant, turn = map(float, found["amounts"][case])
            ours = colours.jitter(ours, value=value, slant=slant, turn=turn)
        np.testing.assert_allclose(ours, found["output"][case], atol=2e-5, rtol=0, err_msg=str(case))
        record_property("values of openpi's augmented images within 2e-5 of augmax's", ours.size)


def test_a_warp_by_nothing_is_nothing() -> None:
    image = np.random.default_rng(0).random((9, 12, 3), np.float32)
    np.testing.assert_allclose(warp(image, small=(9, 12), shift=(0.0, 0.0), angle=0.0), image, atol=1e-6)


def test_beyond_the_edge_is_black() -> None:
    white = np.ones((20, 20, 3), np.float32)
    moved = warp(white, small=(20, 20), shift=(5.0, 0.0), angle=0.0)
    np.testing.assert_allclose(moved[:15], 1)
    assert not moved[15:].any()
    assert warp(white, small=(20, 20), shift=(0.0, 0.0), angle=np.pi / 4)[0, 0].max() == 0


def test_only_the_named_cameras_are_warped(item: dict) -> None:
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    out = WarpImages(("agentview",), crop=0.8, degrees=5.0)(item, rngs)
    np.testing.assert_array_equal(out["image.wrist"], to_unit(item["image.wrist"]))
    assert np.abs(out["image.agentview"] - to_unit(item["image.agentview"])).max() > 0.1
    with pytest.raises(UserError, match="'front' cannot be varied"):
        WarpImages(("front",), crop=0.8, degrees=5.0)(item, rngs)


def test_half_of_the_images_keep_their_colours() -> None:
    images = np.full((400, 2, 2, 3), 0.4, np.float32)
    rngs = [np.random.default_rng(seed) for seed in range(400)]
    out = JitterValue(0.3, 0.4, 0.1, share=0.5)({"image.a": images}, rngs)["image.a"]
    changed = (out != images).any((1, 2, 3))
    assert 150 < changed.sum() < 250
    assert out.min() >= 0 and out.max() <= 1
