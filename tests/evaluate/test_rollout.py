"""One episode: settling, chunks, looks and success, against a loop that does it the slow way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from handeye.evaluate.rollout import roll_out
from handeye.evaluate.video import EVERY, Film
from handeye.protocols.presets import protocol
from handeye.sim.config import SimConfig
from handeye.sim.fake import make, tasks
from handeye.types import Env, EpisodeId, Observation, Step

PROTOCOL = protocol("handeye-2026")


@dataclass
class Local:
    """The test policy of conftest.py, in this process."""

    policy: Any
    cameras: Sequence[str] | None = ("agentview", "wrist")
    seen: list[Observation | None] = field(default_factory=list)
    note: str = "gave up"

    def begin(self, episode: EpisodeId) -> None:
        self.seen.clear()

    def answer(self, observation: Observation | None) -> np.ndarray:
        self.seen.append(observation)
        return np.zeros((3, 7)) if observation is None else self.policy.answer(observation)


@dataclass
class Watched:
    """An environment that counts."""

    env: Env
    looks: int = 0
    steps: int = 0
    observed: int = 0

    def reset(self, episode: EpisodeId) -> None:
        self.looks = self.steps = self.observed = 0
        self.env.reset(episode)

    def step(self, action: np.ndarray, *, look: bool = False) -> Step:
        self.steps, self.looks = self.steps + 1, self.looks + look
        return self.env.step(action, look=look)

    def observe(self, *, seed: int = 0) -> Observation:
        self.observed += 1
        return self.env.observe(seed=seed)

    def hashes(self) -> dict[str, str]:
        return self.env.hashes()

    def close(self) -> None:
        self.env.close()


@pytest.fixture
def env() -> Watched:
    return Watched(make(tasks("fake")[1], SimConfig(camera_size=16)))


def episode(state: int) -> EpisodeId:
    return EpisodeId(suite="fake", task=1, initial_state=state)


def slowly(env: Env, policy: Any, which: EpisodeId, replan: int) -> tuple[bool, int]:
    """As published scripts do it: look at every step, ask when the chunk is used up."""
    env.reset(which)
    for _ in range(10):
        env.step(np.array([0, 0, 0, 0, 0, 0, -1.0]), look=True)
    chunk: list[np.ndarray] = []
    asked = 0
    for step in range(40):
        observation = env.observe(seed=which.number(f"noise/{asked}"))
        if not chunk:
            chunk, asked = list(policy.answer(observation)[:replan]), asked + 1
        if env.step(chunk.pop(0), look=True).success:
            return True, step + 1
    return False, 40


@pytest.mark.parametrize("replan", [1, 5, 8])
def test_same_as_the_slow_loop_with_fewer_looks(replan: int, env: Watched, reacher: Any) -> None:
    outcomes = set()
    for state in range(12):
        wanted = slowly(env, reacher, episode(state), replan)
        found = roll_out(env, episode(state), Local(reacher), replace(PROTOCOL, replan_steps=replan))
        assert (found.success, found.steps) == wanted
        assert env.observed == found.questions == -(-found.steps // replan)
        assert env.looks - env.observed in (0, 1), "the last step may announce a look that success makes needless"
        assert env.steps == found.steps + PROTOCOL.settle_steps
        outcomes.add(found.success)
    assert outcomes == {True, False}


def test_success_while_settling_does_not_count(env: Watched, reacher: Any) -> None:
    """LIBERO's scripts ignore `done` while they wait."""
    towards = replace(PROTOCOL, settle_action=(0.0,) * 7, horizons={"fake": 1})

    class There(Watched):
        def step(self, action: np.ndarray, *, look: bool = False) -> Step:
            super().step(action, look=look)
            return Step(reward=1.0, success=self.steps <= PROTOCOL.settle_steps)

    found = roll_out(There(env.env), episode(0), Local(reacher), towards)
    assert (found.success, found.steps) == (False, 1)


def test_who_knows_the_state_never_looks(env: Watched) -> None:
    mind = Local(None, cameras=None)
    found = roll_out(env, episode(0), mind, PROTOCOL)
    assert env.looks == env.observed == 0
    assert mind.seen == [None] * found.questions
    assert found.hashes["observation"] is None


def test_a_film_changes_nothing_but_adds_frames(env: Watched, reacher: Any) -> None:
    plain = roll_out(env, episode(4), Local(reacher), PROTOCOL)
    film = Film()
    assert roll_out(env, episode(4), Local(reacher), PROTOCOL, film=film) == plain
    assert len(film.frames) == -(-plain.steps // EVERY)
    roll_out(env, episode(4), Local(None, cameras=None), PROTOCOL, film=Film())


def test_the_policy_sees_its_own_cameras_only(env: Watched, reacher: Any) -> None:
    mind = Local(reacher, cameras=("wrist",))
    roll_out(env, episode(0), mind, PROTOCOL, film=Film())
    assert mind.seen
    assert all(observation is not None and set(observation.images) == {"wrist"} for observation in mind.seen)


def test_every_question_has_its_own_seed(env: Watched, reacher: Any) -> None:
    mind = Local(reacher)
    roll_out(env, episode(2), mind, replace(PROTOCOL, replan_steps=1))
    seeds = [observation.seed for observation in mind.seen if observation]
    assert len(set(seeds)) == len(seeds) > 3
    assert seeds[0] == episode(2).number("noise/0")
