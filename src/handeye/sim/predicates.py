"""What it means to be on, in, open, closed, switched on: a task's goal, read off a simulator state.

The definitions are the benchmark's, odd corners included, because a success rate is only comparable if success is the
same: `on` a region turns the offset by the region's rotation where one would expect its inverse, `on` an object asks
for contact and for centres within 3 cm, `in` asks for no contact at all. Positions and contacts are those of the last
position stage, joint values the newest, which after a control step are one substep apart (docs/simulator.md).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import mujoco
import numpy as np

from handeye.errors import UserError
from handeye.sim.world import Predicate, Scene

Test = Callable[[], bool]
COMPARISONS = {"<": operator.lt, ">": operator.gt, ">=": operator.ge}
STATES = {"open": "is_open", "close": "is_close", "turnon": "is_on", "turnoff": "is_off"}
NEAR = 0.03  # m between the centres of two things, one on the other
ON_BELOW, ON_ABOVE = 0.005, 0.10  # m around a region's upper face
IN_MARGIN = 0.01  # m that a thing's centre may be under a region's floor
UP = 1.0  # m


class Predicates:
    """Binds predicates to one scene and the data of one simulation; a bound test costs microseconds."""

    def __init__(self, scene: Scene, data: mujoco.MjData) -> None:
        self.scene, self.data, self.model = scene, data, scene.model
        self._bodies = {name: self._id(mujoco.mjtObj.mjOBJ_BODY, part.body) for name, part in scene.parts.items()}
        self._sites = {name: self._id(mujoco.mjtObj.mjOBJ_SITE, name) for name in scene.places}
        self._part_of_geom = self._touchable()

    def bind(self, predicate: Predicate) -> Test:
        """UserError where the words make no sense here: an unknown name, or a stove that should be open."""
        word, names = predicate[0], predicate[1:]
        if word in ("true", "printjointstate"):
            return lambda: True
        if word == "false":
            return lambda: False
        if word in STATES and len(names) == 1:
            return self._joints(word, names[0])
        if word == "up" and len(names) == 1:
            body = self._body(names[0], predicate)
            return lambda: bool(self.data.xpos[body, 2] >= UP)
        if word in ("on", "in") and len(names) == 2:
            body = self._body(names[0], predicate)
            if names[1] in self._sites:
                return self._on_place(names[0], names[1]) if word == "on" else self._in_place(body, names[1])
            below = self._body(names[1], predicate)
            # Nothing is in a thing that is no region: the reference raises there as soon as the two touch.
            return self._on_part(names[0], body, names[1], below) if word == "on" else lambda: False
        raise _senseless(predicate, "known: on A B, in A B, open A, close A, turnon A, turnoff A, up A")

    def bind_all(self, predicates: tuple[Predicate, ...]) -> Mapping[Predicate, Test]:
        return {predicate: self.bind(predicate) for predicate in predicates}

    def contact(self, one: str, other: str) -> bool:
        """Whether any two collision geoms of the two parts are in MuJoCo's list of contacts."""
        return self._contact(self._number(one), self._number(other))

    def _contact(self, one: int, other: int) -> bool:
        pairs = self._part_of_geom[self.data.contact.geom]
        first, second = pairs[:, 0], pairs[:, 1]
        return bool((((first == one) & (second == other)) | ((first == other) & (second == one))).any())

    def _on_part(self, upper: str, above: int, lower: str, below: int) -> Test:
        one, other = self._number(upper), self._number(lower)

        def test() -> bool:
            offset = self.data.xpos[above] - self.data.xpos[below]
            return bool(offset[2] >= 0 and np.hypot(offset[0], offset[1]) < NEAR and self._contact(other, one))

        return test

    def _on_place(self, name: str, place: str) -> Test:
        body, site = self._bodies[name], self._sites[place]
        owner = self.scene.places[place].owner
        one, other = self._number(name), -1 if owner is None else self._number(owner)
        x, y, z = self.model.site_size[site]

        def test() -> bool:
            turn = self.data.site_xmat[site].reshape(3, 3)
            offset = turn @ (self.data.xpos[body] - self.data.site_xpos[site])
            inside = abs(offset[0]) < x and abs(offset[1]) < y and z - ON_BELOW < offset[2] < z + ON_ABOVE
            return bool(inside and (owner is None or self._contact(other, one)))

        return test

    def _in_place(self, body: int, place: str) -> Test:
        site = self._sites[place]
        size = self.model.site_size[site]

        def test() -> bool:
            reach = np.abs(self.data.site_xmat[site].reshape(3, 3) @ size)
            point, centre = self.data.xpos[body], self.data.site_xpos[site]
            low = centre - reach
            low[2] -= IN_MARGIN
            return bool((point > low).all() and (point < centre + reach).all())

        return test

    def _joints(self, word: str, name: str) -> Test:
        """Open and on: any joint will do. Closed and off: all of them, and none is enough."""
        place = self.scene.places.get(name)
        owner = place.owner if place else name
        part = self.scene.parts.get(owner or "")
        if part is None:
            raise _senseless((word, name), "known: " + ", ".join(self.scene.parts))
        rule = getattr(part.articulation, STATES[word], None)
        if rule is None:
            raise _senseless((word, name), f"a {part.category} has no such state")
        sign, bound = rule
        joints = place.joints if place else part.joints
        where = [int(self.model.joint(joint).qposadr[0]) for joint in joints]
        compare, combine = COMPARISONS[sign], any if word in ("open", "turnon") else all
        return lambda: combine(compare(self.data.qpos[i], bound) for i in where)

    def _touchable(self) -> np.ndarray:
        """Geom -> number of the part whose collision geom (group 0) it is; -2 for all others, which equals no part."""
        owner = np.full(self.model.nbody, -2)
        for number, body in enumerate(self._bodies.values()):
            owner[body] = number
        for body in range(1, self.model.nbody):  # parents come before their children
            if owner[body] < 0:
                owner[body] = owner[self.model.body_parentid[body]]
        return np.where(self.model.geom_group == 0, owner[self.model.geom_bodyid], -2)

    def _number(self, name: str) -> int:
        return list(self._bodies).index(name)

    def _body(self, name: str, predicate: Predicate) -> int:
        if name not in self._bodies:
            raise _senseless(predicate, "known things: " + ", ".join(self._bodies))
        return self._bodies[name]

    def _id(self, kind: mujoco.mjtObj, name: str) -> int:
        found = mujoco.mj_name2id(self.model, kind, name)
        if found < 0:
            raise ValueError(f"the scene's model has no {kind.name} called {name!r}")
        return found


def _senseless(predicate: Predicate, why: str) -> UserError:
    words = " ".join(predicate)
    return UserError(f"'{words}' means nothing in this scene.", why=why, fix="correct the goal in the task file")
