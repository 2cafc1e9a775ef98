"""Statistics and index as a user gets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from handeye.data.config import IndexConfig, StatsConfig
from handeye.data.look import index, stats
from handeye.data.source import open_source
from handeye.data.statistics import Statistics


def test_statistics_are_written_in_openvlas_form(demo_folder: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "dataset_statistics.json"
    found = stats(StatsConfig(root=demo_folder, name="mine", out=out, json=True))
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text()) and list(printed) == ["mine"]
    assert Statistics.from_json(printed["mine"]) == found
    source = open_source(demo_folder)
    actions = np.concatenate([source.load(ref, images=False).actions for ref in source.episodes])
    np.testing.assert_allclose(found.action.q01, np.quantile(actions, 0.01, axis=0), atol=1e-12)


def test_the_gripper_as_openvla_reads_it(demo_folder: Path) -> None:
    stored, opened = (
        stats(StatsConfig(root=demo_folder, gripper=how)).action for how in ("stored", "openvla")
    )  # fmt: skip
    assert (stored.min[6], stored.max[6], opened.min[6], opened.max[6]) == (-1, 1, 0, 1)
    assert opened.mean[6] == pytest.approx((1 - stored.mean[6]) / 2)
    assert stored.mean[:6] == opened.mean[:6]


def test_the_index(demo_folder: Path, tmp_path: Path, capsys) -> None:
    index(IndexConfig(root=demo_folder, out=tmp_path / "index.jsonl"))
    assert "15 episodes, 90 steps" in capsys.readouterr().out
    index(IndexConfig(root=demo_folder, json=True))
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "index.jsonl").read_text()
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["id"] for line in lines] == [ref.id for ref in open_source(demo_folder).episodes]
