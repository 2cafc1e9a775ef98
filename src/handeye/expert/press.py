"""The skill for a key that goes down: close the hand above it and push until it counts as on."""

from __future__ import annotations

import mujoco
import numpy as np

from handeye.expert.fixtures import Hinge, joints_and_limits
from handeye.expert.grasps import TIP, down
from handeye.expert.skills import CLEARANCE, CLOSED_HAND, Command, Pose, Progress, Script, World, reach, travel_height

ABOVE = 0.02
"""From the key to the finger tips before the push (m)."""

DEEP = 0.03
"""How far below the hand its goal is while it pushes (m): enough to overcome the spring, little enough to go slowly."""


def is_key(world: World, name: str) -> bool:
    """Whether what is switched slides, rather than turns."""
    joints, _ = joints_and_limits(world, name)
    return bool(world.model.joint(joints[0]).type == mujoco.mjtJoint.mjJNT_SLIDE)


def press(world: World, name: str) -> Script:
    """The solver asks again, from where the hand is then, if the key did not go down far enough."""
    joints, _ = joints_and_limits(world, name)
    key = Hinge(world, joints[0]).cloud()
    top = np.array([*((key.low + key.high) / 2)[:2], key.high[2]])
    rot = down(0.0)
    above = Pose(pos=top + np.array([0.0, 0.0, TIP + ABOVE]), rot=rot)
    height = travel_height(world.others(), world.pos, top) + TIP + CLEARANCE
    yield from reach(world, above, CLOSED_HAND, height=height, far=0.01)
    progress = Progress(world)
    while not progress.halted():
        yield Command(pos=np.array([*top[:2], world.pos[2] - DEEP]), rot=rot, grip=CLOSED_HAND)
