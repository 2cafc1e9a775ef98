"""The rule of the published sets, oddity included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.data.convert.noops import moving
from handeye.data.hdf5.read import read_demo


def actions(*rows: tuple[float, float]) -> np.ndarray:
    """(size of the arm's motion, gripper)."""
    made = np.zeros((len(rows), 7))
    made[:, 0], made[:, 6] = np.array(rows).T
    return made


def test_standing_still_with_the_same_gripper_is_a_no_op() -> None:
    assert moving(actions((0.5, -1), (0, -1), (6e-5, -1), (1.5e-4, -1), (0, 1), (0, 1))).tolist() == [
        True, False, False, True, True, False,
    ]  # fmt: skip


def test_the_gripper_is_compared_with_the_last_kept_step() -> None:
    """While nothing was kept, its toggling does not count; comparing with the previous step would keep row 1."""
    assert moving(actions((0, -1), (0, 1), (0, -1), (0.5, -1), (0, 1))).tolist() == [False, False, False, True, True]


@pytest.mark.goldens
def test_no_ops_are_those_of_the_reference(goldens: Path, record_property) -> None:
    root = goldens / "data" / "libero_hdf5"
    compared = 0
    for entry in json.loads((root / "expected.json").read_text())["files"]:
        for name, expected in entry["demos"].items():
            kept = moving(read_demo(root / entry["file"], name, images=False).actions)
            assert np.flatnonzero(~kept).tolist() == expected["noop_indices"], (entry["file"], name)
            compared += 1
    record_property("demonstrations whose no-ops are the reference's", compared)
    assert compared >= 6
