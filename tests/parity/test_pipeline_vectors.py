"""Vectors: normalisation there and back, grippers, relative actions, padding, action tokens, statistics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import action_tokens, gripper, libero, prompt, rotation
from handeye.conventions.normalize import Normalizer
from handeye.data.pipeline import steps
from handeye.data.pipeline.published import _openvla_actions, openpi_normalizer
from handeye.data.running_statistics import RunningStatistics
from handeye.data.statistics import Statistics, VectorStatistics, from_norm_stats
from handeye.errors import UserError
from handeye.policy.formats import read_openpi_question

pytestmark = pytest.mark.goldens
SPECS = libero.specs(camera_size=256)


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def tokenizer(goldens: Path) -> dict[str, np.ndarray]:
    return load(goldens / "openvla" / "tokenizer.npz")


@pytest.fixture(scope="module")
def transforms(goldens: Path) -> dict[str, np.ndarray]:
    return load(goldens / "pi05" / "transforms.npz")


@pytest.fixture(scope="module")
def published(goldens: Path) -> dict[str, Statistics]:
    text = (goldens / "openvla" / "openvla_tiny" / "dataset_statistics.json").read_text()
    return {name: Statistics.from_json(value) for name, value in json.loads(text).items()}


def vector(arrays: dict[str, np.ndarray], prefix: str) -> VectorStatistics:
    rows = {name: arrays.get(f"{prefix}{name}") for name in ("mean", "std", "min", "max", "q01", "q99", "mask")}
    rows["mean"] = rows["q01"] if rows["mean"] is None else rows["mean"]  # not stored where it is not used
    rows["std"] = rows["mean"] * 0 if rows["std"] is None else rows["std"]
    return VectorStatistics(**{name: tuple(row.tolist()) for name, row in rows.items() if row is not None})


# ---- OpenVLA ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["action", "proprio"])
def test_training_normalisation(tokenizer: dict[str, np.ndarray], part: str, record_property) -> None:
    normalizer = vector(tokenizer, f"norm_{part}_").normalizer("quantiles")
    ours = normalizer.forward(tokenizer[f"norm_{part}_in"])
    np.testing.assert_allclose(ours, tokenizer[f"norm_{part}_out"], atol=1e-5, rtol=0)
    record_property("normalised values (OpenVLA)", ours.size)


def test_actions_and_proprio_of_published_statistics(
    tokenizer: dict[str, np.ndarray], published: dict[str, Statistics], record_property
) -> None:
    assert published
    for name, statistics in published.items():
        # Statistics without a mask scale every dimension in the reference; LIBERO's own have one.
        every = replace(statistics.action, mask=statistics.action.mask or (True,) * 7)
        for family, epsilon in (("openvla", 0.0), ("oft", 1e-8)):
            normalizer = _openvla_actions(SPECS, replace(statistics, action=every), epsilon=epsilon)
            ours = steps.UnnormalizeActions(normalizer)(tokenizer[f"unnorm_{name}_in"], None)
            np.testing.assert_allclose(ours, tokenizer[f"unnorm_{name}_{family}"], atol=1e-12, rtol=0)
            record_property("un-normalised actions (OpenVLA, OFT)", ours.size)
        proprio = statistics.proprio.normalizer("quantiles")
        ours = steps.NormalizeProprio(proprio)({"proprio": tokenizer[f"proprio_{name}_in"]})["proprio"]
        np.testing.assert_allclose(ours, tokenizer[f"proprio_{name}_out"], atol=1e-12, rtol=0)
        record_property("normalised values (OpenVLA)", ours.size)


def test_openvlas_gripper(tokenizer: dict[str, np.ndarray], record_property) -> None:
    step = steps.OpenVlaGripper(6, binarize=True)
    ours = step.target(tokenizer["gripper_train_in"], None)
    np.testing.assert_array_equal(ours, tokenizer["gripper_train_out"])
    decided = step(tokenizer["gripper_eval_in"], None)
    np.testing.assert_array_equal(decided, tokenizer["gripper_eval_out"])
    kept = steps.OpenVlaGripper(6, binarize=False)(tokenizer["gripper_eval_in"], None)
    signed = gripper.convert(kept[:, 6], source=gripper.Gripper.PM1_CLOSE, target=gripper.Gripper.PM1_OPEN)
    np.testing.assert_allclose(signed, tokenizer["gripper_eval_not_binarized"][:, 6], atol=1e-12)
    record_property("gripper commands", 3 * len(ours))


def test_liberos_state(tokenizer: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(tokenizer["state_in"][:, :6], tokenizer["state_eef_out"])
    np.testing.assert_array_equal(tokenizer["state_in"][:, 6:], tokenizer["state_gripper_out"])


def test_action_tokens(tokenizer: dict[str, np.ndarray], record_property) -> None:
    for kind in ("f64", "f32"):
        ids = action_tokens.encode(tokenizer[f"encode_in_{kind}"])
        np.testing.assert_array_equal(ids, tokenizer[f"encode_ids_{kind}"])
        record_property("actions to tokens", ids.size)
    values = action_tokens.decode(tokenizer["decode_ids"])
    np.testing.assert_allclose(values, tokenizer["decode_values"], atol=1e-15)
    assert action_tokens.is_action(tokenizer["action_token_begin_idx"] + np.arange(2)).tolist() == [False, True]
    record_property("tokens to actions", values.size)


def test_axis_angles(tokenizer: dict[str, np.ndarray], transforms: dict[str, np.ndarray], record_property) -> None:
    pairs = [(tokenizer["quat_xyzw"], tokenizer["axis_angle"])]
    pairs.append((transforms["quat/in_xyzw"], transforms["quat/axis_angle"]))
    for quaternion, theirs in pairs:
        np.testing.assert_allclose(rotation.axis_angle_robosuite(quaternion), theirs, atol=1e-12, rtol=0)
        record_property("axis-angle vectors", len(theirs))


# ---- openpi ----------------------------------------------------------------------------------------------------------

KINDS = {"z": "mean_std", "quantile": "quantiles"}


def test_openpis_normalisation(transforms: dict[str, np.ndarray], record_property) -> None:
    """Constant dimensions, and vectors that are narrower than the statistics."""
    stats = {name: vector(transforms, f"norm/stats/{name}/") for name in ("state", "actions")}
    cases = [name.removesuffix("/in") for name in transforms if name.startswith("norm/") and name.endswith("/in")]
    assert len(cases) >= 4
    for case in cases:
        values = transforms[f"{case}/in"]
        for short, kind in KINDS.items():
            normalizer = openpi_normalizer(stats[case.split("/")[1]], kind).first(values.shape[-1])
            np.testing.assert_allclose(normalizer.forward(values), transforms[f"{case}/{short}"], rtol=1e-6, atol=1e-9)
            record_property("normalised values (openpi)", values.size)


def widened(normalizer: Normalizer, width: int) -> Normalizer:
    """openpi's rule for what the statistics do not cover: a deviation of 1, or left alone."""
    more = width - normalizer.width
    used = normalizer.kind == "mean_std"
    return replace(
        normalizer,
        low=normalizer.low + (0.0,) * more,
        high=normalizer.high + (1.0,) * more,
        constant=normalizer.constant + (False,) * more,
        mask=normalizer.mask + (used,) * more,
    )


