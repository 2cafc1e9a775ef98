from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Orientation
from handeye.conventions.libero import ACTION, CAMERAS, IMAGE, PROPRIO, specs
from handeye.conventions.rotation import Rotation
from handeye.conventions.spec import MENDS, ActionSpec, ImageSpec, ProprioSpec, Specs, require_same
from handeye.data.pipeline import steps
from handeye.errors import UserError

OTHER = {
    "width": 8,
    "low": -2.0,
    "high": 2.0,
    "metres_per_unit": 1.0,
    "radians_per_unit": 1.0,
    "gripper": Gripper.ZERO_ONE_OPEN,
    "gripper_index": 0,
    "hz": 10.0,
    "cameras": ("agentview",),
    "height": 256,
    "orientation": Orientation.TURNED_180,
    "parts": (("joints", 7),),
    "rotation": Rotation.AXIS_ANGLE,
}
"""Another value for every field that has one (`control` has a single value)."""


@pytest.mark.parametrize("spec", [ACTION, IMAGE, PROPRIO, specs(camera_size=256)])
def test_json_round_trip(spec) -> None:
    assert type(spec).from_json(json.loads(json.dumps(spec.to_json()))) == spec
    with pytest.raises(UserError, match="unknown field 'colour'"):
        type(spec).from_json(spec.to_json() | {"colour": "red"})


def test_the_same_agree() -> None:
    require_same(specs(camera_size=128), specs(camera_size=128), here="a", there="b")


@pytest.mark.parametrize("spec", [ACTION, IMAGE, PROPRIO])
def test_every_field_counts_and_names_its_remedy(spec) -> None:
    compared = [field.name for field in fields(spec) if field.name in OTHER]
    assert compared
    for name in compared:
        whole = "image size" if name == "height" else name
        different = replace(spec, **{name: OTHER[name]})
        if name == "width" and spec is IMAGE:
            continue  # the image's own width: compared as a size
        with pytest.raises(UserError) as caught:
            require_same(spec, different, here="checkpoint a", there="simulator b")
        assert caught.value.what == f"checkpoint a and simulator b disagree on {whole}."
        assert caught.value.fix == MENDS[whole]


def test_the_message() -> None:
    there = replace(specs(camera_size=256), action=replace(ACTION, gripper=Gripper.ZERO_ONE_OPEN))
    with pytest.raises(UserError) as caught:
        require_same(specs(camera_size=128), there, here="checkpoint runs/a", there="simulator libero_spatial")
    assert str(caught.value) == (
        "checkpoint runs/a and simulator libero_spatial disagree on gripper, image size.\n"
        "  why: gripper: '-1 = open, +1 = close' here, '0 = close, 1 = open' there; "
        "image size: '128x128' here, '256x256' there\n"
        f"  fix: {MENDS['gripper']}; {MENDS['image size']}"
    )


def test_the_steps_that_remedies_name_exist() -> None:
    known = {kind.__name__ for kind in (*steps.ENCODE, *steps.DECODE)}
    named = {word.strip(".,") for mend in MENDS.values() for word in mend.split() if word[0].isupper()}
    assert named == {"ScaleActions", "ConvertGripper", "TurnImages", "ConvertProprioRotation"}
    assert named <= known


def test_every_field_has_a_remedy() -> None:
    names = {field.name for kind in (ActionSpec, ImageSpec, ProprioSpec) for field in fields(kind)}
    assert names - {"height"} | {"image size"} == set(MENDS)
    assert {field.name for field in fields(Specs)} == {"action", "image", "proprio"}


def test_fewer_cameras() -> None:
    assert IMAGE.only(("wrist",), here="it").cameras == ("wrist",)
    with pytest.raises(UserError, match="it has no camera called 'front'"):
        IMAGE.only(("front",), here="it")
    assert specs(camera_size=64, cameras=("wrist",)).image == replace(IMAGE, cameras=("wrist",), height=64, width=64)
    assert IMAGE.cameras == CAMERAS
