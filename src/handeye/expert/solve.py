"""From a task's goal to actions: which predicates are open, in what order to satisfy them, with which skills."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from handeye.expert.fixtures import drag, joints_and_limits, open_end, pull_open, push_shut, turn
from handeye.expert.grasps import Grasp, Taste, best, candidates
from handeye.expert.places import covered, drop_spot, find_spot
from handeye.expert.press import is_key, press
from handeye.expert.skills import (
    CLOSED_HAND,
    OPEN_HAND,
    Command,
    LostError,
    NoWayError,
    Pose,
    Script,
    World,
    carry,
    pick,
    reach,
    release,
    retreat,
    servo,
)
from handeye.sim.world import Predicate

if TYPE_CHECKING:
    from handeye.sim.task_env import TaskEnv

FIRST = ("open", "turnon", "turnoff", "on", "in", "close")
"""Order of subtasks: what must be open before something goes in, what is closed at the end."""


TRIES = 20
"""Subtasks that are begun before the expert gives up and stays where it is."""

HAND_COST = 0.5
"""The best grasp for taking is kept if the hand makes putting no dearer than this (costs of places.find_spot): it may
keep a small thing 12 cm above the ground of a basket."""

DRAWER_CARE = 3.0
"""How much more the place in a drawer weighs than another one: what stands askew there keeps it from shutting."""

LEANS = (-0.25, 0.25, -0.5, 0.5)
"""Tilts of the hand (grasps.Taste) that are tried where nothing can be taken upright, since the palm hits a neighbour;
and also when a drawer stands open, perhaps over the thing."""


class Expert:
    """Solves the task an environment is in. Ask `act` for an action, step the environment with it, ask again."""

    def __init__(self, env: TaskEnv, *, noise: float = 0.0, speed: float = 1.0, seed: int = 0) -> None:
        """`noise`: standard deviation of what is added to the arm's actions (1 is full speed). `speed`: share of the
        greatest speed."""
        self._env, self._noise, self._speed, self._seed = env, noise, speed, seed
        self.reset()

    def reset(self) -> None:
        """The environment was put in a new state."""
        self._random = np.random.default_rng(self._seed)
        self._world: World | None = None
        self._script: Script = iter(())
        self._grip = OPEN_HAND
        self._drift: Float[np.ndarray, "6"] = np.zeros(6)
        self.note = ""
        """What the last subtask failed at, or why no other was begun; empty when it went well."""
        self.losses = 0
        """How often a skill had to start again."""

    @property
    def done(self) -> bool:
        return self._env.success()

    def act(self) -> Float[np.ndarray, "7"]:
        if self._world is None:
            self._world = World(self._env)
            self._script = solve(self._world, self)
        command = next(self._script, None)
        if command is None:
            command = Command(pos=self._world.pos, rot=self._world.rot, grip=self._grip)
        self._grip = command.grip
        action = servo(self._world, command, speed=self._speed)
        if self._noise:
            # Correlated over some steps, so that it moves the arm instead of averaging out.
            self._drift = 0.8 * self._drift + 0.6 * self._random.normal(size=6)
            action[:6] += self._noise * self._drift * [1, 1, 1, 0.3, 0.3, 0.3]
        return np.clip(action, -1.0, 1.0)


def solve(world: World, expert: Expert) -> Script:
    """Work on open predicates until none is left; what went wrong is tried again."""
    blocked = 0
    for _ in range(TRIES):
        truths = world.env.truths()
        todo = [p for p in sorted(world.scene.problem.goal, key=lambda p: FIRST.index(p[0])) if not truths[p]]
        if not todo:
            return
        try:
            yield from _achieve(world, todo[0])
        except NoWayError as none:
            blocked += 1
            expert.note = str(none)
            if blocked == 3:
                expert.note = f"gave up: {none}"
                return
            yield from retreat(world)
        except LostError as lost:
            expert.note, expert.losses, blocked = str(lost), expert.losses + 1, 0
            yield from retreat(world)
        else:
            expert.note = "" if world.env.truths()[todo[0]] else f"done, and yet not so: {' '.join(todo[0])}"
    expert.note = f"gave up after {TRIES} tries; {expert.note}"


def _achieve(world: World, predicate: Predicate) -> Script:
    match predicate:
        case ("on" | "in", thing, place):
            yield from put(world, predicate, thing, place)
        case ("open", name):
            yield from pull_open(world, name)
        case ("close", name):
            yield from push_shut(world, name)
        case ("turnon", name) if is_key(world, name):
            yield from press(world, name)
        case ("turnon" | "turnoff" as kind, name):
            yield from turn(world, name, on=kind == "turnon")
        case _:
            raise NotImplementedError(predicate)


def put(world: World, predicate: Predicate, thing: str, place: str) -> Script:
    """Pick a thing and place it where the predicate holds."""
    if _opens(world, place) and not _stands_open(world, place):
        yield from pull_open(world, place, wide=True)
    if world.scene.parts[thing].category == "plate" and place in world.scene.places:
        yield from drag(world, thing, place)
        return
    grasp = choose_grasp(world, predicate, thing)
    yield from pick(world, thing, grasp)
    if _opens(world, place):
        yield from _from_under(world, thing)
    held = Pose(pos=world.pos, rot=world.rot)
    found = find_spot(world, predicate, held)
    yield from carry(world, thing, found[1] if found else drop_spot(world, predicate, held))
    yield from release(world, Pose(pos=world.pos, rot=world.rot))
    yield from retreat(world)


def choose_grasp(world: World, predicate: Predicate, thing: str) -> Grasp:
    """The grasp that is good for taking the thing and for putting it where it should go."""
    shape, around = world.cloud(thing), world.others(thing)
    opens = _opens(world, predicate[2])
    upright = None if opens else best(shape, around, Taste())
    leaning = Taste(tilts=(0.0, *LEANS))
    grasps = [upright] if upright else candidates(shape, around, leaning, want=8, different=True)
    if not grasps:
        raise NoWayError(thing, "it can be taken nowhere without hitting something")
    care = DRAWER_CARE if opens else 1.0
    ideal = find_spot(world, predicate, None)
    found = find_spot(world, predicate, Pose(pos=grasps[0].pos, rot=grasps[0].rot))
    if found and ideal and care * (found[0] - ideal[0]) < HAND_COST:
        return grasps[0]
    if upright and ideal:
        grasps += candidates(shape, around, Taste(), want=8, different=True)
    ranked = []
    for rank, grasp in enumerate(grasps):
        found = find_spot(world, predicate, Pose(pos=grasp.pos, rot=grasp.rot))
        ranked.append((care * found[0] - grasp.score if found else np.inf, rank))
    cost, best_rank = min(ranked)
    if cost == np.inf and covered(world, predicate):
        raise NoWayError(thing, f"no hand that holds it fits into {predicate[2]}")
    return grasps[best_rank]


def _from_under(world: World, thing: str) -> Script:
    """Bring a held thing sideways out from under what hangs over it (an open drawer), the shortest way."""
    body, others = world.cloud(thing), world.others(thing)
    centre = (body.low + body.high)[:2] / 2
    radius = float(np.linalg.norm(body.points[:, :2] - centre, axis=1).max())
    around = others[others[:, 2] > body.low[2] + 0.02][:, :2]
    above = others[others[:, 2] > body.high[2] + 0.01][:, :2]
    if not np.any(np.linalg.norm(above - centre, axis=1) < radius):
        return
    steps = 0.01 * np.arange(-20, 21)
    shifts = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    for shift in shifts[np.argsort(np.linalg.norm(shifts, axis=1), kind="stable")]:
        if np.linalg.norm(around - centre - shift, axis=1).min() > radius + 0.02:
            goal = Pose(pos=world.pos + np.array([*shift, 0.03]), rot=world.rot)
            yield from reach(world, goal, CLOSED_HAND, height=float(goal.pos[2]), far=0.015)
            return


def _opens(world: World, place: str) -> bool:
    """Whether it is a drawer. (A basket's region knows a joint too: the one by which the basket moves freely.)"""
    known = world.scene.places.get(place)
    owner = known and world.scene.parts.get(known.owner or "")
    return bool(known and known.joints and owner and owner.articulation)


def _stands_open(world: World, place: str) -> bool:
    """Pulled out as far as it goes, or nearly: there is no room to spare in a drawer."""
    joints, limits = joints_and_limits(world, place)
    return limits.is_open is None or abs(world.joint(joints[0]) - open_end(world, place)) < 0.008
