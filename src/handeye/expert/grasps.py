"""Where to hold a thing: pairs of opposite surface points that the fingers can close on without hitting anything.

The hand's frame sits at the grip site: x is the direction in which the fingers close, z the direction of approach
(down, in the arm's rest pose), y completes them. Instead of a table of grasps per category, candidates come from the
collision shapes themselves, so a new object needs no entry; what a category prefers (`TASTES`) only orders them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from handeye.expert.geometry import Cloud, inside, thin

OPEN = 0.0395
"""From the grip site to a pad when the hand is open (m): 0.0243 - 0.0040 with the finger at 0.0208 of 0.04."""

TIP = 0.0092
"""From the grip site to the finger tips, along z (m)."""

PAD_HALF, PAD_LOW, PAD_HIGH = 0.008, -0.0116, 0.0044
"""The pads along y (half) and z (m)."""

PALM = 0.031
"""From the grip site back to the palm (m)."""

HAND: tuple[tuple[tuple[float, float, float], tuple[float, float, float]], ...] = (
    ((OPEN - 0.001, -0.0105, -0.013), (0.0560, 0.0105, TIP)),
    ((OPEN - 0.001, -0.0125, -0.045), (0.0670, 0.0125, -0.013)),
    ((-0.0560, -0.0105, -0.013), (-OPEN + 0.001, 0.0105, TIP)),
    ((-0.0670, -0.0125, -0.045), (-OPEN + 0.001, 0.0125, -0.013)),
    ((-0.1060, -0.0340, -0.123), (0.1060, 0.0340, -PALM)),
    ((-0.0580, -0.1360, -0.290), (0.0580, 0.0460, -0.123)),
)
"""The open hand as boxes in its own frame: two per finger, palm, wrist. Measured on the Panda's collision meshes."""

PLAY = 0.004
"""How far aside the hand may be when it comes down (m)."""

HAND_AND_PLAY = tuple(
    ((low[0] - PLAY, low[1] - PLAY, low[2]), (high[0] + PLAY, high[1] + PLAY, high[2])) for low, high in HAND
)

TIGHT = 0.5
"""Cost of a grasp that only a hand without play reaches."""

EDGE = 0.008
"""The pads' middle stays this far below the top of a thing (m): half a pad."""

LOOSE = 0.008
"""What the pads close on may be this much wider than the pair of points they are meant for (m): walls lean and bend."""

BETWEEN = ((-OPEN, -0.0105, -0.013), (OPEN, 0.0105, TIP))
"""What the fingers sweep when they close: nothing but the thing may be there."""

APPROACH = (0.05, 0.10)
"""Where on its way to a grasp the hand must hit nothing either (m back)."""

REST = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
"""The hand's axes (columns) when it points down as the arm rests: it closes along the world's y."""

WIDEST = 0.073
"""What the fingers go around with a margin (m); they open to 2 * OPEN."""


@dataclass(frozen=True, kw_only=True)
class Grasp:
    """A pose of the hand, and what speaks for it."""

    pos: Float[np.ndarray, "3"]
    rot: Float[np.ndarray, "3 3"]
    width: float
    score: float


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What makes one collision-free grasp better than another."""

    tilts: tuple[float, ...] = (0.0,)
    """Turns of the approach about the closing axis (rad); positive leans the palm away from the robot."""

    side: tuple[float, float] = (0.0, 0.0)
    """Preferred direction, in the world's plane, from the middle of the thing to the point of grasp."""

    height: float = 0.0
    """Preferred height of the pads within the thing: 0 bottom, 1 top. Weighted by `lift`."""

    lift: float = 0.3
    turn: float = 0.6
    """Cost of a radian of turning away from the rest pose."""

    lean: float = 1.0
    """Cost of a radian of tilt: a quarter of a radian must win as much as 24 degrees of turning do."""

    centre: float = 12.0
    """Cost of a metre between the pads and the middle of the thing, along the hand's y."""

    off: float = 0.0
    """Cost of a metre between grip and middle in the plane."""


