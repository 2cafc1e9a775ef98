"""Answers on demonstrations beside chance; which were held out; what an answer depends on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.data.hdf5.demo import TaskHeader, record
from handeye.data.hdf5.write import write_task_file
from handeye.data.loading.demonstrations import Demonstrations
from handeye.errors import UserError
from handeye.evaluate.offline import at, run, split_of
from handeye.evaluate.offline_config import OfflineConfig
from handeye.evaluate.offline_sensitivity import measure
from handeye.train import validate
from handeye.types import ActionChunk, EpisodeId, Observation

STEPS, DEMOS = 12, 5


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks; the first action dimension is the mean grey of the wrist's picture, the gripper's command the task."""
    root = tmp_path_factory.mktemp("demos")
    for number, task in enumerate(("lift the cube", "push the button")):
        random = np.random.default_rng(number)
        made = []
        for _ in range(DEMOS):
            grey = random.integers(0, 256, STEPS)
            images = np.repeat(grey, 16 * 16 * 3).reshape(STEPS, 16, 16, 3).astype(np.uint8)
            actions = np.zeros((STEPS, 7))
            actions[:, 0], actions[:, 6] = grey / 127.5 - 1, 2 * number - 1
            robot_states = np.tile(np.arange(STEPS)[:, None] / 10.0, 9)
            robot_states[:, 5:] = (0, 0, 0, 1)
            made.append(
                record(
                    actions=actions, states=np.zeros((STEPS, 9)), images={"agentview": images[::-1], "wrist": images},
                    robot_states=robot_states, joint_states=np.zeros((STEPS, 7)),
                )
            )  # fmt: skip
        header = TaskHeader(name=task.replace(" ", "_"), language=task, env_name="Fake", problem_name="fake")
        write_task_file(root / f"{header.name}_demo.hdf5", header, made)
    return root


@dataclass
class Knows:
    """Answers from what it is told to look at; a chunk of three."""

    looks: tuple[str, ...] = ("wrist",)
    reads: bool = True
    noise: float = 0.0
    provenance: dict[str, Any] = field(default_factory=dict)
    chunk: int = 3
    specs: Specs = field(default_factory=lambda: libero.specs(camera_size=16))
    batches: list[int] = field(default_factory=list)

    @property
    def manifest(self) -> Any:
        return SimpleNamespace(provenance=self.provenance)

    def reset(self, episodes: Sequence[EpisodeId]) -> None: ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        self.batches.append(len(observations))
        return [ActionChunk(actions=self.answer(seen)) for seen in observations]

    def answer(self, seen: Observation) -> np.ndarray:
        actions = np.zeros((self.chunk, 7), np.float32)
        actions[:, 0] = sum(seen.images[name].mean() / 127.5 - 1 for name in self.looks)
        actions[:, 0] += self.noise * np.random.default_rng(seen.seed).normal()
        actions[:, 6] = 1.0 if "button" in seen.prompt or not self.reads else -1.0
        return actions


def offline(demos: Path, policy: Any, **config: Any) -> dict[str, Any]:
    return run(OfflineConfig(policy="it", dataset=demos, **config), policy, validate)


def test_figures_beside_chance(demos: Path, capsys: Any) -> None:
    policy = Knows()
    result = offline(demos, policy, examples=2 * DEMOS * STEPS, sensitivity=0, batch=7)
    figures = result["figures"]
    assert max(policy.batches) == 7 and sum(policy.batches) == 2 * DEMOS * STEPS
    assert figures["steps"] == 2 * DEMOS * (STEPS - 2 + STEPS - 1 + STEPS), "no step past an end is counted"
    truth = np.concatenate([Demonstrations(demos).vectors().of(ref)[0] for ref in Demonstrations(demos).episodes])
    assert figures["gripper"] == 1.0 and figures["gripper_blind"] == 0.5
    assert figures["l1"][1:6] == [0.0] * 5
    assert 0 < figures["l1"][0] < figures["l1_blind"][0], "the first of three is right, the others are guessed"
    one = offline(demos, replace(policy, chunk=1), examples=2 * DEMOS * STEPS, sensitivity=0)["figures"]
    assert one["l1"][0] < 1e-6 and one["sign"][0]["right"] == 1.0
    guess = np.abs(truth[:, 0] - np.median(truth[:, 0])).mean()
    assert one["l1_blind"][0] == pytest.approx(guess, abs=1e-4)
    shown = capsys.readouterr()
    assert "gripper right 100.0%, chance 50.0%" in shown.out and "sign right" in shown.out
    assert "does not say what it was trained on" in shown.err.replace("\n", " ")


