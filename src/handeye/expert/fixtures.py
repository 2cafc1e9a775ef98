"""Skills for what is fixed to the world: drawers, doors, knobs, and a plate that is pushed rather than lifted."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from handeye.expert.geometry import Cloud, HeightMap
from handeye.expert.grasps import REST, TIP, Taste, about, best, down, hits, nearby
from handeye.expert.skills import (
    CLEARANCE,
    CLOSED_HAND,
    OPEN_HAND,
    Command,
    LostError,
    NoWayError,
    Pose,
    Progress,
    Script,
    World,
    grip,
    reach,
    release,
    retreat,
    rotation_vector,
    travel_height,
)
from handeye.sim.world import Articulation

BAR_TILTS = (0.9, 1.1, 1.3, 1.45)
"""Of the hand when it takes a drawer's bar (rad), the first that hits nothing: steep enough for the inner finger to fit
between bar and drawer."""

FAR_TURN = 1.5
"""From here (rad) a hand turns before it tilts."""

PUSH_TILT = 0.6
"""Of the hand when it pushes (rad): the palm stays behind the finger tips."""


class Hinge:
    """A joint of a fixture as it stands in the world."""

    def __init__(self, world: World, joint: str) -> None:
        model, data = world.model, world.data
        self.name, self._world = joint, world
        index = model.joint(joint).id
        self.body = model.body(model.jnt_bodyid[index]).name
        self.axis = data.xaxis[index].copy()
        self.anchor = data.xanchor[index].copy()

    @property
    def value(self) -> float:
        return self._world.joint(self.name)

    def cloud(self) -> Cloud:
        return self._world.shapes.cloud(self._world.data, self._world.shapes.of_body(self.body))


def joints_and_limits(world: World, name: str) -> tuple[tuple[str, ...], Articulation]:
    """Of a fixture or of a place that belongs to one."""
    part = world.scene.parts.get(name)
    joints = part.joints if part else world.scene.places[name].joints
    owner = part or world.scene.parts[world.scene.places[name].owner or ""]
    if owner.articulation is None:
        raise ValueError(f"{name} has nothing that opens, closes or turns")
    return joints, owner.articulation


def sign(limit: tuple[str, float] | None) -> float:
    """In which direction of the joint a predicate comes true."""
    return -1.0 if limit is not None and limit[0] == "<" else 1.0


def open_end(world: World, name: str) -> float:
    """Where the joint of a drawer ends when it is pulled out as far as it goes."""
    joints, limits = joints_and_limits(world, name)
    low, high = world.model.joint(joints[0]).range
    return float(low if sign(limits.is_open) < 0 else high)


def pull_open(world: World, name: str, *, wide: bool = False) -> Script:
    """Take a drawer by its bar and pull until it counts as open, or (`wide`) as far as it goes."""
    joints, limits = joints_and_limits(world, name)
    slide = Hinge(world, joints[0])
    way = sign(limits.is_open) * slide.axis
    end = open_end(world, name)
    target = (
        end - 0.003 * sign(limits.is_open)
        if wide or limits.is_open is None
        else limits.is_open[1] + 0.004 * sign(limits.is_open)
    )
    if abs(slide.value - end) < 0.05:
        yield from _pull_inside(world, slide, way, target)
    else:
        yield from _pull_bar(world, slide, way, target)
    yield from retreat(world, by=0.10)


def _pull_bar(world: World, slide: Hinge, way: Float[np.ndarray, "3"], target: float) -> Script:
    """With the bar between the fingers."""
    drawer = slide.cloud()
    depth = drawer.points @ way
    bar = drawer.points[depth > depth.max() - 0.012]
    middle = (bar.min(0) + bar.max(0)) / 2
    for tilt in BAR_TILTS:
        rot = _across(world, way, tilt)
        goal = middle + 0.0036 * rot[:, 2]
        local = nearby(goal, rot, world.others(), back=0.05)
        if not hits(local) and not hits(local, back=0.05):
            break
    outside = goal - 0.06 * rot[:, 2]
    height = travel_height(world.others(), world.pos, outside) + TIP + CLEARANCE
    yield from reach(world, Pose(pos=outside, rot=rot), OPEN_HAND, height=height, far=0.02, turned=0.15)
    yield from straight(world, Pose(pos=goal, rot=rot), OPEN_HAND)
    yield from grip(world, Pose(pos=goal, rot=rot))
    yield from _draw(world, slide, way, target, rot)
    yield from release(world, Pose(pos=world.pos, rot=rot))


def _pull_inside(world: World, slide: Hinge, way: Float[np.ndarray, "3"], target: float) -> Script:
    """With the closed fingers behind the front of a drawer that is nearly open."""
    drawer = slide.cloud()
    depth = drawer.points @ way
    bar = drawer.points[depth > depth.max() - 0.012]
    middle = (bar.min(0) + bar.max(0)) / 2
    ground = HeightMap(drawer.points, world.floor)
    inward = np.arange(0.0, 0.15, 0.003)
    heights = ground.at((middle - inward[:, None] * way)[:, :2])
    panel = int(np.argmax(heights > heights.max() - 0.01))
    behind = panel + int(np.argmax(heights[panel:] < heights.max() - 0.03))
    rot = _along(way, 0.0)
    goal = middle - (inward[behind] + 0.02) * way
    goal[2] = heights.max() - 0.022
    height = travel_height(world.others(), world.pos, goal) + TIP + CLEARANCE
    yield from reach(world, Pose(pos=goal, rot=rot), CLOSED_HAND, height=height, slope=6.0)
    yield from _draw(world, slide, way, target, rot)


def _draw(
    world: World, slide: Hinge, way: Float[np.ndarray, "3"], target: float, rot: Float[np.ndarray, "3 3"]
) -> Script:
    """Along a slide's way until its joint is there, or nothing moves."""
    start, progress = world.pos, Progress(world)
    side = float(np.sign(target - slide.value))
    while side * (target - slide.value) > 0 and not progress.halted():
        on_line = start + way * float((world.pos - start) @ way)
        yield Command(pos=on_line + 0.08 * way, rot=rot, grip=CLOSED_HAND)


