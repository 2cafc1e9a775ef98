"""Recorded actions for the matching episode, and a word where the match is a guess."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.conventions import libero
from handeye.data.source import EpisodeRef
from handeye.errors import UserError
from handeye.policy import replay
from handeye.policy.replay import Replay
from handeye.types import Episode, EpisodeId, Observation


def episode(state: int | None = 0, task: int = 0, seed: int = 0) -> EpisodeId:
    return EpisodeId(suite="tabletop", task=task, initial_state=state, seed=seed)


def actions(number: int, length: int = 20) -> np.ndarray:
    made = np.random.default_rng(number).uniform(-1, 1, (length, 7))
    made[:, 6] = 1.0
    return made


class Set:
    """Demonstrations in memory. `recorded` holds (sentence, recorded episode or None), numbered in order."""

    specs = libero.specs(camera_size=64)

    def __init__(self, recorded: Sequence[tuple[str, EpisodeId | None]], files: Sequence[Path] = ()) -> None:
        self._recorded, self.files = recorded, tuple(files)
        self.episodes = tuple(
            EpisodeRef(id=f"{prompt}/demo_{i}", task=prompt, prompt=prompt, length=20, where={"number": i})
            for i, (prompt, _) in enumerate(recorded)
        )

    def load(self, ref: EpisodeRef, *, images: bool = True) -> Episode:
        assert not images, "pictures are not needed"
        number = ref.where["number"]
        identity = self._recorded[number][1]
        return Episode(
            id=ref.id,
            task=ref.task,
            prompt=ref.prompt,
            images={},
            proprio=np.zeros((20, 8)),
            actions=actions(number),
            source={} if identity is None else {"episode": asdict(identity)},
        )


@pytest.fixture
def replaying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Replay]:
    def make(recorded: Any, **flags: Any) -> Replay:
        monkeypatch.setattr(replay, "open_source", lambda path: Set(recorded))
        return Replay("demos", **flags)

    return make


def ask(policy: Replay, asked: EpisodeId, question: int = 0, prompt: str = "lift") -> np.ndarray:
    seen = Observation(
        images={}, proprio=np.zeros(8, np.float32), prompt=prompt, seed=asked.number(f"noise/{question}")
    )
    return policy.act([seen])[0].actions


def test_the_recorded_episode_itself(replaying: Callable[..., Replay], capsys: pytest.CaptureFixture[str]) -> None:
    policy = replaying([("lift", episode(i, seed=i)) for i in range(3)])
    assert policy.specs.action == libero.ACTION and policy.specs.image.cameras == ()
    for number in (2, 0):
        policy.reset([episode(number, seed=number)])
        np.testing.assert_array_equal(ask(policy, episode(number, seed=number)), actions(number).astype(np.float32))
    assert not capsys.readouterr().err


def test_else_the_same_initial_state(replaying: Callable[..., Replay], capsys: pytest.CaptureFixture[str]) -> None:
    policy = replaying([("lift", episode(i, seed=100 + i)) for i in (4, 5, 4)])
    policy.reset([episode(5), episode(4), episode(6)])
    np.testing.assert_array_equal(ask(policy, episode(5)), actions(1).astype(np.float32))
    np.testing.assert_array_equal(ask(policy, episode(4)), actions(0).astype(np.float32))
    assert capsys.readouterr().err.count("fixtures may stand elsewhere") == 1
    with pytest.raises(UserError, match="initial states 4, 5"):
        ask(policy, episode(6))


def test_else_the_number(replaying: Callable[..., Replay], capsys: pytest.CaptureFixture[str]) -> None:
    policy = replaying([("lift", None), ("push", None), ("lift", None)])
    policy.reset([episode(1), episode(0, task=1), episode(2)])
    np.testing.assert_array_equal(ask(policy, episode(1)), actions(2).astype(np.float32))
    np.testing.assert_array_equal(ask(policy, episode(0, task=1), prompt="push"), actions(1).astype(np.float32))
    assert capsys.readouterr().err.count("demonstration i is replayed for initial state i") == 1
    with pytest.raises(UserError, match="it has 2"):
        ask(policy, episode(2))


def test_chunks_of_any_protocol(replaying: Callable[..., Replay]) -> None:
    """Put together as they are executed, answers are the demonstration, then stillness with the gripper as it was."""
    wanted = actions(0).astype(np.float32)
    for replan in (1, 5, 8, 20, 50):
        policy = replaying([("lift", episode())], replan=replan)
        policy.reset([episode()])
        answers = [ask(policy, episode(), question) for question in range(60 // replan + 1)]
        assert {len(answer) for answer in answers} == {replan}
        executed = np.concatenate(answers)
        np.testing.assert_array_equal(executed[:20], wanted)
        np.testing.assert_array_equal(executed[20:], np.tile([0, 0, 0, 0, 0, 0, 1.0], (len(executed) - 20, 1)))
    policy = replaying([("lift", episode())])
    policy.reset([episode()])
    assert [len(ask(policy, episode(), question)) for question in range(3)] == [20, 8, 8]


def test_many_episodes_at_once_and_again(replaying: Callable[..., Replay]) -> None:
    policy = replaying([("lift", episode(i)) for i in range(30)], replan=8)
    policy.reset([episode(i) for i in range(30)])
    for question in range(3):
        for number in range(30):
            part = actions(number)[question * 8 : question * 8 + 8].astype(np.float32)
            np.testing.assert_array_equal(ask(policy, episode(number), question)[: len(part)], part)
    policy.reset([episode(3)])
    np.testing.assert_array_equal(ask(policy, episode(3)), actions(3)[:8].astype(np.float32))


def test_who_never_began_is_not_answered(replaying: Callable[..., Replay]) -> None:
    with pytest.raises(ValueError, match="under way"):
        ask(replaying([("lift", episode())]), episode())


def test_a_sentence_of_two_tasks(replaying: Callable[..., Replay], monkeypatch: pytest.MonkeyPatch) -> None:
    made = Set([("lift", None), ("lift", None)])
    made.episodes = (made.episodes[0], EpisodeRef(id="b", task="other", prompt="lift", length=20, where={"number": 1}))
    monkeypatch.setattr(replay, "open_source", lambda path: made)
    policy = Replay("demos")
    policy.reset([episode()])
    with pytest.raises(UserError, match="several tasks with the sentence"):
        ask(policy, episode())


def test_an_identity_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        replay._identity({"episode": {"suite": "x", "planet": 3}})


def test_it_is_identified_by_its_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def identity(content: str) -> dict[str, Any]:
        (tmp_path / "a.hdf5").write_text(content)
        monkeypatch.setattr(replay, "open_source", lambda path: Set([], [tmp_path / "a.hdf5"]))
        return Replay("demos").identity

    assert identity("one") == identity("one") != identity("two")


def test_files_as_handeye_demos_writes_them(tmp_path: Path) -> None:
    from handeye.data.hdf5.demo import TaskHeader, record
    from handeye.data.hdf5.write import write_task_file

    def demo(number: int) -> Any:
        steps, random = 20, np.random.default_rng(number)
        states, quaternions = random.normal(size=(steps, 30)), np.tile([0.0, 0.0, 0.0, 1.0], (steps, 1))
        return record(
            actions=actions(number),
            states=states,
            images={name: np.zeros((steps, 8, 8, 3), np.uint8) for name in libero.CAMERAS},
            robot_states=np.concatenate([random.normal(size=(steps, 5)), quaternions], axis=1),
            joint_states=states[:, 1:8],
            info={"episode": asdict(episode(number))},
        )

    header = TaskHeader(name="lift_it", language="lift it", env_name="Lift", problem_name="lift")
    write_task_file(tmp_path / "lift_it_demo.hdf5", header, [demo(number) for number in range(3)])
    policy = Replay(str(tmp_path), replan=5)
    policy.reset([episode(2)])
    np.testing.assert_array_equal(ask(policy, episode(2), 1, prompt="lift it"), actions(2)[5:10].astype(np.float32))
    assert len(policy.identity["demonstrations"]) == 64


def test_no_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Replay(str(tmp_path / "nothing"))
