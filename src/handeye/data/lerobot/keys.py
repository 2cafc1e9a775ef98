"""What the columns of LIBERO's LeRobot copies are called. The names differ between hubs; nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from handeye.conventions.libero import CAMERAS

Version = Literal["v2.0", "v2.1", "v3.0"]
"""Of the layout on the disk (`codebase_version`), not of the library."""

ImageKind = Literal["png", "av1", "h264"]
"""Pictures in the data files, without loss, or videos beside them."""

KeyStyle = Literal["openpi", "lerobot", "lerobot-wrist"]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Names of one style."""

    agentview: str
    wrist: str
    state: str
    """Proprioception, 8 wide."""

    actions: str
    """7 wide, gripper as LIBERO's: -1 opens, +1 closes."""

    @property
    def cameras(self) -> Mapping[str, str]:
        """Our name -> theirs."""
        return dict(zip(CAMERAS, (self.agentview, self.wrist), strict=True))


STYLES: Mapping[KeyStyle, Keys] = {
    # physical-intelligence/libero (openpi examples/libero/convert_libero_data_to_lerobot.py)
    "openpi": Keys(agentview="image", wrist="wrist_image", state="state", actions="actions"),
    # lerobot/libero, HuggingFaceVLA/libero
    "lerobot": Keys(
        agentview="observation.images.image",
        wrist="observation.images.image2",
        state="observation.state",
        actions="action",
    ),
    # lerobot/libero_{spatial,object,goal,10}_image
    "lerobot-wrist": Keys(
        agentview="observation.images.image",
        wrist="observation.images.wrist_image",
        state="observation.state",
        actions="action",
    ),
}

ROWS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns of every LeRobot set: seconds since the episode's start, row of the episode, of the set, and so on."""

JOINTS = "observation.states.joint_state"
SUCCESS = "next.success"
KNOWN_EXTRAS: Mapping[str, str] = {
    JOINTS: "the arm's joints",
    SUCCESS: "the goal holds after this action",
    "next.done": "the recording ends here, whatever it reached: not read",
    "next.reward": "not read",
    "observation.states.ee_state": "the first six of the state once more: not read",
    "observation.states.gripper_state": "the last two of the state once more: not read",
}
"""What some copies hold besides."""


def style_of(names: set[str]) -> Keys | None:
    """The one style all of whose columns are there, if everything else is known too."""
    for keys in STYLES.values():
        own = {keys.agentview, keys.wrist, keys.state, keys.actions}
        if own <= names and names - own <= {*ROWS, *KNOWN_EXTRAS}:
            return keys
    return None
