"""Pixels: every stage of OpenVLA's path against TensorFlow, openpi's resizing against Pillow, JAX and PyTorch."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handeye.conventions import image
from handeye.conventions.resample import crop_and_resize, resample
from handeye.data import pictures
from handeye.data.pipeline import colours, steps
from handeye.data.pipeline.published import FUSED

pytestmark = pytest.mark.goldens


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def images(goldens: Path) -> dict[str, np.ndarray]:
    return load(goldens / "openvla" / "images.npz")


@pytest.fixture(scope="module")
def transforms(goldens: Path) -> dict[str, np.ndarray]:
    return load(goldens / "pi05" / "transforms.npz")


def one(step: steps.Encode, pixels: np.ndarray) -> np.ndarray:
    return step({"image.agentview": pixels})["image.agentview"]


def test_jpeg_there_and_back(images: dict[str, np.ndarray], record_property) -> None:
    np.testing.assert_array_equal(one(steps.CompressImages(), images["input"]), images["jpeg"])
    stored = {
        name.removeprefix("jpeg_bytes_"): value for name, value in images.items() if name.startswith("jpeg_bytes_")
    }
    for name, data in stored.items():
        index = list(images["names"]).index(name)
        assert pictures.encode_jpeg(images["input"][index]) == data.tobytes()
    record_property("values of JPEG round trips equal to TensorFlow's", images["jpeg"].size)


def test_lanczos(images: dict[str, np.ndarray], record_property) -> None:
    height, width = images["resized"].shape[1:3]
    step = steps.ResizeImages(height, width, "tensorflow_lanczos3")
    np.testing.assert_array_equal(one(step, images["jpeg"]), images["resized"])
    record_property("values of Lanczos resizes equal to TensorFlow's", images["resized"].size)


def test_centre_crop(images: dict[str, np.ndarray], record_property) -> None:
    np.testing.assert_array_equal(one(steps.CropImages(0.9), images["resized"]), images["cropped"])
    record_property("values of centre crops equal to TensorFlow's", images["cropped"].size)


def test_the_whole_way_of_a_live_image(images: dict[str, np.ndarray]) -> None:
    pixels = images["input"]
    for step in (
        steps.CompressImages(),
        steps.ResizeImages(224, 224, "tensorflow_lanczos3"),
        steps.CropImages(0.9),
    ):
        pixels = one(step, pixels)
    np.testing.assert_array_equal(pixels, images["cropped"])


def test_augmentation_with_the_drawn_values(images: dict[str, np.ndarray], record_property) -> None:
    """After each operation every 14th pixel, and the whole result."""
    for index, source in enumerate(images["augment_source"]):
        drawn = {
            name.removeprefix("augment_"): float(values[index])
            for name, values in images.items()
            if name.startswith("augment_") and values.shape == images["augment_source"].shape
        }
        box = {"top": drawn["crop_offset_y"], "left": drawn["crop_offset_x"]}
        box |= {"tall": drawn["crop_scale"], "wide": drawn["crop_scale"]}
        height, width = images["resized"].shape[1:3]
        pixels = image.to_unit(images["resized"][source])
        for name, exact, change in (
            ("resized_crop", True, partial(crop_and_resize, **box, height=height, width=width)),
            ("brightness", True, partial(colours.brightness, delta=drawn["brightness_delta"])),
            ("contrast", True, partial(colours.contrast, factor=drawn["contrast_factor"])),
            ("saturation", False, partial(colours.saturation, factor=drawn["saturation_factor"])),
            ("hue", False, partial(colours.hue, delta=drawn["hue_delta"])),
        ):
            pixels = np.clip(change(pixels), 0, 1)
            seen = images[f"augment_after_{name}_s14"][index]
            np.testing.assert_allclose(pixels[::14, ::14], seen, atol=0 if exact else 1e-6, rtol=0, err_msg=name)
        np.testing.assert_array_equal(image.to_levels(pixels), images["augment_output"][index])
    record_property("values of OpenVLA's augmented images equal to TensorFlow's", images["augment_output"].size)


def test_fused_channels(goldens: Path, record_property) -> None:
    """DINOv2's three, then SigLIP's; an image of another size goes through Pillow's bicubic filter."""
    found = load(goldens / "openvla" / "openvla_tiny.npz")
    odd = one(steps.ResizeImages(224, 224, "bicubic"), found["odd_image"])
    pairs = [(one(FUSED, found["images"]), found["pixel_values_s8"], found["pixel_values_sum"])]
    pairs.append((one(FUSED, odd)[None], found["odd_pixel_values_s8"][None], found["odd_pixel_values_sum"][None]))
    for ours, theirs, sums in pairs:
        planes = np.moveaxis(ours, -1, -3)
        np.testing.assert_allclose(planes[..., ::8, ::8], theirs, atol=2e-6, rtol=0)
        np.testing.assert_allclose(planes.sum((-2, -1), dtype=np.float64), sums, rtol=1e-4, atol=0.05)
        record_property("values of normalised images", theirs.size)


