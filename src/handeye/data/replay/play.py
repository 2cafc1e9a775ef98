"""Go through a recorded episode again in the simulator: does it still succeed, and how far does it drift?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from handeye.conventions.rotation import axis_angle_robosuite
from handeye.data.replay.start import Start
from handeye.errors import UserError
from handeye.protocols.presets import OPEN_AND_STILL, handeye_2026
from handeye.sim.task_env import TaskEnv


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen before each action that was replayed, up to the one that succeeded."""

    images: Mapping[str, UInt8[np.ndarray, "N H W 3"]]
    proprio: Float64[np.ndarray, "N 8"]
    joints: Float64[np.ndarray, "N 7"]
    states: Float64[np.ndarray, "N D"]
    actions: Float64[np.ndarray, "N 7"]


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """How it went."""

    success: bool
    steps: int
    """Actions until it succeeded, or all of them."""

    drift: float | None
    """Largest distance of any position or joint (metres, radians) from the recording before the last action. None where
    steps were left out, so that rows no longer correspond."""

    seen: Seen | None


def play(
    env: TaskEnv, start: Start, *, kept: np.ndarray | None = None, settle: int = 0, look: bool = False
) -> Replayed:
    """`kept`: the rows to execute (None: all). `settle`: steps of standing still with the gripper open before the
    first, for scenes that are set to a state; one that is made from its identity settles as when it was recorded."""
    begin(env, start, settle=settle, look=look)
    rows = np.arange(len(start.actions)) if kept is None else np.flatnonzero(kept)
    exact = kept is None and (settle == 0 or start.identity is not None)
    drift, success, steps = 0.0, False, 0
    frames: list[Mapping[str, np.ndarray]] = []
    bodies: list[np.ndarray] = []
    states: list[np.ndarray] = []
    for row in rows:
        if look:
            frames.append(env.observe().images)
            bodies.append(env.proprio())
            states.append(env.state())
        if exact:
            drift = max(drift, _distance(env, start.states[row]))
        steps += 1
        success = env.step(start.actions[row], look=look).success
        if success:
            break
    seen = _seen(frames, bodies, states, start.actions[rows[:steps]]) if look else None
    return Replayed(success=success, steps=steps, drift=drift if exact else None, seen=seen)


def begin(env: TaskEnv, start: Start, *, settle: int = 0, look: bool = False) -> None:
    """Put the scene where the recording began."""
    if start.identity is not None:
        env.reset(start.identity)
        settle = handeye_2026().settle_steps  # what `handeye demos` does before its first row
    else:
        width = 1 + env.model.nq + env.model.nv
        if start.states.shape[1] != width:
            raise UserError(
                f"The states of a demonstration of {start.task.name} do not fit its scene.",
                why=f"{start.states.shape[1]} numbers there, {width} here",
                fix="it belongs to another task, or was recorded with other scene files: check its name",
            )
        env.place(np.random.RandomState(0), 1)
        env.stand(start.fixtures)
        env.set_state(np.asarray(start.states[0], np.float64))
    for left in reversed(range(settle)):
        env.step(np.array(OPEN_AND_STILL), look=look and left == 0)


def _distance(env: TaskEnv, row: np.ndarray) -> float:
    """Over qpos: time and velocities are left out."""
    return float(np.abs(env.state()[1 : 1 + env.model.nq] - row[1 : 1 + env.model.nq]).max())


def _seen(
    frames: list[Mapping[str, np.ndarray]], bodies: list[np.ndarray], states: list[np.ndarray], actions: np.ndarray
) -> Seen:
    position, quaternion, fingers, joints = np.split(np.array(bodies), [3, 7, 9], axis=1)
    felt: Any = np.concatenate([position, axis_angle_robosuite(quaternion), fingers], axis=1)
    return Seen(
        images={name: np.stack([frame[name] for frame in frames]) for name in frames[0]},
        proprio=felt,
        joints=joints,
        states=np.array(states),
        actions=np.asarray(actions, np.float64),
    )
