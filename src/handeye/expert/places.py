"""Where to put a thing so that a predicate of the goal comes true, and how low it can be let go there."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from handeye.expert.geometry import CELL, HeightMap, thin
from handeye.expert.grasps import HAND, yaw
from handeye.expert.skills import Spot, World
from handeye.sim.world import Predicate

GAP = 0.004
"""Left between the thing and what it is put on (m): it is let go, not pressed."""

GRID = 0.0125
"""Between the places that are tried (m)."""

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


def would_hold(world: World, predicate: Predicate, pos: Float[np.ndarray, "3"], *, margin: float = MARGIN) -> bool:
    """Whether On or In would hold with the thing's body at `pos` and touching what is below it."""
    kind, _, place = predicate
    if place in world.scene.parts:
        other = world.part_pos(place)
        return bool(other[2] <= pos[2] and np.hypot(*(pos - other)[:2]) < 0.03 - margin)
    site = world.model.site(place).id
    centre, turn, size = (
        world.data.site_xpos[site],
        world.data.site_xmat[site].reshape(3, 3),
        world.model.site_size[site],
    )
    if kind == "in":
        reach = np.abs(turn @ size)
        return bool(np.all(pos > centre - reach - [0, 0, 0.01] + margin) and np.all(pos < centre + reach - margin))
    local = turn @ (pos - centre)
    # A bottom face that lies on the region is at its lower limit, so only the sides have a margin.
    sides = bool(np.all(np.abs(local[:2]) < size[:2] - min(margin, float(size[:2].min()) / 4)))
    return sides and size[2] - 0.005 < local[2] < size[2] + 0.10


def find_spot(world: World, predicate: Predicate, *, aim: Float[np.ndarray, "2"] | None = None) -> Spot:
    """The spot nearest to the middle of a place (or to `aim`) where the predicate would hold, with the least turn."""
    _, thing, place = predicate
    ground = HeightMap(world.others(thing), world.floor)
    origin = world.part_pos(thing)
    body = thin(world.cloud(thing).points) - origin
    hand = hand_points() @ world.rot.T + world.pos - origin
    centre, reach = _extent(world, place)
    offsets = [np.arange(0, r + 1e-9, GRID) for r in reach]
    offsets = [np.concatenate([-o[:0:-1], o]) for o in offsets]
    aim = centre if aim is None else aim
    best: tuple[float, Spot] | None = None
    for turn in TURNS:
        spin = yaw(turn)
        turned, turned_hand = body @ spin.T, hand @ spin.T
        for dx, dy in itertools.product(*offsets):
            xy = np.array([centre[0] + dx, centre[1] + dy])
            cost = 5.0 * float(np.linalg.norm(xy - aim)) + 0.4 * abs(turn)
            if best is not None and cost > best[0]:
                continue
            base = np.array([*xy, 0.0])
            rest = -ground.contact(turned + base)
            z = max(rest, -ground.contact(turned_hand + base)) + GAP
            pos = np.array([*xy, z])
            if not would_hold(world, predicate, pos):
                continue
            cost += 2.0 * (z - rest)
            if best is None or cost < best[0]:
                best = (cost, Spot(pos=pos, turn=turn))
    if best is None:  # nothing is sure: above the middle, as low as it goes
        base = np.array([*centre, 0.0])
        z = -min(ground.contact(body + base), ground.contact(hand + base)) + GAP
        return Spot(pos=np.array([*centre, z]))
    return best[1]


def _extent(world: World, place: str) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Middle and half size of a place, seen from above."""
    if place in world.scene.parts:
        return world.part_pos(place)[:2], np.array([0.02, 0.02])
    site = world.model.site(place).id
    half = np.abs(world.data.site_xmat[site].reshape(3, 3)) @ world.model.site_size[site]
    return world.data.site_xpos[site][:2].copy(), half[:2]
