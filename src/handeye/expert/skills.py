"""Skills: reach, pick, place, pull, push, turn. Each is a generator of commands that ends when its work is done.

A command says where the hand should be now, so whatever pushes it off its way (noise, a collision) is corrected at the
next step. Motions are functions of the present state, not of time: the same situation gives the same command, which is
what a policy that imitates them needs.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np
from jaxtyping import Float

from handeye.expert.geometry import Cloud, Shapes, thin
from handeye.expert.grasps import OPEN, PLAY, TIP, Grasp, yaw

if TYPE_CHECKING:
    from handeye.sim.task_env import TaskEnv

POSITION_STEP, ROTATION_STEP = 0.05, 0.5
"""What an action of 1 asks of the controller (m, rad): facts of OSC_POSE, see sim/controller.py."""

GAIN, TURN_GAIN = 2.5, 1.5
"""Error to action. The arm covers 0.3 of what is asked in a step; above 2 it overshoots (measured in free space)."""

CLEARANCE = 0.03
"""Kept between what moves and what stands below its way (m)."""

ROOM = 0.02
"""Between a thing and each open finger (m): with less the hand comes straight down, lest a finger pushes the thing."""

OPEN_HAND, CLOSED_HAND = -1.0, 1.0


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where the hand should be, and what the gripper should do."""

    pos: Float[np.ndarray, "3"]
    rot: Float[np.ndarray, "3 3"]
    grip: float
    speed: float = 1.0
    """Share of the greatest speed."""


@dataclass(frozen=True, kw_only=True)
class Pose:
    pos: Float[np.ndarray, "3"]
    rot: Float[np.ndarray, "3 3"]


Script = Iterator[Command]


class LostError(Exception):
    """A skill cannot go on with a thing: try again from the start. Says what, and why."""

    def __init__(self, thing: str, why: str) -> None:
        super().__init__(f"{thing}: {why}")