def _across(world: World, way: Float[np.ndarray, "3"], tilt: float) -> Float[np.ndarray, "3 3"]:
    """The hand closing along `way` when it points down, tilted so that it approaches against `way`."""
    down_axis, flat = np.array([0, 0, -1.0]), np.array([*way[:2], 0.0])
    approach = np.cos(tilt) * down_axis - np.sin(tilt) * flat
    closing = np.cos(tilt) * flat + np.sin(tilt) * down_axis
    if closing @ REST[:, 0] < 0:
        closing = -closing
    return np.stack([closing, np.cross(approach, closing), approach], -1)


def _along(way: Float[np.ndarray, "3"], tilt: float) -> Float[np.ndarray, "3 3"]:
    """The hand closing across `way`, leaning so that its tips go first."""
    angle = np.arctan2(way[1], way[0])  # of the closing axis, as `down` counts: across `way`
    angle = (angle + np.pi / 3) % np.pi - np.pi / 3  # the wrist turns further to the positive side
    rot = down(angle)
    lean = about(rot[:, 0], tilt) @ rot
    return lean if lean[:, 2] @ way > 0 else about(rot[:, 0], -tilt) @ rot


def push_shut(world: World, name: str) -> Script:
    """Push a drawer or a door until it counts as closed."""
    joints, limits = joints_and_limits(world, name)
    for joint in joints:
        if world.model.joint(joint).type == 2:
            yield from _push_drawer(world, Hinge(world, joint), limits)
        else:
            yield from _push_door(world, Hinge(world, joint), limits)


