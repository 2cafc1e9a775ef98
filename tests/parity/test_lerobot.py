"""Sets that the lerobot library wrote, sound and broken, against the demonstrations that they were made from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from handeye.conventions import image
from handeye.data.hdf5.read import read_demo
from handeye.data.lerobot.source import LeRobotSource
from handeye.data.source import open_source
from handeye.errors import UserError

pytestmark = pytest.mark.goldens
CAMERAS = {"agentview": "image", "wrist": "wrist_image"}


@pytest.fixture(scope="module")
def root(goldens: Path) -> Path:
    return goldens / "data" / "lerobot"


@pytest.fixture(scope="module")
def folders(root: Path) -> list[Path]:
    found = sorted(path.parents[1] for path in root.glob("*/meta/info.json"))
    assert {path.name[:4] for path in found} == {"v2.0", "v2.1", "v3.0"} and len(found) >= 6
    return found


def test_vectors_language_and_pictures(goldens: Path, root: Path, folders, record_property: Callable) -> None:
    """All steps. Vectors are equal to the bit, and so is PNG to the HDF5 rows that the set was made from, each pixel
    doubled; video within what its codec loses."""
    frames = 0
    with np.load(root / "expected.npz") as expected:
        for folder in folders:
            source = open_source(folder)
            assert isinstance(source, LeRobotSource) and not source.warnings
            for number, ref in enumerate(source.episodes):
                episode, key = source.load(ref), f"episode_{number}"
                assert episode.prompt == ref.prompt == expected[f"{key}/task"].item()
                np.testing.assert_array_equal(episode.actions, expected[f"{key}/action"][: len(episode)])
                np.testing.assert_array_equal(episode.proprio, expected[f"{key}/state"][: len(episode)])
                file, _, demo = expected[f"{key}/source"].item().partition(":")
                made_from = read_demo(goldens / "data" / "libero_hdf5" / file, demo)
                for name, found in episode.images.items():
                    upright = made_from.images[name][expected[f"{key}/source_frames"][: len(episode)]]
                    turned = image.convert(upright, source=image.Orientation.UPRIGHT, target=source.stored.orientation)
                    first = expected[f"{key}/{CAMERAS[name]}_first_128"]
                    np.testing.assert_array_equal(turned[0], first)  # the rows are those that are meant
                    if source.stored.codec == "png":
                        np.testing.assert_array_equal(found[:, ::2, ::2], upright)
                        np.testing.assert_array_equal(found, upright.repeat(2, 1).repeat(2, 2))
                    else:
                        off = np.abs(found.astype(int) - upright.repeat(2, 1).repeat(2, 2))
                        assert off.mean() < 3.5 and off.max() <= 97, (folder.name, ref.id)  # README of the goldens
                    frames += len(found)
    record_property("LeRobot pictures compared with their HDF5 rows", frames)
    assert frames >= 2 * (36 * 4 + 7 * 2)


def test_decoded_video(root: Path, folders, record_property: Callable) -> None:
    """First and last frame of each episode, as block means, against another decoder's; one by one and as a whole."""
    compared = 0
    with np.load(root / "expected_video.npz") as expected:
        for folder in [folder for folder in folders if "video" in folder.name]:
            source = LeRobotSource(folder)
            keys = source._sets["."].info.keys.cameras
            for number, ref in enumerate(source.episodes):
                whole = source.load(ref).images
                for which, step in (("first", 0), ("last", ref.length - 1)):
                    for name, frame in source.frames(ref, [step]).items():
                        np.testing.assert_array_equal(frame[0], whole[name][step])
                        turned = image.convert(
                            frame[0], source=image.Orientation.UPRIGHT, target=source.stored.orientation
                        )
                        blocks = turned.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
                        key = f"{folder.name}/{keys[name]}/episode_{number}/{which}"
                        np.testing.assert_allclose(blocks, expected[key], atol=2, err_msg=key)
                        compared += 1
        assert compared == len(list(expected)) >= 24
    record_property("LeRobot video frames compared with another decoder", compared)


def test_broken_sets(goldens: Path, record_property: Callable) -> None:
    """Each ends as its manifest asks; a refusal names what is wrong."""
    broken = goldens / "data" / "broken"
    entries = json.loads((broken / "MANIFEST.json").read_text())["entries"]
    outcomes = []
    for entry in entries:
        if not entry["format"].startswith("lerobot"):
            continue
        outcome, why = "accept", ""
        try:
            source = LeRobotSource(broken / entry["path"])
            for ref in source.episodes:
                source.load(ref)
            outcome = "warn" if source.warnings else "accept"
        except UserError as error:
            outcome, why = "reject", str(error)
            assert str(broken / entry["path"]) in why
        assert outcome == entry["expect"], f"{entry['path']}: {entry['what_is_wrong']} ({why})"
        assert f"line {entry['line']}" in why if "line" in entry else True
        outcomes.append(outcome)
    record_property("broken LeRobot sets that end as asked", len(outcomes))
    assert len(outcomes) >= 22 and {"accept", "reject"} <= set(outcomes)