def rotation_vector(rot: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Axis times angle."""
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(rot).reshape(9))
    vector = np.empty(3)
    mujoco.mju_quat2Vel(vector, quat, 1.0)
    return vector


class NoWayError(LostError):
    """Nothing was begun, for lack of a plan. Trying again helps only if something else moves."""


class World:
    """What the expert sees: the privileged state of one environment."""

    def __init__(self, env: TaskEnv) -> None:
        self.env = env
        self.scene, self.model, self.data = env.scene, env.model, env.data
        self.shapes = Shapes(env.scene, env.model)
        self._others: dict[tuple[float, tuple[str, ...]], np.ndarray] = {}
        self._site = self.model.site("gripper0_grip_site").id
        self._fingers = [
            g
            for g in range(self.model.ngeom)
            if self.model.geom(g).name.startswith("gripper0_") and "hand" not in self.model.geom(g).name
        ]
        joints = ("gripper0_finger_joint1", "gripper0_finger_joint2")
        self._finger_joints = [self.model.joint(name).id for name in joints]

    @property
    def pos(self) -> Float[np.ndarray, "3"]:
        return self.data.site_xpos[self._site].copy()

    @property
    def rot(self) -> Float[np.ndarray, "3 3"]:
        return self.data.site_xmat[self._site].reshape(3, 3).copy()

    @property
    def opening(self) -> float:
        """Sum of both fingers' ways: 0 closed, 0.08 open."""
        return float(sum(abs(self.data.qpos[self.model.jnt_qposadr[j]]) for j in self._finger_joints))

    @property
    def finger_speed(self) -> float:
        return float(max(abs(self.data.qvel[self.model.jnt_dofadr[j]]) for j in self._finger_joints))

    def part_pos(self, name: str) -> Float[np.ndarray, "3"]:
        return self.data.body(self.scene.parts[name].body).xpos.copy()

    def part_rot(self, name: str) -> Float[np.ndarray, "3 3"]:
        return self.data.body(self.scene.parts[name].body).xmat.reshape(3, 3).copy()

    def cloud(self, name: str) -> Cloud:
        return self.shapes.part(self.data, name)

    def others(self, *without: str) -> Float[np.ndarray, "N 3"]:
        """Everything a hand could hit, but for the parts named, thinned. Kept as long as the time stands still."""
        key = (float(self.data.time), without)
        if key not in self._others:
            self._others = {key: thin(self.shapes.others(self.data, *without).points)}
        return self._others[key]

    @property
    def floor(self) -> float:
        """Height of what the things stand on: the lowest thing's lowest point."""
        return min(float(self.cloud(p.name).low[2]) for p in self.scene.parts.values() if p.movable)

    def holds(self, name: str) -> bool:
        """Both fingers touch it."""
        mine, wanted = set(self._fingers), set(self.shapes.geoms[name])
        sides = set()
        centre, across = self.data.site_xpos[self._site], self.data.site_xmat[self._site].reshape(3, 3)[:, 0]
        for g1, g2 in self.data.contact.geom.tolist():
            for finger, thing in ((g1, g2), (g2, g1)):
                if finger in mine and thing in wanted:
                    sides.add(bool((self.data.geom_xpos[finger] - centre) @ across > 0))
        return len(sides) == 2

    def joint(self, name: str) -> float:
        return float(self.data.qpos[self.model.joint(name).qposadr[0]])


def servo(world: World, command: Command, *, speed: float = 1.0) -> Float[np.ndarray, "7"]:
    """The action that moves the hand towards a command. Plane, height, turn and gripper are limited apart, so a long
    way to go in one does not starve the others."""
    cap = command.speed * speed
    action = np.zeros(7)
    action[:3] = GAIN * (command.pos - world.pos) / POSITION_STEP
    length = float(np.linalg.norm(action[:2]))
    action[:2] *= min(1.0, cap / max(length, 1e-9))
    action[2] = np.clip(action[2], -cap, cap)
    turn = TURN_GAIN * rotation_vector(command.rot @ world.rot.T) / ROTATION_STEP
    action[3:6] = turn * min(1.0, cap / max(float(np.linalg.norm(turn)), 1e-9))
    action[6] = command.grip
    return action


def near(world: World, pos: Float[np.ndarray, "3"], rot: Float[np.ndarray, "3 3"], far: float, turned: float) -> bool:
    return (
        float(np.linalg.norm(pos - world.pos)) < far
        and float(np.linalg.norm(rotation_vector(rot @ world.rot.T))) < turned
    )


class Progress:
    """Notices that the hand has come to a halt."""

    def __init__(self, world: World, *, patience: int = 10) -> None:
        self._world, self._patience = world, patience
        self._seen: list[tuple[np.ndarray, np.ndarray]] = []

    def halted(self) -> bool:
        """Call once a step. True when the hand has stayed within 4 mm and 0.05 rad for `patience` steps."""
        self._seen.append((self._world.pos, self._world.rot))
        if len(self._seen) <= self._patience:
            return False
        pos, rot = self._seen.pop(0)
        return (
            float(np.linalg.norm(pos - self._world.pos)) < 0.004
            and float(np.linalg.norm(rotation_vector(rot @ self._world.rot.T))) < 0.05
        )


def travel_height(
    points: Float[np.ndarray, "N 3"], start: Float[np.ndarray, "3"], goal: Float[np.ndarray, "3"], *, wide: float = 0.08
) -> float:
    """The highest point below a straight way, within `wide` of it."""
    way = (goal - start)[:2]
    along = np.clip((points[:, :2] - start[:2]) @ way / max(float(way @ way), 1e-9), 0, 1)
    aside = np.linalg.norm(points[:, :2] - start[:2] - along[:, None] * way, axis=1)
    below = points[aside < wide]
    return float(below[:, 2].max()) if len(below) else -np.inf


def hop(
    world: World, goal: Float[np.ndarray, "3"], height: float, *, slope: float = 2.5, play: float = 0.01
) -> Float[np.ndarray, "3"]:
    """The next point of an arc that rises first, travels at `height`, and comes down steeply onto the goal, to its end
    once it is `play` metres aside."""
    here = world.pos
    distance = float(np.linalg.norm((goal - here)[:2]))
    wish = min(max(height, goal[2]), goal[2] + slope * max(0.0, distance - play))
    lag = wish - here[2]
    share = float(np.clip(1.0 - (lag - 0.015) / 0.04, 0.0, 1.0))
    return np.array([*(here[:2] + share * (goal - here)[:2]), wish])


def reach(
    world: World,
    goal: Pose,
    grip: float,
    *,
    height: float,
    far: float = 0.006,
    turned: float = 0.08,
    slope: float = 2.5,
) -> Generator[Command, None, bool]:
    """Move the hand to a pose, over what lies between. False if it came to a halt short of it."""
    progress = Progress(world)
    while not near(world, goal.pos, goal.rot, far, turned):
        yield Command(pos=hop(world, goal.pos, height, slope=slope), rot=goal.rot, grip=grip)
        if progress.halted():
            return False
    return True


def grip(world: World, pose: Pose, *, most: int = 14) -> Script:
    """Close the hand where it is, until the fingers have stood still for two steps."""
    still = 0
    for count in range(most):
        yield Command(pos=pose.pos, rot=pose.rot, grip=CLOSED_HAND)
        still = still + 1 if count > 1 and world.finger_speed < 0.006 else 0
        if still == 2:
            return


def release(world: World, pose: Pose, *, opening: float = 0.03) -> Script:
    """Open the hand where it is, by `opening` or to the end."""
    start = world.opening
    for _ in range(10):
        yield Command(pos=pose.pos, rot=pose.rot, grip=OPEN_HAND)
        if world.opening > min(start + opening, 0.075):
            return


def retreat(world: World, *, by: float = 0.08, grip: float = OPEN_HAND) -> Script:
    """Back along the approach."""
    rot, start = world.rot, world.pos
    goal = start - by * rot[:, 2]
    for _ in range(30):
        if np.linalg.norm(goal - world.pos) < 0.02:
            return
        yield Command(pos=goal, rot=rot, grip=grip)


def pick(world: World, name: str, grasp: Grasp) -> Script:
    """Reach a grasp of a thing, wherever it has moved since it was chosen, and close. LostError if nothing is held."""
    origin, turn = world.part_pos(name), world.part_rot(name)
    pos, rot = turn.T @ (grasp.pos - origin), turn.T @ grasp.rot
    around = np.concatenate([world.others(name), world.cloud(name).points])
    height = travel_height(around, world.pos, grasp.pos) + TIP + CLEARANCE
    slope, play = (2.5, 0.01) if OPEN - grasp.width / 2 > ROOM else (6.0, PLAY)

    def goal() -> Pose:
        now, facing = world.part_pos(name), world.part_rot(name)
        if np.linalg.norm(now - origin) > 0.15:
            raise LostError(name, "it moved away while the hand was coming")
        return Pose(pos=facing @ pos + now, rot=facing @ rot)

    progress = Progress(world)
    while True:
        pose = goal()
        if near(world, pose.pos, pose.rot, 0.006, 0.08):
            break
        if progress.halted():
            if np.linalg.norm(pose.pos - world.pos) < 0.03:
                break
            raise LostError(name, "the hand came to a halt on its way")
        yield Command(pos=hop(world, pose.pos, height, slope=slope, play=play), rot=pose.rot, grip=OPEN_HAND)
    yield from grip(world, Pose(pos=pose.pos, rot=pose.rot))
    if not world.holds(name):
        raise LostError(name, "the hand closed and does not hold it")


@dataclass(frozen=True, kw_only=True)
class Spot:
    """Where a held thing should go: the pose of its body when it is let go."""

    pos: Float[np.ndarray, "3"]
    turn: float = 0.0
    """About the vertical, relative to how it is held now (rad)."""


def carry(world: World, name: str, spot: Spot, *, slope: float = 2.5) -> Script:
    """Bring the held thing to its spot, over what lies between. LostError if it is dropped on the way."""
    rot = yaw(spot.turn) @ world.rot
    thing, others = world.cloud(name), world.others(name)
    hang = world.pos[2] - min(float(thing.low[2]), world.pos[2] - TIP)  # lowest moving point below the grip site
    start = world.pos
    size = float(np.max(np.linalg.norm((thing.points - start)[:, :2], axis=1)))
    wide = max(0.06, min(size, 0.12))
    goal = spot.pos + rot @ (world.rot.T @ (world.pos - world.part_pos(name)))
    height = max(travel_height(others, start, goal, wide=wide) + hang + CLEARANCE, start[2] + 0.03)
    progress, missing = Progress(world), 0
    while True:
        held = world.rot.T @ (world.part_pos(name) - world.pos)
        pose = Pose(pos=spot.pos - rot @ held, rot=rot)
        if near(world, pose.pos, pose.rot, 0.008, 0.10):
            return
        if progress.halted():
            if np.linalg.norm(pose.pos - world.pos) < 0.04:
                return
            raise LostError(name, "the hand that carries it came to a halt on its way")
        missing = 0 if world.holds(name) else missing + 1
        if missing > 4:
            raise LostError(name, "it was dropped on the way")
        yield Command(pos=hop(world, pose.pos, height, slope=slope), rot=rot, grip=CLOSED_HAND)