def test_openpis_way_back(transforms: dict[str, np.ndarray], record_property) -> None:
    stats = {name: vector(transforms, f"norm/stats/{name}/") for name in ("state", "actions")}
    for form in ("exact", "padded"):
        for part in ("state", "actions"):
            values = transforms[f"unnorm/{form}/{part}_in"]
            for short, kind in KINDS.items():
                normalizer = openpi_normalizer(stats[part], kind)
                ours = widened(normalizer, values.shape[-1]).inverse(values)
                np.testing.assert_allclose(ours, transforms[f"unnorm/{form}/{short}/{part}"], rtol=1e-6, atol=1e-12)
                record_property("un-normalised values (openpi)", ours.size)
                if part == "actions" and form == "padded":  # as our pipeline does it: trimmed first
                    trimmed = normalizer.inverse(steps.TrimActions(7, 32)(values, None))
                    np.testing.assert_array_equal(trimmed, ours[:, :7])


def test_openpis_libero_inputs(transforms: dict[str, np.ndarray], goldens: Path, record_property) -> None:
    """Float images with channels first are read as bytes, cut and not rounded; the third camera is black and masked."""
    asked = {
        "observation/image": transforms["libero/in/observation/image"],
        "observation/wrist_image": transforms["libero/in/observation/wrist_image_float_chw"],
        "observation/state": transforms["libero/in/observation/state"],
        "prompt": "do it",
    }
    height, width = asked["observation/image"].shape[:2]
    specs = replace(SPECS, image=replace(SPECS.image, height=height, width=width))
    seen = read_openpi_question(asked, specs, seed=0)
    item = {f"image.{name}": value[:, ::-1] for name, value in seen.images.items()}  # turned, as the model sees them
    item = steps.MarkCameras(("right_wrist",))(item)
    masks = json.loads((goldens / "pi05" / "transforms.json").read_text())["libero_mask_pi05"]
    names = {"agentview": "base_0_rgb", "wrist": "left_wrist_0_rgb", "right_wrist": "right_wrist_0_rgb"}
    for ours, theirs in names.items():
        np.testing.assert_array_equal(item[f"image.{ours}"], transforms[f"libero/inputs/image/{theirs}"])
        assert bool(item[f"image_mask.{ours}"]) == masks[theirs]
        record_property("values of openpi's LIBERO images", item[f"image.{ours}"].size)
    np.testing.assert_allclose(seen.proprio, transforms["libero/inputs/state"], rtol=1e-6)
    side = transforms["libero/all256/in"].shape[1]
    asked |= {"observation/wrist_image": transforms["libero/all256/in"]}
    square = replace(SPECS, image=replace(SPECS.image, cameras=("wrist",), height=side, width=side))
    ours = read_openpi_question(asked, square, seed=0).images["wrist"][:, ::-1]
    np.testing.assert_array_equal(ours, transforms["libero/all256/out"])
    record_property("values of openpi's LIBERO images", ours.size)


