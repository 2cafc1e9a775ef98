"""What happens in the simulator: the policy is asked at the expert's states, and then acts by itself for a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from handeye.conventions import gripper as grippers
from handeye.conventions.spec import Specs
from handeye.diagnose.cause import Cause
from handeye.diagnose.questions import Asked, Question, only, window
from handeye.errors import UserError
from handeye.evaluate.rollout import Rollout, roll_out
from handeye.expert.solve import Expert
from handeye.protocols.protocol import Protocol
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import Env, EpisodeId, Observation, Policy

EVERY = 4
"""Steps between two questions at the expert's states."""

FULL = 0.99
"""Of the greatest action: from here on a dimension is saturated."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Where it is played."""

    tasks: tuple[Task, ...]
    """One episode of each."""

    protocol: Protocol
    sim: SimConfig
    steps: int

    def episode(self, task: Task) -> EpisodeId:
        stream, seed = self.protocol.scenes()
        return EpisodeId(suite=task.suite, task=task.index, initial_state=0, stream=stream, seed=seed)


def at_experts_states(stage: Stage, cameras: Sequence[str], chunk: int) -> Asked | None:
    """Questions along the expert's way, with what it did. None where there is no expert for the suite."""
    found: list[Question] = []
    for task in stage.tasks:
        env = suites.make(task, stage.sim)
        try:
            found += _along(env, stage.episode(task), stage, cameras, chunk)
        except (AttributeError, UserError):  # an environment that shows the expert nothing
            return None
        finally:
            env.close()
    if len(found) < 2:
        return None
    return Asked(where="at the expert's states in the simulator", questions=tuple(found), chunk=chunk)


def _along(env: Any, episode: EpisodeId, stage: Stage, cameras: Sequence[str], chunk: int) -> list[Question]:
    settle = np.array(stage.protocol.settle_action)
    env.reset(episode)
    for left in reversed(range(stage.protocol.settle_steps)):
        env.step(settle, look=left == 0)
    expert, seen, done = Expert(env), [], []
    for step in range(stage.steps):
        if step % EVERY == 0:
            [through] = only([env.observe(seed=step)], cameras)
            seen.append((step, through))
        action = np.asarray(expert.act(), np.float64)
        done.append(action)
        if env.step(action, look=(step + 1) % EVERY == 0).success:
            break
    questions = []
    for step, observation in seen:
        around, there = window(np.array(done), step, chunk)
        questions.append(Question(observation=observation, episode=episode.key, around=around, there=there))
    return questions


@dataclass
class Watched:
    """The policy as a mind whose questions and answers are kept."""

    policy: Policy
    cameras: tuple[str, ...]
    note: str = ""
    seen: list[Observation] = field(default_factory=list)
    answered: list[np.ndarray] = field(default_factory=list)

    def begin(self, episode: EpisodeId) -> None:
        self.policy.reset([episode])

    def answer(self, observation: Observation | None) -> np.ndarray:
        assert observation is not None
        [chunk] = self.policy.act([observation])
        self.seen.append(observation)
        self.answered.append(np.asarray(chunk.actions, np.float64))
        return chunk.actions


@dataclass(frozen=True, kw_only=True)
class Played:
    """Episodes by the policy."""

    rollouts: tuple[Rollout, ...]
    seen: tuple[Observation, ...]
    actions: np.ndarray
    """(S, A), as answered."""

    saturated: float
    """Share of the arm's numbers that are as large as may be."""

    still: float
    """Mean size of the arm's numbers."""

    closed: float
    """Share of answers that close the gripper."""

    changes: int
    """How often the gripper's command changes."""

    executed: int
    """Actions of each answer that are executed, and"""

    chunk: int
    """how many it has."""

    def to_json(self) -> dict[str, Any]:
        return {
            "successes": sum(rollout.success for rollout in self.rollouts),
            "episodes": len(self.rollouts),
            "steps": [rollout.steps for rollout in self.rollouts],
            "unstable": sum(rollout.unstable for rollout in self.rollouts),
            "saturated": round(self.saturated, 4),
            "mean_action": round(self.still, 4),
            "gripper_closed": round(self.closed, 4),
            "gripper_changes": self.changes,
            "executes": [self.executed, self.chunk],
        }


