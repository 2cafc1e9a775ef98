from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from PIL import Image

from handeye.conventions import pillow

needs_c = pytest.mark.skipif(pillow.library() is None, reason="installed without a C compiler")


def by_pillow(pictures: np.ndarray, height: int, width: int, method: pillow.Filter) -> np.ndarray:
    return np.stack([
        np.asarray(Image.fromarray(np.ascontiguousarray(one)).resize((width, height), Image.Resampling[method]))
        for one in pictures
    ])  # fmt: skip


SIZES = [(256, 256, 224, 224), (128, 128, 224, 224), (256, 256, 96, 96), (1, 1, 5, 4), (7, 64, 7, 17), (64, 7, 17, 7)]
SIZES += [(40, 3, 9, 3), (65, 50, 51, 48), (2, 90, 80, 1), (33, 47, 66, 94)]  # the first two of these: columns first


@pytest.mark.parametrize("method", pillow.KERNELS)
def test_pillows_bits(method: pillow.Filter) -> None:
    rng = np.random.default_rng(0)
    sizes = SIZES + [tuple(rng.integers(1, 70, 4).tolist()) for _ in range(40)]
    for (h, w, height, width), hard in product(sizes, (False, True)):
        pictures = rng.integers(0, 256, (2, h, w, 3), dtype=np.uint8)
        if hard:  # overshoots, which must be cut off
            pictures = np.where(pictures > 127, 255, 0).astype(np.uint8)
        for seen in (
            pictures,
            pictures[:, ::-1],
            pictures[:, :, ::-1],
            pictures[:, ::-1, ::-1],
            pictures[:, :, :, ::-1],
        ):
            found = pillow.resize(seen, height, width, method)
            np.testing.assert_array_equal(found, by_pillow(seen, height, width, method), err_msg=f"{seen.shape}")


def test_leading_axes_are_free() -> None:
    pictures = np.random.default_rng(1).integers(0, 256, (2, 3, 20, 30, 3), dtype=np.uint8)
    found = pillow.resize(pictures, 8, 9, "LANCZOS")
    assert found.shape == (2, 3, 8, 9, 3)
    np.testing.assert_array_equal(found[1, 2], pillow.resize(pictures[1, 2], 8, 9, "LANCZOS"))
    assert pillow.resize(pictures[:0], 8, 9, "BOX").shape == (0, 3, 8, 9, 3)
    strided = pictures.swapaxes(0, 1)[:, :, ::2, ::2]
    np.testing.assert_array_equal(
        pillow.resize(strided, 8, 9, "BOX"), pillow.resize(np.ascontiguousarray(strided), 8, 9, "BOX")
    )


def test_without_a_compiler_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(2).integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    before = pillow.resize(pictures, 8, 9, "BICUBIC")
    monkeypatch.setattr(pillow, "library", lambda: None)
    np.testing.assert_array_equal(pillow.resize(pictures, 8, 9, "BICUBIC"), before)


@needs_c
def test_it_is_worth_it() -> None:
    """Twice as fast at least; it was three to four times as fast when it was written."""
    picture = np.random.default_rng(3).integers(0, 256, (1, 256, 256, 3), dtype=np.uint8)
    times: dict[str, list[float]] = {"c": [], "pillow": []}
    for _ in range(30):
        for name, how in (("c", pillow.resize), ("pillow", by_pillow)):
            began = time.process_time()
            how(picture, 224, 224, "BICUBIC")
            times[name].append(time.process_time() - began)
    assert 2 * min(times["c"]) < min(times["pillow"])