def test_resize_with_padding(goldens: Path, transforms: dict[str, np.ndarray], record_property) -> None:
    cases = json.loads((goldens / "pi05" / "transforms.json").read_text())["resize"]
    assert cases
    for case in cases:
        name, (height, width) = case["name"], case["out"]
        pixels = transforms[f"{name}/in_u8"]
        assert list(pixels.shape[:2]) == case["in"]
        for who, method, key in (("Pillow", "bilinear", "client_pil"), ("JAX", "jax_bilinear", "jax")):
            ours = one(steps.FitImages(height, width, method), pixels).astype(int)
            apart = np.abs(ours - transforms[f"{name}/{key}_u8"])
            # JAX sums in another order before it rounds; from Pillow 12 on its passes over tall images do.
            assert apart.max() <= 1 and (apart != 0).mean() < 0.02, name
            record_property(f"values of padded resizes equal to {who}'s", int((apart == 0).sum()))
            record_property(f"values of padded resizes one level from {who}'s", int(apart.sum()))
        if case["float_recorded"]:
            scaled = one(steps.NormalizeImages(((0.5,) * 3,), ((0.5,) * 3,)), pixels)
            for method in ("jax", "torch"):
                ours = image.fit(scaled, height=height, width=width, method=f"{method}_bilinear")
                np.testing.assert_allclose(ours, transforms[f"{name}/{method}_f32"], atol=1e-5, rtol=0)
                record_property(f"values of padded resizes within 1e-5 of {method}'s", ours.size)
    batch = transforms["resize_batch/in_u8"]
    height, width = transforms["resize_batch/client_pil_u8"].shape[-3:-1]
    ours = one(steps.FitImages(height, width, "bilinear"), batch)
    np.testing.assert_array_equal(ours, transforms["resize_batch/client_pil_u8"])
    record_property("values of padded resizes equal to Pillow's", ours.size)


def test_paligemma_images(goldens: Path, record_property) -> None:
    """TensorFlow's antialiased bilinear resize without regard to the aspect ratio, which XVR's reference uses."""
    folder = goldens / "pi05" / "xvr"
    found = load(folder / "xvr.npz")
    compared = 0
    for case in json.loads((folder / "xvr.json").read_text())["image_cases"]:
        with Image.open(folder / case["file"]) as opened:
            pixels = np.array(opened)
        pixels = pixels[..., None].repeat(3, -1) if pixels.ndim == 2 else pixels[..., :3]
        for name in (key for key in found if key.startswith(f"single/{case['name']}/")):
            side = int(name.rpartition("/")[2])
            ours = resample(pixels, height=side, width=side, kernel="triangle", antialias=True) / np.float32(127.5) - 1
            np.testing.assert_allclose(ours, found[name], atol=2e-5, rtol=0)
            compared += ours.size
    assert compared
    record_property("values of PaliGemma's images", compared)
