"""The benchmark compares like with like, and says so when it does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate import bench
from handeye.evaluate.bench import PUBLISHED, run
from handeye.evaluate.bench_config import BenchEvalConfig
from handeye.evaluate.published_loop import PublishedLoop
from handeye.evaluate.rollout import roll_out
from handeye.evaluate.worker import Local
from handeye.protocols.presets import protocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.types import EpisodeId


def test_all_ways_run_the_same_episodes_and_the_model_is_calibrated(
    reacher: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bench.json"
    config = BenchEvalConfig(suite="fake", episodes=3, rounds=2, workers=(1, 2), model=True, json=file)
    assert run(config, reacher) == 0
    found = json.loads(file.read_text())
    assert set(found["engines"]) == {"1", "2"}
    for workers, measured in found["engines"].items():
        assert measured["records agree"]
        speeds = measured["episodes per minute"]
        assert len(speeds) == 4 and all(speed > 0 for speed in speeds.values())
        assert measured["engine"] == speeds[f"engine, {workers} workers"]
        assert measured["against the published loop"] > 0 and speeds[PUBLISHED] > 0
        assert measured["costs"]["questions"] > 0 and measured["costs"]["act"] > 0
        assert found["model"]["here"][workers]["model"] > 0
    assert len(found["model"]["expected"]) == 5
    said = capsys.readouterr().out
    assert "same outcomes, steps and actions" in said and "the model here" in said


def test_ways_that_disagree_are_a_bad_verdict(reacher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PublishedLoop, "run", lambda self, episode: (True, 1, "something else"))
    assert run(BenchEvalConfig(suite="fake", episodes=2, rounds=1, workers=(1,)), reacher) == 1


@pytest.mark.parametrize("suite", ["fake", pytest.param("tabletop", marks=pytest.mark.slow)])
def test_the_published_loop_is_an_episode_as_we_run_it(suite: str, reacher: Any) -> None:
    """But looks at every step and compiles the scene each time."""
    task, sim = suites.task(suite, 0), SimConfig(camera_size=16)
    rules, episode = protocol("handeye-2026"), EpisodeId(suite=suite, task=0, initial_state=2)
    cameras = ("agentview", "wrist")
    loop = PublishedLoop(task, sim, rules, reacher, cameras)
    before = reacher.calls
    once = loop.run(episode)
    asked = reacher.calls - before
    assert loop.run(episode) == once
    loop.close()
    env = suites.make(task, sim)
    ours = roll_out(env, episode, Local(reacher, cameras), rules)
    assert (ours.success, ours.steps, ours.hashes["actions"]) == once
    assert ours.questions == asked
    env.close()


def test_the_parent_and_its_policy_are_told_apart(reacher: Any) -> None:
    policy = bench.Timed(reacher)
    meter = bench.Meter(policy)
    sum(range(3_000_000))
    meter.stop()
    assert meter.seconds + 1e-3 >= meter.parent > 0.01  # two clocks, read one after the other
    assert meter.policy == 0.0
    assert 0 <= meter.waited < 1


@pytest.mark.parametrize("flags", [{"episodes": 0}, {"workers": ()}, {"workers": (0,)}, {"latency_ms": (0.0, 0.0)}])
def test_mistakes(flags: dict[str, Any]) -> None:
    with pytest.raises(UserError):
        BenchEvalConfig(**flags)
