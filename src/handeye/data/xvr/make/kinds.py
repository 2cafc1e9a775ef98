"""The eight kinds of question. Each maker draws a scene and views until the question has one answer that can be seen,
then takes its pictures and computes the answer from the simulator's state and the cameras' places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from handeye.data.xvr.chance import KINDS, task_of
from handeye.data.xvr.make.marks import Pixel, arrow, dot
from handeye.data.xvr.make.stage import CENTRE, Moment, Stage
from handeye.data.xvr.make.views import View
from handeye.sim.tabletop_model import TABLE_TOP

Random = np.random.Generator
Picture = UInt8[np.ndarray, "H W 3"]
CHOICES = ("red", "green", "blue", "yellow", "purple")
REFERENCE = "orange"
TRIES = 200
APART = 0.08
"""Least distance of two marks that must be told apart, as a fraction of the picture's side."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of a question, and what is known of it."""

    title: str
    picture: Picture
    view: View
    moment: Moment
    marks: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question, ready to be written."""

    intro: str
    shots: Sequence[Shot]
    question: str
    answer: str
    options: tuple[str, ...]


class UnluckyError(Exception):
    """This scene and these views do not make a question of the kind: draw again."""


# ---- drawing ---------------------------------------------------------------------------------------------------------


def front(random: Random, *, side: float | None = None, back: float = 0.0) -> View:
    """A view of the table from anywhere but behind the robot. `side`: degrees around the table, 0 opposite the robot,
    positive on the robot's left; with a few degrees of chance. `back`: metres further away, so that the arm is seen."""
    around = random.uniform(-120, 120) if side is None else side + random.uniform(-6, 6)
    return View(
        azimuth=around + 180,
        elevation=random.uniform(-58, -28),
        distance=back + random.uniform(0.8, 1.15),
        lookat=(random.uniform(-0.06, 0.06), random.uniform(-0.06, 0.06), CENTRE[2] + back / 2),
    )


def apart(random: Random, count: int, least: float, *, back: float = 0.0) -> list[View]:
    """Views that stand at least so many degrees from one another around the table."""
    while True:
        views = [front(random, back=back) for _ in range(count)]
        angles = np.array([view.azimuth for view in views])
        if (np.abs(np.subtract.outer(angles, angles))[~np.eye(count, dtype=bool)] >= least).all():
            return views


def points(stage: Stage, moment: Moment, random: Random, count: int, views: Sequence[View], least: float) -> Any:
    """So many points (count, 3), on things and on the table, that every view sees, at least `least` metres apart."""
    table = np.column_stack([random.uniform(-0.22, 0.22, (40, 2)), np.full(40, TABLE_TOP)])
    candidates = np.concatenate([random.permutation(stage.tops(moment)), table])
    seen = visible(stage, moment, views, candidates)
    chosen: list[np.ndarray] = []
    for candidate in candidates[seen]:
        if all(np.linalg.norm(candidate - other) > least for other in chosen):
            chosen.append(candidate)
    if len(chosen) < count:
        raise UnluckyError
    return np.array(chosen[:count])


def visible(stage: Stage, moment: Moment, views: Sequence[View], places: Float64[np.ndarray, "N 3"]) -> Any:
    """Whether all views see a point (N,)."""
    studio, data = stage.studio(moment), stage.data(moment)
    return np.all([studio.sees(data, view, places) for view in views], axis=0)


def spread(view: View, places: Float64[np.ndarray, "N 3"], size: int) -> float:
    """Least distance of any two of them in a picture, as a fraction of its side."""
    at = view.project(places, size)[0] / size
    return float(np.linalg.norm(at[:, None] - at[None], axis=2)[~np.eye(len(at), dtype=bool)].min())


def pixel(view: View, point: Float64[np.ndarray, "3"], size: int) -> Pixel:
    x, y = view.project(point[None], size)[0][0]
    return float(x), float(y)


def shot(stage: Stage, moment: Moment, view: View, title: str) -> Shot:
    picture = stage.studio(moment).picture(stage.data(moment), view)
    return Shot(title=title, picture=picture, view=view, moment=moment)