def _swing(world: World, pos: Float[np.ndarray, "3"], rot: Float[np.ndarray, "3 3"], height: float) -> Script:
    """Before a long turn into a tilted pose: turn upright, above it. On the shortest way there the hand would lean over
    until a joint of the arm ends."""
    if float(np.linalg.norm(rotation_vector(rot @ world.rot.T))) > FAR_TURN:
        upright = about(np.cross(rot[:, 2], [0, 0, -1.0]) / max(np.hypot(*rot[:2, 2]), 1e-9), _tilt(rot)) @ rot
        above = np.array([*pos[:2], height])
        yield from reach(world, Pose(pos=above, rot=upright), CLOSED_HAND, height=height, far=0.05, turned=0.4)


def _tilt(rot: Float[np.ndarray, "3 3"]) -> float:
    return float(np.arccos(np.clip(-rot[2, 2], -1, 1)))


def _push_drawer(world: World, slide: Hinge, limits: Articulation) -> Script:
    inward = sign(limits.is_close) * slide.axis
    drawer = slide.cloud()
    depth = drawer.points @ inward
    front = drawer.points[depth < depth.min() + 0.012]
    middle = (front.min(0) + front.max(0)) / 2
    rot = _along(inward, PUSH_TILT)
    start = middle - 0.05 * inward
    start[2] = max(middle[2] - 0.005, world.floor + TIP + 0.004)
    height = travel_height(world.others(), world.pos, start) + TIP + CLEARANCE
    yield from _swing(world, start, rot, height)
    yield from reach(world, Pose(pos=start, rot=rot), CLOSED_HAND, height=height, far=0.02, turned=0.2, slope=4.0)
    progress = Progress(world, patience=15)
    while not progress.halted():
        on_line = start + inward * float((world.pos - start) @ inward)
        yield Command(pos=on_line + 0.08 * inward, rot=rot, grip=CLOSED_HAND)
    yield from retreat(world, grip=CLOSED_HAND)


def _push_door(world: World, hinge: Hinge, limits: Articulation) -> Script:
    door = hinge.cloud()
    flat = (door.points - hinge.anchor) * [1, 1, 0]
    arm = flat[np.argmax(np.linalg.norm(flat, axis=1))]
    arm /= np.linalg.norm(arm)
    shut = np.cross(sign(limits.is_close) * hinge.axis, arm)
    outer = float((flat @ shut).min())
    far = float((flat @ arm).max())
    reach_out = 0.75 * far
    point = hinge.anchor + reach_out * arm + (outer - 0.04) * shut
    point[2] = (door.low[2] + door.high[2]) / 2 + 0.02
    rot = _along(shut, PUSH_TILT)
    height = travel_height(world.others(), world.pos, point) + TIP + CLEARANCE
    yield from _swing(world, point, rot, height)
    yield from reach(world, Pose(pos=point, rot=rot), CLOSED_HAND, height=height, far=0.02, turned=0.2)
    progress = Progress(world, patience=15)
    while not progress.halted():
        radius = (world.pos - hinge.anchor) * [1, 1, 0]
        radius /= np.linalg.norm(radius)
        onward = np.cross(sign(limits.is_close) * hinge.axis, radius)
        pos = hinge.anchor + (reach_out * radius + 0.08 * onward)
        yield Command(pos=np.array([pos[0], pos[1], point[2]]), rot=rot, grip=CLOSED_HAND)
    yield from retreat(world, grip=CLOSED_HAND)


def turn(world: World, name: str, *, on: bool) -> Script:
    """Take a knob by its ridge and turn it."""
    joints, limits = joints_and_limits(world, name)
    limit = limits.is_on if on else limits.is_off
    knob = Hinge(world, joints[0])
    grasp = best(knob.cloud(), world.others(name), Taste(off=20.0, lift=0.0))
    if grasp is None or limit is None:
        raise NoWayError(name, "there is nothing to turn it by that the hand reaches")
    around = world.others()
    height = travel_height(around, world.pos, grasp.pos) + TIP + CLEARANCE
    yield from reach(world, Pose(pos=grasp.pos, rot=grasp.rot), OPEN_HAND, height=height)
    yield from grip(world, Pose(pos=grasp.pos, rot=grasp.rot))
    target = limit[1] + 0.1 * sign(limit)
    progress = Progress(world)
    begun, pos, rot = knob.value, world.pos, grasp.rot
    while sign(limit) * (knob.value - target) < 0 and not progress.halted():
        angle = float(np.clip(knob.value + 0.5 * sign(limit), -2, 2)) - begun
        spin = about(knob.axis, angle)
        yield Command(pos=knob.anchor + spin @ (pos - knob.anchor), rot=spin @ rot, grip=CLOSED_HAND)
    yield from release(world, Pose(pos=world.pos, rot=world.rot))
    yield from retreat(world)


