"""One demonstration and its task as LIBERO's HDF5 files hold them: what a recorder fills in and a reader gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from handeye.conventions import proprio
from handeye.conventions.rotation import axis_angle_robosuite
from handeye.data.source import Observed
from handeye.types import Episode


@dataclass(frozen=True, kw_only=True)
class TaskHeader:
    """What a file says about its task, under the names that LIBERO uses."""

    name: str
    """Task name, with its folder in the set if there is one; the file is `<name>_demo.hdf5`."""

    language: str
    """The sentence that a policy gets."""

    env_name: str = ""
    """Problem class as written there: `Libero_Tabletop_Manipulation`. This and what follows is empty where the
    demonstrations come from a format that does not hold it."""

    problem_name: str = ""
    """Problem class in lower case."""

    bddl_file: str = ""
    bddl_text: str = ""
    env_args: Mapping[str, Any] = field(default_factory=dict)
    """`env_kwargs` of the file's env_args: how the environment was made."""


@dataclass(frozen=True, kw_only=True)
class DemoRecord:
    """T steps. Images are upright here and stored bottom row first, as LIBERO's are."""

    actions: Float64[np.ndarray, "T 7"]
    states: Float64[np.ndarray, "T D"] | None
    """Simulator state (time, qpos, qvel) before each action. None: converted from a format that has none."""

    images: Mapping[str, UInt8[np.ndarray, "T H W 3"]]
    """`agentview` and `wrist`."""

    robot_states: Float64[np.ndarray, "T 9"]
    """Finger positions 2, end effector position 3, orientation x, y, z, w."""

    joint_states: Float64[np.ndarray, "T 7"] | None
    """None: as for `states`."""

    ee_states: Float64[np.ndarray, "T 6"]
    gripper_states: Float64[np.ndarray, "T 2"]
    rewards: UInt8[np.ndarray, "T"]
    dones: UInt8[np.ndarray, "T"]
    observed: Observed
    """Whether row t of everything observed (all but `states` and `actions`) was seen before or after action t."""

    init_state: Float64[np.ndarray, "D"] | None = None
    model_file: str = ""
    """MJCF text of the scene."""

    info: Mapping[str, Any] = field(default_factory=dict)
    """How it was made (episode identity, seed, speed, ...): ours, JSON, not part of LIBERO's layout."""

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def succeeded(self) -> bool:
        return bool(self.dones[-1])

    def episode(self, *, id: str, task: str, prompt: str, source: Mapping[str, Any]) -> Episode:
        """Each action with what was seen before it. Where the file holds what was seen after it, row t - 1 belongs to
        action t; the first action, with nothing before it, and the last view, with nothing after it, are left out."""
        cut = 1 if self.observed == "after" else 0
        seen = slice(0, len(self) - cut)
        return Episode(
            id=id,
            task=task,
            prompt=prompt,
            images={name: frames[seen] for name, frames in self.images.items()},
            proprio=proprio.from_hdf5(self.ee_states, self.gripper_states)[seen],
            actions=self.actions[cut:],
            states=None if self.states is None else self.states[cut:],
            joints=None if self.joint_states is None else self.joint_states[seen],
            success=self.succeeded,
            source={**source, "observed": self.observed, "actions_left_out": cut},
        )


def record(
    *,
    actions: Float64[np.ndarray, "T 7"],
    states: Float64[np.ndarray, "T D"],
    images: Mapping[str, UInt8[np.ndarray, "T H W 3"]],
    robot_states: Float64[np.ndarray, "T 9"],
    joint_states: Float64[np.ndarray, "T 7"],
    model_file: str = "",
    info: Mapping[str, Any] | None = None,
) -> DemoRecord:
    """A successful demonstration as a recorder sees it: it looked before each action, and the last one reached the
    goal. What LIBERO stores twice (ee_states, gripper_states) is derived."""
    finished = np.zeros(len(actions), np.uint8)
    finished[-1] = 1
    return DemoRecord(
        actions=actions,
        states=states,
        images=images,
        robot_states=robot_states,
        joint_states=joint_states,
        ee_states=np.concatenate([robot_states[:, 2:5], axis_angle_robosuite(robot_states[:, 5:9])], axis=1),
        gripper_states=robot_states[:, :2],
        rewards=finished,
        dones=finished,
        observed="before",
        init_state=states[0],
        model_file=model_file,
        info=info or {},
    )
