"""LIBERO's own demonstration files, sound and broken, against what the reference data says about them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.conventions import image, proprio
from handeye.conventions.gripper import Gripper, convert
from handeye.data.hdf5.demo import DemoRecord
from handeye.data.hdf5.read import find_files, index_file, read_demo
from handeye.data.hdf5.source import Hdf5Source
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.statistics import NAMES, Statistics, VectorStatistics, measure
from handeye.errors import UserError
from handeye.types import Episode

pytestmark = pytest.mark.goldens


@pytest.fixture(scope="module")
def files(goldens: Path) -> list[tuple[Path, dict[str, Any]]]:
    root = goldens / "data" / "libero_hdf5"
    expected = json.loads((root / "expected.json").read_text())["files"]
    found = [(root / entry["file"], entry) for entry in expected]
    assert sorted(path for path, _ in found) == find_files(root) and found
    return found


def arrays(demo: DemoRecord) -> dict[str, np.ndarray]:
    """As stored: bottom row first."""
    raw = {
        name: image.convert(frames, source=image.Orientation.UPRIGHT, target=image.Orientation.OPENGL)
        for name, frames in demo.images.items()
    }
    return {
        "actions": demo.actions, "states": demo.states, "obs/agentview_rgb": raw["agentview"],
        "obs/eye_in_hand_rgb": raw["wrist"], "obs/ee_states": demo.ee_states,
        "obs/gripper_states": demo.gripper_states, "obs/joint_states": demo.joint_states,
    }  # fmt: skip


def test_every_array_is_read_to_the_bit(files) -> None:
    compared = 0
    for path, entry in files:
        index = index_file(path)
        assert index.demos == tuple((name, demo["length"]) for name, demo in entry["demos"].items())
        assert index.prompt == entry["language_benchmark_task"] and not index.warnings
        assert len(index.demos) == entry["num_demos"] and sum(n for _, n in index.demos) == entry["total"]
        for name, expected in entry["demos"].items():
            demo = read_demo(path, name)
            found = arrays(demo)
            assert found.keys() == expected["sha256_of_array_bytes"].keys()
            for key, digest in expected["sha256_of_array_bytes"].items():
                assert hashlib.sha256(np.ascontiguousarray(found[key]).tobytes()).hexdigest() == digest, key
                compared += 1
            assert demo.actions[0].tolist() == expected["first_action"]
            assert demo.actions[-1].tolist() == expected["last_action"]
            assert int(demo.rewards.sum()) == expected["sum_rewards"] and demo.dones[-1] == expected["dones_last"]
    assert compared >= 42


def test_raw_files_were_seen_after_each_action(files) -> None:
    """So an episode has one step less, and its states and what was seen belong together: the arm's joints are those of
    the state before the action, to within the last millisecond of a control step."""
    steps = 0
    for path, entry in files:
        for episode, (name, expected) in zip(_episodes(path), entry["demos"].items(), strict=True):
            demo = read_demo(path, name, images=False)
            assert demo.observed == "after" and len(episode.actions) == expected["length"] - 1
            np.testing.assert_array_equal(episode.actions, demo.actions[1:])
            vector = proprio.from_hdf5(demo.ee_states, demo.gripper_states)
            np.testing.assert_array_equal(episode.proprio, vector[:-1])
            right = np.abs(demo.joint_states[:-1] - demo.states[1:, 1:8]).mean()
            wrong = np.abs(demo.joint_states - demo.states[:, 1:8]).mean()
            assert right < 0.1 * wrong
            steps += len(episode.actions)
    assert steps >= 384


def test_statistics(files) -> None:
    compared = 0
    for path, entry in files:
        demos = {name: read_demo(path, name, images=False) for name in entry["demos"]}
        moving = {n: np.delete(np.arange(len(d)), entry["demos"][n]["noop_indices"]) for n, d in demos.items()}
        for rows, expected in (
            (dict.fromkeys(demos, slice(None)), entry["all_steps"]),
            (moving, entry["without_noops"]),
        ):
            vectors = [
                (d.actions[rows[n]], proprio.from_hdf5(d.ee_states, d.gripper_states)[rows[n]])
                for n, d in demos.items()
            ]
            found = measure(vectors)
            opened = measure((_zero_one(actions), values) for actions, values in vectors)
            assert found.steps == expected["num_transitions"]
            pairs = [(found.action, "action_raw"), (opened.action, "action_openvla"), (found.proprio, "proprio")]
            for vector, key in pairs:
                compared += _compare(vector, expected[key])
            action = opened.action.normalizer("quantiles", mask=(True,) * 6 + (False,))
            sensed = found.proprio.normalizer("quantiles")
            for normalised, key in (
                (action.forward(_zero_one(vectors[0][0][0])), "normalised_action_first"),
                (action.forward(_zero_one(vectors[-1][0][-1])), "normalised_action_last"),
                (sensed.forward(vectors[0][1][0]), "normalised_proprio_first"),
            ):
                np.testing.assert_allclose(normalised, expected[key], atol=1e-9)
                compared += 1
    assert compared >= 2 * 2 * (3 * 6 + 3)


def _episodes(path: Path) -> list[Episode]:
    source = Hdf5Source(path)
    return [source.load(ref) for ref in source.episodes]


def _zero_one(actions: np.ndarray) -> np.ndarray:
    changed = actions.copy()
    changed[..., 6] = convert(actions[..., 6], source=Gripper.PM1_CLOSE, target=Gripper.ZERO_ONE_OPEN)
    return changed


def _compare(vector: VectorStatistics, expected: dict[str, list[float]]) -> int:
    for name in NAMES:
        np.testing.assert_allclose(getattr(vector, name), expected[name], atol=1e-9)
    return len(NAMES)


def _manifest(goldens: Path, kind: str) -> list[dict[str, Any]]:
    entries = json.loads((goldens / "data" / "broken" / "MANIFEST.json").read_text())["entries"]
    return [entry for entry in entries if entry["format"].startswith(kind)]


def _read_all(path: Path) -> tuple[list[str], list[int], list[str]]:
    """Warnings, lengths and sentences of everything that is there."""
    warnings: list[str] = []
    lengths: list[int] = []
    prompts: list[str] = []
    for file in find_files(path):
        index = index_file(file)
        warnings += index.warnings
        prompts.append(index.prompt)
        lengths += [len(read_demo(file, name)) for name, _ in index.demos]
    return warnings, lengths, prompts


def test_broken_demonstrations(goldens: Path) -> None:
    """Each ends as its manifest asks; a refusal names the place and what is wrong there."""
    outcomes = []
    for entry in _manifest(goldens, "libero_hdf5"):
        outcome, why = "accept", ""
        try:
            warnings, lengths, prompts = _read_all(goldens / "data" / "broken" / entry["path"])
            outcome = "warn" if warnings else "accept"
            assert lengths == entry.get("lengths_in_order", lengths)
            assert prompts == [entry.get("language", prompts[0])]
        except UserError as error:
            outcome, why = "reject", str(error)
        assert outcome == entry["expect"], f"{entry['path']}: {entry['what_is_wrong']} ({why})"
        if outcome == "reject":
            for key in ("demo", "key", "value"):
                assert str(entry.get(key, "")) in why, f"{key} is not named in: {why}"
            if "step" in entry:
                assert f"[{entry['step']}, {entry['dimension']}]" in why
        outcomes.append(outcome)
    counts = {kind: outcomes.count(kind) for kind in ("accept", "warn", "reject")}
    assert len(outcomes) >= 22 and min(counts.values()) >= 2, counts


def test_broken_statistics(goldens: Path) -> None:
    outcomes = []
    for entry in _manifest(goldens, "dataset statistics"):
        text = (goldens / "data" / "broken" / entry["path"]).read_text()
        try:
            (value,) = json.loads(text).values()
            Statistics.from_json(value)
            outcomes.append("accept")
        except (UserError, json.JSONDecodeError):
            outcomes.append("reject")
        assert outcomes[-1] == entry["expect"], entry["what_is_wrong"]
    assert len(outcomes) >= 6 and set(outcomes) == {"accept", "reject"}


def test_the_folder_as_training_sees_it(goldens: Path) -> None:
    demos = Demonstrations(goldens / "data" / "libero_hdf5")
    assert len(demos) >= 6
    train, held = demos.split(0.3, 0)
    assert held is not None and len(held) == len({ref.task for ref in demos.episodes})
    assert train.statistics().steps == sum(ref.length for ref in train.episodes)
