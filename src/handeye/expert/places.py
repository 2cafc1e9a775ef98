"""Where to put a thing so that a predicate of the goal comes true, and how low it can be let go there."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from handeye.expert.geometry import CELL, HeightMap, inside, thin, underside
from handeye.expert.grasps import HAND, yaw
from handeye.expert.skills import Pose, Spot, World
from handeye.sim.world import Predicate

GAP = 0.004
"""Left between the thing and what it is put on (m): it is let go, not pressed."""

MARGIN = 0.008
"""Kept from the borders of a region (m)."""

TURNS = (0.0, *(s * a for a in np.radians([15, 30, 45, 60, 75, 90]) for s in (1, -1)))
"""Turns about the vertical that are tried, the least first (rad)."""


def hand_points() -> Float[np.ndarray, "N 3"]:
    """The hand's boxes as points in its frame, to lower it onto a height map."""
    points = []
    for low, high in HAND:
        x = np.arange(low[0], high[0] + CELL, CELL)
        y = np.arange(low[1], high[1] + CELL, CELL)
        points.append(np.stack(np.meshgrid(x, y, [low[2], high[2]]), -1).reshape(-1, 3))
    return np.concatenate(points)


def would_hold(
    world: World, predicate: Predicate, pos: Float[np.ndarray, "G 3"], *, margin: float = MARGIN
) -> Bool[np.ndarray, "G"]:
    """Whether On or In would hold with the thing's body at each of these places and touching what is below it."""
    kind, _, place = predicate
    if place in world.scene.parts:
        offset = pos - world.part_pos(place)
        return (offset[:, 2] >= 0) & (np.hypot(offset[:, 0], offset[:, 1]) < 0.03 - margin)
    site = world.model.site(place).id
    centre, turn, size = (
        world.data.site_xpos[site],
        world.data.site_xmat[site].reshape(3, 3),
        world.model.site_size[site],
    )
    if kind == "in":
        reach = np.abs(turn @ size)
        return inside(pos, centre - reach - [0, 0, 0.01] + margin, centre + reach - margin)
    local = (pos - centre) @ turn.T
    # A bottom face that lies on the region is at its lower limit, so only the sides have a margin.
    sides = np.all(np.abs(local[:, :2]) < size[:2] - min(margin, float(size[:2].min()) / 4), axis=1)
    return sides & (size[2] - 0.005 < local[:, 2]) & (local[:, 2] < size[2] + 0.10)


def find_spot(world: World, predicate: Predicate, grasp: Pose | None) -> tuple[float, Spot] | None:
    """The best spot for a thing that is (or will be) held like this, with its cost: near the middle of the place, low,
    turned as little as possible. None if the predicate would hold nowhere. Without a grasp: as if no hand were in
    the way."""
    ground, body, hand = _falling(world, predicate[1], grasp)
    centre, reach = _extent(world, predicate[2])
    middle = centre + _aside(world, predicate, reach)
    cells = int(reach[0] / CELL), int(reach[1] / CELL)
    xy = centre + CELL * np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in cells], indexing="ij"), -1).reshape(-1, 2)
    for turn in TURNS:  # the least turn that does
        spin = yaw(turn)
        z = GAP + np.maximum(*[ground.rest(underside(part @ spin.T), centre, cells).ravel() for part in (body, hand)])
        cost = 5.0 * np.linalg.norm(xy - middle, axis=1) + 0.4 * abs(turn) + 4.0 * (z - ground.floor)
        pos = np.column_stack([xy, z])
        cost[~would_hold(world, predicate, pos)] = np.inf
        best = int(cost.argmin())
        if np.isfinite(cost[best]):
            return float(cost[best]), Spot(pos=pos[best], turn=turn)
    return None


def _aside(world: World, predicate: Predicate, reach: Float[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
    """How far from the middle to put a thing where another one is still to come: to its own side of it, along the
    world's y, across the direction in which the hand is long when it holds something wide."""
    kind, thing, place = predicate
    shared = [other for other in world.scene.problem.goal if other[0] == kind == "on" and other[2] == place]
    truths = world.env.truths()
    if place in world.scene.parts or all(truths[other] for other in shared if other[1] != thing):
        return np.zeros(2)
    side = np.sign(world.part_pos(thing)[1] - np.mean([world.part_pos(other[1])[1] for other in shared]))
    return np.array([0.0, 0.6 * side * reach[1]])


def drop_spot(world: World, predicate: Predicate, grasp: Pose) -> Spot:
    """Above the middle of a place, as low as the thing goes there."""
    ground, body, hand = _falling(world, predicate[1], grasp)
    centre, _ = _extent(world, predicate[2])
    z = max(float(ground.rest(underside(points), centre)[0, 0]) for points in (body, hand))
    return Spot(pos=np.array([*centre, z + GAP]))


def covered(world: World, predicate: Predicate) -> bool:
    """Whether something hangs over the middle of a place, so that nothing can be dropped into it."""
    kind, _, place = predicate
    if kind != "in" or place in world.scene.parts:
        return False
    site = world.model.site(place).id
    centre, turn = world.data.site_xpos[site], world.data.site_xmat[site].reshape(3, 3)
    top = centre[2] + (np.abs(turn) @ world.model.site_size[site])[2]
    ground = HeightMap(world.others(predicate[1]), world.floor)
    return bool(ground.at(centre[None, :2])[0] > top)


def _falling(world: World, thing: str, grasp: Pose | None) -> tuple[HeightMap, np.ndarray, np.ndarray]:
    """What is below, and the points of the thing and of the hand that holds it, relative to the thing's body."""
    origin = world.part_pos(thing)
    ground = HeightMap(world.others(thing), world.floor)
    body = thin(world.cloud(thing).points) - origin
    return ground, body, body[:1] if grasp is None else hand_points() @ grasp.rot.T + grasp.pos - origin


def _extent(world: World, place: str) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Middle and half size of a place, seen from above."""
    if place in world.scene.parts:
        return world.part_pos(place)[:2], np.array([0.02, 0.02])
    site = world.model.site(place).id
    half = np.abs(world.data.site_xmat[site].reshape(3, 3)) @ world.model.site_size[site]
    return world.data.site_xpos[site][:2].copy(), half[:2]
