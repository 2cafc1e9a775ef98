"""The same promises on real physics and real pictures: the built-in suite."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handeye.evaluate import results
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.run import run
from handeye.protocols import presets
from handeye.records import read_lines
from handeye.sim import native, suites
from handeye.sim.config import SimConfig


@pytest.mark.slow
def test_records_do_not_depend_on_workers_or_on_the_video(tmp_path: Path, reacher: Any) -> None:
    """The policy's answers depend on every pixel, so equal action hashes mean equal pictures."""
    reacher.specs = replace(reacher.specs, image=replace(reacher.specs.image, height=64, width=64))
    lines = []
    for workers, videos in ((1, "none"), (2, "failures")):
        config = EvaluateConfig(
            policy="reacher",
            suite="tabletop",
            tasks=(0, 8),
            episodes=2,
            workers=workers,
            videos=videos,
            out=tmp_path / str(workers),
        )
        lines.append(results.comparable(results.read(run(config, reacher)).values()))
    assert lines[0] == lines[1]
    assert len(lines[0]) == 4
    assert len({line["hashes"]["scene"] for line in lines[0]}) == 4
    assert len({line["hashes"]["observation"] for line in lines[0]}) == 4
    assert len(list((tmp_path / "2" / "videos").iterdir())) == sum(line["outcome"] == "failure" for line in lines[0])


@pytest.mark.slow
def test_an_expert_that_fails_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hasty = lambda: replace(presets.handeye_2026(), name="hasty", horizons={"tabletop": 5})  # noqa: E731
    monkeypatch.setitem(presets.PROTOCOLS, "hasty", hasty)
    config = EvaluateConfig(
        policy="expert", suite="tabletop", tasks=(0, 11), episodes=1, protocol="hasty", out=tmp_path / "run"
    )
    out = run(config, None)
    goals = {
        task.index: {" ".join(part) for part in suites.make(task, SimConfig(cameras=())).truths()}
        for task in (suites.task("tabletop", index) for index in (0, 11))
    }
    for result in results.read(out).values():
        assert result.outcome == "failure"
        assert result.unmet and set(result.unmet) <= goals[result.episode.task]
    assert "unmet at the end" in capsys.readouterr().out
    summary = json.loads((out / "summary.json").read_text())
    assert all(sum(task["unmet"].values()) >= 1 for task in summary["tasks"].values())


@pytest.mark.slow
def test_the_expert_needs_no_picture_and_succeeds(tmp_path: Path) -> None:
    config = EvaluateConfig(policy="expert", suite="tabletop", tasks=(0, 3), initial_states="5:7", out=tmp_path / "run")
    found = results.read(run(config, None))
    assert [result.outcome for result in found.values()] == ["success"] * 4
    started, ended = read_lines(tmp_path / "run" / "sessions.jsonl")
    assert started["control_step"] == native.computed_by("bitwise")
    assert (ended["episodes"], "policy" in ended) == (4, False)
    assert all(result.hashes["observation"] is None for result in found.values())
    assert all(result.unmet == () and not result.note for result in found.values())