def straight(world: World, goal: Pose, hand: float, *, far: float = 0.006) -> Script:
    """Straight to a pose, until it is reached or something stops the hand."""
    progress = Progress(world)
    while np.linalg.norm(goal.pos - world.pos) > far and not progress.halted():
        yield Command(pos=goal.pos, rot=goal.rot, grip=hand)


def drag(world: World, thing: str, place: str) -> Script:
    """Press the closed hand into a flat thing with a rim and draw it into a region, around what stands in its way."""
    rot = down(0.0)
    cloud, centre = world.cloud(thing), world.part_pos(thing)
    radius = float(np.linalg.norm((cloud.points - centre)[:, :2], axis=1).max())
    inner = 0.4 * radius
    way_points = _route(world, thing, place, radius + 0.008)
    hand = centre[:2] + inner * _unit(way_points[0] - centre[:2])
    near = cloud.points[np.linalg.norm(cloud.points[:, :2] - hand, axis=1) < 0.012]
    touch = np.array([*hand, float(near[:, 2].max()) + TIP - 0.002])
    height = travel_height(world.others(), world.pos, touch) + TIP + CLEARANCE
    yield from reach(world, Pose(pos=touch, rot=rot), CLOSED_HAND, height=height, far=0.01, turned=0.15)
    for goal in way_points:
        progress = Progress(world, patience=20)
        while np.linalg.norm(goal - world.part_pos(thing)[:2]) > 0.012:
            now = world.part_pos(thing)[:2]
            if np.linalg.norm(world.pos[:2] - now) > radius or progress.halted():
                yield from retreat(world, grip=CLOSED_HAND)
                raise LostError(thing, "the hand slid off it")
            lead = now + (inner + 0.06) * _unit(goal - now)
            yield Command(pos=np.array([*lead, touch[2] - 0.006]), rot=rot, grip=CLOSED_HAND)
    yield from retreat(world, grip=CLOSED_HAND)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _route(world: World, thing: str, place: str, radius: float) -> list[Float[np.ndarray, "2"]]:
    """The shortest way of at most two legs on which nothing stands nearer than `radius`; straight if there is none."""
    site = world.model.site(place).id
    start, centre = world.part_pos(thing)[:2], world.data.site_xpos[site][:2].copy()
    half = np.maximum(world.model.site_size[site][:2] - 0.015, 0.0)
    around = world.others(thing)
    around = around[around[:, 2] < world.floor + 0.12][:, :2]
    ends = [centre + half * [a, b] for a in (0, -1, 1) for b in (0, -1, 1)]
    middle = (start + centre) / 2
    vias = [middle + 0.04 * np.array([a, b]) for a in range(-5, 6) for b in range(-5, 6)]
    ways = [[end] for end in ends] + [[via, end] for end in ends for via in vias]

    def length(way: list[np.ndarray]) -> float:
        return sum(float(np.linalg.norm(b - a)) for a, b in zip([start, *way], way, strict=False))

    def free(way: list[np.ndarray]) -> bool:
        for a, b in zip([start, *way], way, strict=False):
            leg = b - a
            along = np.clip((around - a) @ leg / max(float(leg @ leg), 1e-9), 0, 1)
            if len(around) and np.linalg.norm(around - a - along[:, None] * leg, axis=1).min() < radius:
                return False
        return True

    return next((way for way in sorted(ways, key=length) if free(way)), [centre])
