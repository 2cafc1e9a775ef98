"""One episode, one result. The only place that decides success."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol as Interface
from typing import runtime_checkable

import numpy as np
from jaxtyping import Float

from handeye.errors import UserError
from handeye.evaluate.video import EVERY, Film
from handeye.protocols.protocol import Protocol
from handeye.types import Env, EpisodeId, Observation


@runtime_checkable
class Mind(Interface):
    """Where a rollout's actions come from."""

    @property
    def cameras(self) -> Sequence[str] | None:
        """What it looks through; None: it never looks, because it knows the simulator's state."""
        ...

    @property
    def note(self) -> str:
        """Why it failed, if it knows; asked after an episode that did not succeed."""
        ...

    def begin(self, episode: EpisodeId) -> None: ...

    def answer(self, observation: Observation | None) -> Float[np.ndarray, "T A"]:
        """The next actions, in the environment's convention."""
        ...


@runtime_checkable
class Goal(Interface):
    """An environment that knows its goal part by part."""

    def truths(self) -> Mapping[tuple[str, ...], bool]:
        """Each part, as the words of its predicate, and whether it holds now."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """How an episode went, as far as the simulator can tell."""

    success: bool
    steps: int
    questions: int
    unstable: int
    unmet: tuple[str, ...] | None
    """Parts of the goal that do not hold at the end, such as `on plate_1 stove_1`. None: the environment knows none."""

    note: str
    hashes: dict[str, str | None]
    cpu: dict[str, float] = field(default_factory=dict, compare=False)
    """Seconds of processor time in this process: `start` (reset, settling) and `act` (steps, pictures)."""


def roll_out(env: Env, episode: EpisodeId, mind: Mind, protocol: Protocol, *, film: Film | None = None) -> Rollout:
    """Settle, then ask and act until the goal holds or the horizon is reached. Images are made only for those who look:
    the policy when its chunk has run out, the film every few steps."""
    horizon, looks = protocol.horizon(episode.suite), mind.cameras is not None

    def filmed(step: int) -> bool:
        return film is not None and step % EVERY == 0

    begun = time.process_time()
    env.reset(episode)
    hashes: dict[str, str | None] = {**env.hashes(), "observation": None}
    settle = np.array(protocol.settle_action)
    for left in reversed(range(protocol.settle_steps)):
        env.step(settle, look=left == 0 and (looks or filmed(0)))
    started = time.process_time()
    mind.begin(episode)
    queue: deque[Float[np.ndarray, "A"]] = deque()
    executed = hashlib.sha256()
    success, steps, questions, unstable = False, 0, 0, 0
    while steps < horizon and not success:
        looking = filmed(steps) or (looks and not queue)
        seen = env.observe(seed=episode.number(f"noise/{questions}")) if looking else None
        if film is not None and seen is not None and filmed(steps):
            film.add(seen)
        if not queue:
            shown = _through(mind.cameras, seen)
            if questions == 0 and shown is not None:
                hashes["observation"] = _digest(shown)
            queue.extend(_executable(mind.answer(shown), protocol))
            questions += 1
        action = queue.popleft()
        executed.update(action.tobytes())
        steps += 1
        came = env.step(action, look=filmed(steps) or (looks and not queue))
        success, unstable = came.success, unstable + came.unstable
    hashes["actions"] = executed.hexdigest()
    return Rollout(
        success=success,
        steps=steps,
        questions=questions,
        unstable=unstable,
        unmet=_unmet(env),
        note="" if success else mind.note,
        hashes=hashes,
        cpu={"start": started - begun, "act": time.process_time() - started},
    )


def _unmet(env: Env) -> tuple[str, ...] | None:
    if not isinstance(env, Goal):
        return None
    return tuple(" ".join(part) for part, holds in env.truths().items() if not holds)


def _through(cameras: Sequence[str] | None, seen: Observation | None) -> Observation | None:
    """What a mind with these cameras may know: no picture that was made for a film."""
    if cameras is None:
        return None
    assert seen is not None
    return replace(seen, images={name: seen.images[name] for name in cameras})


def _executable(actions: Float[np.ndarray, "T A"], protocol: Protocol) -> Float[np.ndarray, "t A"]:
    """As many actions as the protocol executes of a chunk, in float64: the simulator's numbers."""
    if not np.isfinite(actions).all():
        raise ValueError(f"the policy answered with numbers that are not finite: {actions.tolist()}")
    count = len(actions) if protocol.replan_steps == "chunk" else protocol.replan_steps
    if len(actions) < count:
        raise UserError(
            f"The policy answers with {len(actions)} actions.",
            why=f"protocol {protocol.name} executes {count} of each answer",
            fix="use a protocol that replans more often, or handeye-2026, which executes what there is",
        )
    return actions[:count].astype(np.float64)


def _digest(observation: Observation) -> str:
    digest = hashlib.sha256()
    for name in sorted(observation.images):
        digest.update(name.encode() + np.ascontiguousarray(observation.images[name]).tobytes())
    digest.update(observation.proprio.tobytes() + observation.prompt.encode())
    return digest.hexdigest()