def dotted(one: Shot, point: Float64[np.ndarray, "3"], colour: str) -> Shot:
    at = pixel(one.view, point, len(one.picture))
    mark = {"kind": "dot", "colour": colour, "pixel": at}
    return Shot(
        title=one.title, picture=dot(one.picture, at, colour), view=one.view, moment=one.moment,
        marks=(*one.marks, mark),
    )  # fmt: skip


def arrowed(one: Shot, tail: Float64[np.ndarray, "3"], tip: Float64[np.ndarray, "3"], colour: str) -> Shot:
    start, end = (pixel(one.view, point, len(one.picture)) for point in (tail, tip))
    mark = {"kind": "arrow", "colour": colour, "pixel": start, "tip": end}
    return Shot(
        title=one.title, picture=arrow(one.picture, start, end, colour), view=one.view, moment=one.moment,
        marks=(*one.marks, mark),
    )  # fmt: skip


def words(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def scene(stage: Stage, random: Random) -> Moment:
    return stage.begin(int(random.integers(len(stage.tasks))), int(random.integers(2**31)))


def moved(stage: Stage, moment: Moment, random: Random) -> Moment:
    """Later: the arm is elsewhere."""
    direction = np.array(
        [random.uniform(-0.4, 1), random.choice((-1, 1)) * random.uniform(0.5, 1), random.uniform(0, 1)]
    )
    then = stage.later(moment, direction, int(random.integers(14, 26)))
    if np.linalg.norm(stage.hand(then) - stage.hand(moment)) < 0.1:
        raise UnluckyError
    return then


def numbers(count: int, first: int = 1) -> tuple[str, ...]:
    return tuple(str(number) for number in range(first, first + count))


# ---- correspondence --------------------------------------------------------------------------------------------------


def point(stage: Stage, random: Random) -> Asked:
    """Two reference views mark a point; which of five marks of a third view is it?"""
    moment, views = scene(stage, random), apart(random, 3, 25.0)
    places = points(stage, moment, random, 5, views, 0.06)
    if spread(views[2], places, stage.size) < APART:
        raise UnluckyError
    right = int(random.integers(5))
    references = [
        dotted(shot(stage, moment, view, f"Image {n} (Reference)"), places[right], REFERENCE)
        for n, view in enumerate(views[:2], start=1)
    ]
    target = shot(stage, moment, views[2], "Image 3 (Target)")
    colours = random.permutation(CHOICES).tolist()
    for place, colour in zip(places, colours, strict=True):
        target = dotted(target, place, colour)
    return Asked(
        intro="The pictures show one scene at one moment, from three cameras.",
        shots=(*references, target),
        question="The orange dots in Image 1 and Image 2 mark the same point of the scene. Which dot in Image 3 marks "
        f"that point? Answer with its colour: {words(CHOICES)}.",
        answer=colours[right],
        options=CHOICES,
    )


def arrows(stage: Stage, moment: Moment, random: Random, views: Sequence[View]) -> Float64[np.ndarray, "5 3"]:
    """A point of the table and the ends of four arrows from it, at right angles; all views see them, none of them
    foreshortened to nothing."""
    count, length = 24, 0.13
    tails = np.column_stack([random.uniform(-0.2, 0.2, (count, 2)), np.full(count, TABLE_TOP)])
    turns = random.uniform(0, 2 * np.pi, (count, 1)) + np.arange(4) * np.pi / 2
    along = length * np.stack([np.cos(turns), np.sin(turns), np.zeros_like(turns)], axis=-1)
    places = np.concatenate([tails[:, None], tails[:, None] + along], axis=1)
    good = visible(stage, moment, views, places.reshape(-1, 3)).reshape(count, 5).all(1)
    for view in views:
        ends = view.project(places.reshape(-1, 3), stage.size)[0].reshape(count, 5, 2)
        good &= np.linalg.norm(ends[:, 1:] - ends[:, :1], axis=2).min(1) > 0.07 * stage.size
    if not good.any():
        raise UnluckyError
    return places[np.flatnonzero(good)[0]]


def directional(stage: Stage, random: Random) -> Asked:
    """An arrow lies on the table; which of four arrows in another view points the same way?"""
    moment, views = scene(stage, random), apart(random, 2, 40.0)
    tail, *tips = arrows(stage, moment, random, views)
    colours, right = random.permutation(CHOICES[:4]).tolist(), 0
    reference = arrowed(shot(stage, moment, views[0], "Image 1 (Reference)"), tail, tips[right], REFERENCE)
    target = shot(stage, moment, views[1], "Image 2 (Target)")
    for tip, colour in zip(tips, colours, strict=True):
        target = arrowed(target, tail, tip, colour)
    return Asked(
        intro="The pictures show one scene at one moment, from two cameras.",
        shots=(reference, target),
        question="The orange arrow in Image 1 lies on the table. Which arrow in Image 2 lies on the table in the same "
        f"direction? Answer with its colour: {words(CHOICES[:4])}.",
        answer=colours[right],
        options=CHOICES[:4],
    )


# ---- verification ----------------------------------------------------------------------------------------------------


def spatial(stage: Stage, random: Random) -> Asked:
    """All pictures but one mark the same point."""
    count = int(random.integers(4, 6))
    moment, views = scene(stage, random), apart(random, count, 12.0)
    same, other = points(stage, moment, random, 2, views, 0.09)
    odd = int(random.integers(count))
    if spread(views[odd], np.array([same, other]), stage.size) < APART:
        raise UnluckyError
    shots = tuple(
        dotted(shot(stage, moment, view, f"Image {n + 1}"), other if n == odd else same, REFERENCE)
        for n, view in enumerate(views)
    )
    return Asked(
        intro="The pictures show one scene at one moment, from several cameras. Each has an orange dot.",
        shots=shots,
        question="All dots mark the same point of the scene, but for one. In which picture is it? Answer with its "
        "number.",
        answer=str(odd + 1),
        options=numbers(count),
    )


def temporal(stage: Stage, random: Random) -> Asked:
    """All pictures but one were taken at the same moment."""
    moment, views = scene(stage, random), apart(random, 3, 25.0, back=0.3)
    then = moved(stage, moment, random)
    one, other = (moment, then) if random.integers(2) else (then, moment)
    odd = int(random.integers(3))
    shots = tuple(shot(stage, other if n == odd else one, view, f"Image {n + 1}") for n, view in enumerate(views))
    for each in shots:
        hand = np.array(pixel(each.view, stage.hand(each.moment), stage.size)) / stage.size
        if hand.min() < 0.05 or hand.max() > 0.95:
            raise UnluckyError
    return Asked(
        intro="The pictures show one scene from several cameras.",
        shots=shots,
        question="All pictures were taken at the same moment, but for one. Which one was taken at another moment? "
        "Answer with its number.",
        answer=str(odd + 1),
        options=numbers(3),
    )


# ---- localization ----------------------------------------------------------------------------------------------------


def viewpoint(stage: Stage, random: Random) -> Asked:
    """Three places of cameras are marked in a view from above; from which was the other picture taken?"""
    moment, views = scene(stage, random), apart(random, 3, 45.0)
    above = View(
        azimuth=180 + random.uniform(-25, 25), elevation=-60.0, distance=2.1, lookat=(0.2, 0.0, TABLE_TOP), fovy=75.0
    )
    overview, centre = shot(stage, moment, above, "Image 1 (Overview)"), np.array(CENTRE)
    ends = above.project(np.array([view.position for view in views]), stage.size)[0]
    gaps = np.linalg.norm(ends[:, None] - ends[None], axis=2)[~np.eye(3, dtype=bool)]
    if ends.min() < 0.03 * stage.size or ends.max() > 0.97 * stage.size or gaps.min() < 0.12 * stage.size:
        raise UnluckyError
    colours, right = random.permutation(CHOICES[:3]).tolist(), int(random.integers(3))
    for view, colour in zip(views, colours, strict=True):
        at = view.position
        overview = dotted(arrowed(overview, at, at + 0.35 * (centre - at), colour), at, colour)
    return Asked(
        intro="Image 1 shows a scene from far above. Its dots mark three cameras, its arrows the way they look.",
        shots=(overview, shot(stage, moment, views[right], "Image 2")),
        question="Which camera took Image 2? Answer with the colour of its dot: " + words(CHOICES[:3]) + ".",
        answer=colours[right],
        options=CHOICES[:3],
    )


def directional_view(stage: Stage, random: Random) -> Asked:
    """Which camera stands further to the left, or right, of another?"""
    moment, here = scene(stage, random), front(random, side=random.uniform(-60, 60))
    around = here.azimuth - 180
    sides = [front(random, side=around + turn * random.uniform(30, 60)) for turn in (-1, 1)]
    views = [sides[index] for index in random.permutation(2)]
    along = [float((view.position - here.position) @ here.right) for view in views]
    if min(map(abs, along)) < 0.2 or along[0] * along[1] >= 0:
        raise UnluckyError
    side = ("left", "right")[int(random.integers(2))]
    right = int(np.argmin(along) if side == "left" else np.argmax(along))
    titles = ("Image 1 (Reference)", "Image 2", "Image 3")
    return Asked(
        intro="The pictures show one scene at one moment, from three cameras.",
        shots=tuple(shot(stage, moment, v, t) for v, t in zip((here, *views), titles, strict=True)),
        question=f"You look at the scene as in Image 1. Which picture was taken from further to your {side}? Answer "
        "with its number: 2 or 3.",
        answer=str(right + 2),
        options=numbers(2, first=2),
    )


def cross_scenario(stage: Stage, random: Random) -> Asked:
    """Three cameras took pictures of one episode and, in another order, of another one."""
    first, second = scene(stage, random), scene(stage, random)
    views = apart(random, 3, 30.0)
    order = random.permutation(3)
    shots = [shot(stage, first, view, f"Image {n}") for n, view in enumerate(views, start=1)]
    shots += [shot(stage, second, views[index], f"Image {n}") for n, index in enumerate(order, start=4)]
    asked = int(random.integers(3))
    return Asked(
        intro="Images 1 to 3 show one scene from three cameras. Images 4 to 6 show another scene from the same three "
        "cameras, in another order.",
        shots=tuple(shots),
        question=f"Which of Images 4 to 6 was taken by the camera of Image {asked + 1}? Answer with its number: 4, 5 "
        "or 6.",
        answer=str(4 + order.tolist().index(asked)),
        options=numbers(3, first=4),
    )


def language(stage: Stage, random: Random) -> Asked:
    """Which picture was taken from the place that a sentence describes?"""
    moment = scene(stage, random)
    ways: Mapping[str, tuple[float, float]] = {
        "on the robot's left": (random.uniform(45, 100), random.uniform(-100, -45)),
        "on the robot's right": (random.uniform(-100, -45), random.uniform(45, 100)),
        "opposite the robot": (random.uniform(-15, 15), random.choice((-1, 1)) * random.uniform(80, 110)),
        "beside the robot": (random.choice((-1, 1)) * random.uniform(80, 110), random.uniform(-15, 15)),
    }
    said = list(ways)[int(random.integers(len(ways)))]
    views = [front(random, side=side) for side in ways[said]]
    order = random.permutation(2)
    return Asked(
        intro="The pictures show one scene at one moment, from two cameras. The robot stands at one edge of the table "
        "and faces it.",
        shots=tuple(shot(stage, moment, views[index], f"Image {n}") for n, index in enumerate(order, start=1)),
        question=f"Which picture was taken from a place {said}? Answer with its number: 1 or 2.",
        answer=str(1 + order.tolist().index(0)),
        options=numbers(2),
    )


Maker = Callable[[Stage, Random], Asked]
_MAKERS: Mapping[str, Maker] = {
    "Point": point,
    "Directional": directional,
    "Spatial": spatial,
    "Temporal": temporal,
    "Viewpoint": viewpoint,
    "Directional View": directional_view,
    "Cross-scenario": cross_scenario,
    "Language-conditioned": language,
}


MAKERS: Mapping[str, Maker] = {task_of(kind): _MAKERS[kind.name] for kind in KINDS}
"""Task -> how its questions are made, in the order of the published table."""


def make(task: str, stage: Stage, random: Random) -> Asked:
    for _ in range(TRIES):
        try:
            return MAKERS[task](stage, random)
        except UnluckyError:
            continue
    raise RuntimeError(f"no question of {task} in {TRIES} scenes")