def test_openpis_libero_outputs_padding_and_relative_actions(
    transforms: dict[str, np.ndarray], record_property
) -> None:
    trim = steps.TrimActions(7, 32)
    for form in ("out", "out_batched"):
        ours = trim(transforms[f"libero/{form}/in"], None)
        np.testing.assert_array_equal(ours, transforms[f"libero/{form}/actions"])
        record_property("trimmed, padded and relative actions", ours.size)
    state, actions = transforms["delta/state"], transforms["delta/actions_in"]
    relative = steps.AddState((True,) * 6 + (False,))
    np.testing.assert_array_equal(relative.target(actions, state), transforms["delta/actions_out"])
    np.testing.assert_array_equal(relative(transforms["delta/actions_out"], state), transforms["delta/absolute_again"])
    np.testing.assert_array_equal(trim.target(actions, None), transforms["pad/actions"])
    np.testing.assert_array_equal(steps.PadProprio(32)({"proprio": state})["proprio"], transforms["pad/state"])
    record_property("trimmed, padded and relative actions", 2 * actions.size + 32 * len(actions) + 32)


def test_state_bins(transforms: dict[str, np.ndarray], record_property) -> None:
    for given, theirs in (("in", "out"), ("in_f32", "out_f32")):
        ours = prompt.state_bins(transforms[f"digitize/{given}"])
        np.testing.assert_array_equal(ours, transforms[f"digitize/{theirs}"])
        record_property("bins of the state", ours.size)


# ---- statistics ------------------------------------------------------------------------------------------------------


def test_running_statistics(goldens: Path, record_property) -> None:
    found = load(goldens / "pi05" / "norm_stats" / "running_stats.npz")
    streams = sorted({name.split("/")[0] for name in found if "/batch" in name})
    assert streams
    for stream in streams:
        running, batches = RunningStatistics(), [n for n in found if n.startswith(f"{stream}/batch")]
        for number, name in enumerate(batches):
            running.update(found[name])
            ours = running.result()
            for row in ("mean", "std", "q01", "q99"):
                theirs = found[f"{stream}/after{number}/{row}"]
                np.testing.assert_allclose(getattr(ours, row), theirs, rtol=1e-9, atol=1e-12, err_msg=f"{name} {row}")
                record_property("running statistics (openpi)", theirs.size)


def test_norm_stats_file(goldens: Path) -> None:
    """Every file of that name in the reference data."""
    paths = sorted((goldens / "pi05").rglob("norm_stats.json"))
    assert paths
    for path in paths:
        value = json.loads(path.read_text())
        found = from_norm_stats(value, what=str(path))
        for ours, theirs in ((found.action, "actions"), (found.proprio, "state")):
            for row, numbers in value["norm_stats"][theirs].items():
                assert getattr(ours, row) == (None if numbers is None else tuple(numbers)), f"{path}: {theirs} {row}"
        bare = {name: {k: v for k, v in rows.items() if k[0] != "q"} for name, rows in value["norm_stats"].items()}
        with pytest.raises(UserError, match="no q01 and q99"):  # openpi: "quantile stats must be provided"
            openpi_normalizer(from_norm_stats({"norm_stats": bare}).action, "quantiles")