def test_a_constant_answer_is_named(demos: Path, capsys: Any) -> None:
    offline(demos, Knows(looks=(), reads=False), sensitivity=0)
    assert "constant answer would be as near" in capsys.readouterr().err


def test_held_out_by_the_checkpoints_own_word(demos: Path, tmp_path: Path, capsys: Any) -> None:
    whole = Demonstrations(demos)
    seen, held = whole.split(0.4, 3)
    assert held is not None
    told = {"training": {"held_out": 0.4, "seed": 3}, "data": {"digest": whole.digest()}}
    result = offline(demos, Knows(provenance=told), sensitivity=0, json=True, out=tmp_path / "offline.json")
    assert result["judged"]["episodes"] == [ref.id for ref in held.episodes] and len(held.episodes) == 4
    assert result["judged"]["held_out"] is True
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads((tmp_path / "offline.json").read_text()) == result
    assert "warning" not in shown.err

    chance = split_of(whole, told).baseline
    assert {ref.id for ref in chance.episodes} == {ref.id for ref in seen.episodes}
    for changes, known, said in (
        ({"data": {"digest": "other"}}, None, "another digest"),
        ({"training": {"seed": 3}}, False, "held nothing of it out"),
        ({"training": {"held_out": 0, "seed": 3}}, False, "trained on all of this set"),
        ({"base": {"path": "x"}}, True, "its base may have seen them"),
    ):
        split = split_of(whole, {**told, **changes})
        assert split.held_out is known and said in split.why
        assert len(split.judged) == (4 if known else 2 * DEMOS)


def test_what_an_answer_depends_on(demos: Path) -> None:
    result = offline(demos, Knows(), examples=4, sensitivity=24)
    found = {each["what"]: each for each in result["sensitivity"]}
    depends = {what: each["depends"] for what, each in found.items()}
    assert depends == {
        "nothing, asked again": None,
        "other noise": False,
        "the pictures": True,
        "the picture of agentview": False,
        "the picture of wrist": True,
        "the sentence": True,
        "the state": False,
    }
    assert found["nothing, asked again"]["arm"] == 0.0 == found["other noise"]["arm"]
    assert found["the sentence"]["arm"] == 0.0 and found["the sentence"]["gripper"] == 1.0
    assert found["the pictures"]["arm"] == found["the picture of wrist"]["arm"] > 0.05


def test_noise_is_told_from_dependence(demos: Path) -> None:
    """A policy that samples: other noise moves it, and swaps are asked with the same noise."""
    found = {c.what: c for c in measured(demos, Knows(looks=(), reads=False, noise=0.3))}
    assert found["other noise"].depends is True and (found["other noise"].arm or 0) > 0.01
    assert found["the pictures"].arm == 0.0 and found["the pictures"].depends is False


def test_one_sentence_cannot_be_swapped(demos: Path) -> None:
    found = {c.what: c for c in measured(demos, Knows(), only="lift the cube")}
    assert found["the sentence"].arm is None and found["the sentence"].depends is None
    assert "one sentence" in found["the sentence"].row()[-1]


def measured(demos: Path, policy: Any, only: str = "") -> Any:
    whole = Demonstrations(demos)
    chosen = whole.only([ref for ref in whole.episodes if not only or ref.prompt == only])
    asked = [each.observation for each in at(chosen, np.arange(0, 3 * STEPS, 2), 1)]
    return measure(policy, asked, batch=5, gripper=6)


def test_what_does_not_fit(demos: Path) -> None:
    with pytest.raises(UserError, match="expert cannot be asked"):
        offline(demos, None)
    with pytest.raises(UserError, match="image size"):
        offline(demos, Knows(specs=libero.specs(camera_size=32)))
    with pytest.raises(UserError, match="--examples 0"):
        OfflineConfig(policy="x", dataset=demos, examples=0)
    with pytest.raises(UserError, match="--sensitivity -1"):
        OfflineConfig(policy="x", dataset=demos, sensitivity=-1)
