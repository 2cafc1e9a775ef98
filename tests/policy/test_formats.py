"""Questions and answers, there and back, in both forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.conventions.image import Orientation
from handeye.errors import UserError
from handeye.policy import formats
from handeye.policy.wire import pack, unpack
from handeye.types import ActionChunk, Observation

SPECS = libero.specs(camera_size=32)


def observation(seed: int = 0, size: int = 32) -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        images={name: random.integers(0, 256, (size, size, 3), np.uint8) for name in libero.CAMERAS},
        proprio=random.normal(size=8).astype(np.float32),
        prompt="öffne the drawer",
        seed=2**40 + seed,
    )


def travelled(value: Any) -> Any:
    return unpack(pack(value))


def same(one: Observation, other: Observation) -> None:
    assert list(one.images) == list(other.images)
    for name, picture in one.images.items():
        np.testing.assert_array_equal(picture, other.images[name])
    np.testing.assert_array_equal(one.proprio, other.proprio)
    assert one.proprio.dtype == other.proprio.dtype == np.float32
    assert (one.prompt, one.seed) == (other.prompt, other.seed)


def test_ours_arrives_as_it_was() -> None:
    asked = [observation(0), observation(1)]
    arrived = formats.read_question(travelled(formats.question(asked)), SPECS, most=2)
    for one, other in zip(asked, arrived, strict=True):
        same(one, other)
    chunks = [ActionChunk(actions=np.full((3, 7), index, np.float32)) for index in range(2)]
    back = formats.read_answer(travelled(formats.answer(chunks)), SPECS, count=2)
    assert [chunk.actions.tolist() for chunk in back] == [chunk.actions.tolist() for chunk in chunks]


@pytest.mark.parametrize("orientation", Orientation)
def test_openpis_form_arrives_as_the_policy_declares_it(
    orientation: Orientation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "OPENPI_SIZE", 32)
    specs = replace(SPECS, image=replace(SPECS.image, orientation=orientation))
    seen = observation()
    question = travelled(formats.openpi_question(seen))
    arrived = formats.read_openpi_question(question, specs, seed=seen.seed, exact=True)
    stored = {Orientation.UPRIGHT: np.s_[:, :], Orientation.OPENGL: np.s_[::-1], Orientation.TURNED_180: np.s_[:, ::-1]}
    same(arrived, replace(seen, images={n: v[stored[orientation]] for n, v in seen.images.items()}))


def test_channels_first_and_floats_are_openpis_too() -> None:
    seen = observation()
    question = formats.openpi_question(seen)
    floats = {key: np.moveaxis(question[key], -1, 0).astype(np.float32) / 255 for key in formats.OPENPI_IMAGES.values()}
    one = formats.read_openpi_question(question, SPECS, seed=0)
    same(formats.read_openpi_question(question | floats, SPECS, seed=0), one)


def test_a_policy_that_looks_through_one_camera_reads_one() -> None:
    specs = libero.specs(camera_size=32, cameras=("wrist",))
    question = formats.openpi_question(observation())
    del question["observation/image"]
    assert list(formats.read_openpi_question(question, specs, seed=0).images) == ["wrist"]
    assert set(formats.openpi_declaration(specs, exact=False)["keys"]) == {
        "observation/wrist_image", "observation/state", "prompt", "seed",
    }  # fmt: skip


@pytest.mark.parametrize(
    "specs",
    [
        replace(SPECS, action=replace(libero.ACTION, hz=10.0)),
        replace(SPECS, proprio=replace(libero.PROPRIO, parts=(("joints", 7),))),
        replace(SPECS, image=replace(SPECS.image, cameras=("agentview", "ceiling"))),
    ],
)
def test_who_is_not_for_openpis_clients(specs: Any) -> None:
    assert formats.openpi_obstacle(SPECS) is None
    assert formats.openpi_obstacle(specs)
    assert formats.openpi_declaration(specs, exact=False) == {"offered": False, "why": formats.openpi_obstacle(specs)}


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"handeye": 2, "observations": [{}]},
        {"handeye": 1, "observations": []},
        {"handeye": 1, "observations": [{}] * 3},
        {"handeye": 1, "observations": {"a": 1}},
        {"handeye": 1, "observations": ["a"]},
        {"handeye": 1, "observations": [{"images": []}]},
    ],
)
def test_what_is_no_question(asked: Any) -> None:
    with pytest.raises(UserError):
        formats.read_question(asked, SPECS, most=2)


@pytest.mark.parametrize("answered", [None, [], {}, {"chunks": []}, {"chunks": [np.zeros((2, 6))]}, {"chunks": [1]}])
def test_what_is_no_answer(answered: Any) -> None:
    with pytest.raises(UserError):
        formats.read_answer(answered, SPECS, count=1)