def yaw(angle: float) -> Float[np.ndarray, "3 3"]:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def about(axis: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation about a unit axis."""
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def down(angle: float, tilt: float = 0.0) -> Float[np.ndarray, "3 3"]:
    """The hand pointing down, turned by `angle` about the vertical and then tilted about its closing axis."""
    rot = yaw(angle) @ REST
    return rot if tilt == 0.0 else about(rot[:, 0], tilt) @ rot


def _pairs(cloud: Cloud, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Middles, closing directions and widths of opposite surface points."""
    steep = np.flatnonzero(np.abs(cloud.normals[:, 2]) < 0.45)
    half = steep[(cloud.normals[steep] @ [0.05, 1.0, 0.0]) >= 0]  # each pair once
    # At random: the points lie in rows, and every n-th of them may leave out whole heights.
    half = np.random.default_rng(0).permutation(half)[:limit]
    middles, axes, widths = [], [], []
    for i in half:
        axis = cloud.normals[i] * [1, 1, 0]
        axis /= np.linalg.norm(axis)
        away = cloud.points[i] - cloud.points[steep]
        depth = away @ axis
        aside = np.linalg.norm(away - depth[:, None] * axis, axis=1)
        facing = (aside < 0.004) & (cloud.normals[steep] @ axis < -0.75) & (depth > 0.0008) & (depth < WIDEST)
        if not facing.any():
            continue
        for width in {float(depth[facing].min()), float(depth[facing].max())}:
            middles.append(cloud.points[i] - axis * width / 2)
            axes.append(axis)
            widths.append(width)
    return np.array(middles).reshape(-1, 3), np.array(axes).reshape(-1, 3), np.array(widths)


Boxes = Sequence[tuple[tuple[float, float, float], tuple[float, float, float]]]
"""Lowest and highest corners, in the hand's frame."""


def nearby(
    pos: Float[np.ndarray, "3"],
    rot: Float[np.ndarray, "3 3"],
    points: Float[np.ndarray, "N 3"],
    *,
    boxes: Boxes = HAND,
    back: float = 0.0,
) -> Float[np.ndarray, "M 3"]:
    """Those of the points that are near these boxes, or near them `back` metres up the approach; in the hand's frame.
    They are few among a scene's, and the rest need not be looked at again."""
    low, high = np.min([low for low, _ in boxes], axis=0), np.max([high for _, high in boxes], axis=0)
    low = low - [0.0, 0.0, back]
    corners = np.array(list(itertools.product(*zip(low, high, strict=True)))) @ rot.T + pos
    return (points[inside(points, corners.min(0), corners.max(0))] - pos) @ rot


def hits(local: Float[np.ndarray, "N 3"], boxes: Boxes = HAND, *, back: float = 0.0) -> bool:
    """Whether any point of the hand's frame is in a box when the hand stands `back` metres up the approach."""
    shifted = local + np.array([0.0, 0.0, back])
    return any(bool(inside(shifted, np.array(low), np.array(high)).any()) for low, high in boxes)


def candidates(
    thing: Cloud,
    others: Float[np.ndarray, "N 3"],
    taste: Taste,
    *,
    want: int = 1,
    limit: int = 1000,
    different: bool = False,
) -> list[Grasp]:
    """Up to `want` grasps that hit nothing, the best first. `others` is everything else that stands around. `different`
    ones are no neighbours of a better one."""
    middles, axes, widths = _pairs(thing, limit)
    if not len(middles):
        return []
    low, high = thing.low, thing.high
    near = thin(others[np.all(np.abs(others - (low + high) / 2) < (0.25, 0.25, 0.40), axis=1)])
    own = thin(thing.points)
    # The closing axis has no sign: take the one that turns the hand less.
    angle = (np.arctan2(-axes[:, 0], axes[:, 1]) + np.pi / 2) % np.pi - np.pi / 2
    found: list[Grasp] = []
    for tilt in taste.tilts:
        rot = np.stack([down(a, tilt) for a in angle])
        pos = middles + rot[:, :, 2] * 0.0036  # the pads' middle lies 3.6 mm above the grip site
        lift = np.maximum(0.0, low[2] + TIP + 0.002 - pos[:, 2])
        pos[:, 2] += lift
        score, between = _scores(pos, rot, angle, own, thing, taste)
        score -= 0.5 * np.abs(widths - 0.02) + taste.lean * abs(tilt)
        edge = middles[:, 2] > max(high[2] - EDGE, low[2] + EDGE)  # half of a pad would close on nothing
        blocked = between > widths + LOOSE  # the fingers meet something else first
        order = [i for i in np.argsort(-score, kind="stable") if lift[i] < 0.009 and not (edge[i] or blocked[i])]
        roomy = 0
        for i in order:
            if different and any(_alike(pos[i], rot[i], other) for other in found):
                continue
            local, mine = nearby(pos[i], rot[i], near, back=max(APPROACH)), nearby(pos[i], rot[i], own)
            if hits(local) or hits(mine) or hits(local, (BETWEEN,)) or any(hits(local, back=d) for d in APPROACH):
                continue
            tight = hits(local, HAND_AND_PLAY) or hits(mine, HAND_AND_PLAY)
            value = float(score[i]) - TIGHT * tight
            found.append(Grasp(pos=pos[i], rot=rot[i], width=float(widths[i]), score=value))
            roomy += not tight
            if roomy == want:
                break
    return sorted(found, key=lambda grasp: -grasp.score)[:want]


def _scores(
    pos: np.ndarray, rot: np.ndarray, angle: np.ndarray, own: np.ndarray, thing: Cloud, taste: Taste
) -> tuple[Float[np.ndarray, "M"], Float[np.ndarray, "M"]]:
    """How good each pose is, and the extent of what the pads would close on (m)."""
    low, high = thing.low, thing.high
    offset = pos - (low + high) / 2
    score = -taste.turn * np.abs(angle) - taste.centre * np.abs(np.einsum("mj,mj->m", rot[:, :, 1], offset))
    score -= taste.off * np.linalg.norm(offset[:, :2], axis=1)
    length = np.maximum(np.linalg.norm(offset[:, :2], axis=1), 1e-6)
    score += (offset[:, :2] @ np.asarray(taste.side)) / length
    share = (pos[:, 2] - low[2]) / max(high[2] - low[2], 1e-3)
    score -= taste.lift * np.abs(share - taste.height)
    # Pads that find material over their whole face hold better than pads that find an edge.
    local = own @ rot - pos[:, None] @ rot
    face = (np.abs(local[..., 1]) < PAD_HALF) & (local[..., 2] > PAD_LOW) & (local[..., 2] < PAD_HIGH)
    face &= np.abs(local[..., 0]) < OPEN
    score += 0.4 * np.minimum(face.sum(-1) / 12.0, 1.0)
    # Fingers that do not meet the thing together push it aside first.
    far = np.where(face, local[..., 0], -OPEN).max(-1)
    close = np.where(face, local[..., 0], OPEN).min(-1)
    return score - 25.0 * np.abs(far + close) / 2, far - close


def _alike(pos: Float[np.ndarray, "3"], rot: Float[np.ndarray, "3 3"], other: Grasp) -> bool:
    """Both in place, to 3 cm, and in closing direction, to half a radian."""
    near = np.linalg.norm(pos - other.pos) <= 0.03
    return bool(near and abs(float(rot[:, 0] @ other.rot[:, 0])) >= np.cos(0.5))


def best(thing: Cloud, others: Float[np.ndarray, "N 3"], taste: Taste) -> Grasp | None:
    """The best grasp, if there is one."""
    return next(iter(candidates(thing, others, taste)), None)
