"""A plan holds what can change an outcome, and is settled before anything runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.plan import make
from handeye.evaluate.worker import WorkerConfig, runner
from handeye.policy.scripted import Noise
from handeye.protocols.presets import protocol
from handeye.protocols.protocol import differences
from handeye.sim import lapack


def config(**flags: Any) -> EvaluateConfig:
    return EvaluateConfig(**({"policy": "reacher", "suite": "fake", "episodes": 2} | flags))


def test_the_policy_decides_camera_and_size_and_the_plan_says_so(reacher: Any) -> None:
    plan = make(config(), reacher)
    assert (plan.sim.camera_size, plan.sim.cameras) == (16, ("agentview", "wrist"))
    assert plan.identity()["protocol"]["camera_size"] == 16
    assert make(config(), Noise()).sim.cameras == ()
    assert make(config(), None).cameras is None


def test_a_video_adds_its_camera_and_changes_no_identity() -> None:
    plain, filmed = make(config(), Noise()), make(config(videos="all"), Noise())
    assert filmed.sim.cameras == ("agentview",)
    assert filmed.identity() == plain.identity()
    assert filmed.default_folder == plain.default_folder


def test_identity_is_plain_json_and_names_every_episode_once(reacher: Any) -> None:
    plan = make(config(), reacher)
    assert json.loads(json.dumps(plan.identity())) == plan.identity()
    keys = [episode.key for episode in plan.episodes]
    assert len(keys) == len(set(keys)) == 8
    assert keys[0] == "fake/0/init0/episode-0/0"


@pytest.mark.parametrize("flags", [{"seed": 3}, {"episodes": 3}, {"tasks": (1,)}, {"arithmetic": "fast"}])
def test_what_changes_an_outcome_changes_the_folder(flags: dict[str, Any]) -> None:
    assert make(config(**flags), Noise()).default_folder != make(config(), Noise()).default_folder


def test_a_checkpoint_is_known_by_its_manifest(reacher: Any) -> None:
    plans = {}
    for name, step in (("a", 1), ("copy", 1), ("b", 2)):
        reacher.identity = {"manifest": f"digest of step {step}", "family": "tiny", "step": step}
        plans[name] = make(config(policy=f"runs/{name}/final"), reacher)
    assert plans["a"].identity() == plans["copy"].identity(), "where it lies does not matter"
    assert plans["a"].identity() != plans["b"].identity()
    assert (plans["a"].policy["family"], plans["a"].policy["step"]) == ("tiny", 1)
    assert "torch" in plans["a"].versions
    assert plans["a"].default_folder.name.startswith("eval-a-final-fake-")


def test_a_policy_may_say_itself_which_one_it_is(reacher: Any) -> None:
    reacher.identity = {"server": "pi05_libero", "metadata": "abc"}
    plan = make(config(policy="ws://somewhere:8000"), reacher)
    assert plan.policy == {"name": "ws://somewhere:8000", "specs": reacher.specs.to_json(), **reacher.identity}


def test_the_kernels_behind_the_controller_are_part_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """They decide its last bits."""
    here = make(config(suite="tabletop", policy="expert"), None)
    assert here.simulator["algebra"] == lapack.library().note
    monkeypatch.setattr(lapack, "library", lambda: lapack.Library(None, "another library"))
    there = make(config(suite="tabletop", policy="expert"), None)
    assert list(differences(here.identity(), there.identity())) == [
        f"simulator.algebra: {here.simulator['algebra']} | another library"
    ]


@pytest.mark.parametrize(
    ("spec", "change", "says"),
    [
        ("action", {"high": 2.0}, "disagree on high"),
        ("image", {"height": 32}, "disagree on image size"),
        ("image", {"cameras": ("front",)}, "no camera called 'front'"),
        ("proprio", {"parts": (("joints", 7),)}, "disagree on parts"),
    ],
)
def test_conventions_must_agree(spec: str, change: dict[str, Any], says: str, reacher: Any) -> None:
    other = replace(getattr(reacher.specs, spec), **change)
    reacher.specs = replace(reacher.specs, **{spec: other})
    with pytest.raises(UserError, match=says):
        make(config(), reacher)


def test_a_worker_with_another_simulator_refuses(reacher: Any) -> None:
    plan = make(config(), reacher)
    worker = WorkerConfig(
        tasks=plan.tasks,
        protocol=plan.protocol,
        sim=plan.sim,
        cameras=plan.cameras,
        videos="none",
        surroundings=plan.surroundings,
    )
    runner(worker, print)
    elsewhere = {**plan.surroundings, "numpy": "1.26.4"}
    with pytest.raises(UserError, match="is not the plan's") as refused:
        runner(replace(worker, surroundings=elsewhere), print)
    assert "numpy: 1.26.4 | " in refused.value.why


def test_another_simulator_than_the_protocols_is_an_error_or_is_recorded(tmp_path: Path) -> None:
    mine = tmp_path / "mine.json"
    mine.write_text(json.dumps({**protocol("handeye-2026").to_json(), "name": "mine", "simulator": "==3.2.3"}))
    asked = config(suite="tabletop", policy="expert", protocol=str(mine))
    with pytest.raises(UserError, match=r"is not the simulator of the protocol mine, which is ==3\.2\.3"):
        make(asked, None)
    recorded = make(replace(asked, allow_mujoco=True), None).identity()["simulator"]
    assert "outside the range of the protocol mine, ==3.2.3" in recorded["trouble"]
    assert make(config(suite="tabletop", policy="expert"), None).identity()["simulator"]["trouble"] == ""