def play(stage: Stage, policy: Policy, specs: Specs) -> Played:
    rollouts, watched = [], Watched(policy, specs.image.cameras)
    for task in stage.tasks:
        protocol = replace(stage.protocol, horizons={task.suite: min(stage.steps, stage.protocol.horizon(task.suite))})
        env: Env = suites.make(task, stage.sim)
        try:
            rollouts.append(roll_out(env, stage.episode(task), watched, protocol))
        finally:
            env.close()
    actions = np.concatenate(watched.answered)
    arm, closed = _parts(actions, specs)
    chunk = len(watched.answered[0])
    replan = stage.protocol.replan_steps
    return Played(
        rollouts=tuple(rollouts),
        seen=tuple(watched.seen),
        actions=actions,
        saturated=float((np.abs(arm) >= FULL * specs.action.high).mean()),
        still=float(np.abs(arm).mean()),
        closed=float(closed.mean()),
        changes=int((np.diff(closed.astype(int)) != 0).sum()),
        executed=chunk if replan == "chunk" else replan,
        chunk=chunk,
    )


def _parts(actions: np.ndarray, specs: Specs) -> tuple[np.ndarray, np.ndarray]:
    """(the arm's numbers, whether the gripper closes)."""
    act = specs.action
    arm = np.delete(actions, act.gripper_index, axis=-1)
    openness = grippers.decide(actions[..., act.gripper_index], act.gripper)
    opened = grippers.convert(openness, source=act.gripper, target=grippers.Gripper.ZERO_ONE_OPEN)
    return arm, opened < 0.5


def _openness(action: Sequence[float], specs: Specs) -> float:
    act = specs.action
    value = np.array([action[act.gripper_index]])
    return float(grippers.convert(value, source=act.gripper, target=grippers.Gripper.ZERO_ONE_OPEN)[0])


def causes(played: Played, demonstrated: Sequence[np.ndarray], specs: Specs, protocol: Protocol) -> list[Cause]:
    """`demonstrated`: actions (S, A) of each demonstration."""
    arm, closed = _parts(np.concatenate(demonstrated), specs)
    begun = [int(np.argmax(_parts(actions, specs)[1])) for actions in demonstrated]  # steps until it first closes
    long_enough = min(rollout.steps for rollout in played.rollouts) > 1.5 * float(np.median(begun))
    usual, size = float((np.abs(arm) >= FULL * specs.action.high).mean()), float(np.abs(arm).mean())
    tests: list[tuple[bool, Callable[[], Cause]]] = [
        (
            played.saturated > max(0.5, 2 * usual),
            lambda: Cause(
                name="saturated actions",
                likelihood=0.5,
                what=f"{100 * played.saturated:.0f} % of what it tells the arm is as large as may be; in "
                f"demonstrations {100 * usual:.0f} % is",
                fix="look at the statistics that its answers are decoded with",
                evidence={"share": played.saturated, "demonstrations": usual},
            ),
        ),
        (
            played.still < 0.1 * size,
            lambda: Cause(
                name="hardly moves",
                likelihood=0.5,
                what=f"it tells the arm {played.still:.3f} on average; in demonstrations it is {size:.3f}",
                fix="look at the statistics that its answers are decoded with, and whether it was trained on no-ops",
                evidence={"mean": played.still, "demonstrations": size},
            ),
        ),
        (
            played.closed == 0 and closed.mean() > 0.1 and long_enough,
            lambda: Cause(
                name="gripper never closes",
                likelihood=0.35,
                what=f"in {len(played.actions)} actions it never closes the gripper; demonstrations close it in "
                f"{100 * closed.mean():.0f} %",
                fix="it may never get that far; else look at the gripper's sign and range",
                evidence={"closed": played.closed, "demonstrations": float(closed.mean())},
            ),
        ),
        (
            protocol.settle_steps > 0 and _openness(protocol.settle_action, specs) < 1,
            lambda: Cause(
                name="settling",
                likelihood=0.45,
                what="while the scene settles the protocol does not hold the gripper open: episodes begin as no "
                "demonstration does",
                fix="settle with an open gripper (settle_action ends in -1 on LIBERO)",
                evidence={"settle_action": list(protocol.settle_action)},
            ),
        ),
    ]
    return [make() for holds, make in tests if holds]
