"""The conventions that a policy may have been trained under instead of the ones it is run under: every popular mix-up.

A candidate changes the question before the policy sees it, or its answer before it is compared. If a policy's answers
are much better under one of them, that is what its training did and its evaluation does not, or the other way round.
Sources: the causes counted in the issue trackers of openvla, openvla-oft, openpi, LeRobot and LIBERO.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from handeye.conventions import image, proprio, rotation
from handeye.conventions.image import Orientation
from handeye.conventions.normalize import Normalizer
from handeye.conventions.rotation import Rotation
from handeye.conventions.spec import Specs
from handeye.types import Observation, Policy

Ask = Callable[[Observation], Observation]
Read = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(answers N T A, proprioception N S) -> answers N T A."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    name: str
    """Of the convention: `rows reversed`."""

    cause: str
    """Whose name a diagnosis gives it: pictures, state, sentence, gripper, actions, moment."""

    fix: str
    ask: Ask | None = None
    read: Read | None = None
    offset: int = 0
    """The answer is compared with what was done so many steps later."""

    axis: int | None = None
    """The one dimension that it changes, and by which it is judged."""

    policy: Policy | None = None
    """The same one with another pipeline."""

    named: bool = False
    """Its fix is one value of one option."""


NOTHING: Mapping[str, Normalizer] = {}

WAYS_UP = ("top and bottom swapped", "left and right swapped", "turned by 180 degrees")
"""What happens to one camera alone."""

TURN = "change TurnImages in the policy's `encode` list, or show it pictures as training did"
STATE = "use the state that training used: ConvertProprioRotation or other statistics in the policy's `encode` list"
PROMPT = "ask with exactly the text that training used (OpenVLA-OFT fails on one full stop more)"
GRIPPER = "add or change ConvertGripper or DecideGripper in the policy's `decode` list"
ACTIONS = "decode the answers as training encoded them: statistics of the right data set, and each axis in its place"
MOMENT = "pair each observation with the action that follows it, and execute an answer from its first action on"


def pictures(cameras: Sequence[str]) -> Iterator[Candidate]:
    """Ways up, of all cameras and of each; colours; cameras changed over; crops."""
    ways: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
        "top and bottom swapped": lambda pixels: image.convert(
            pixels, source=Orientation.UPRIGHT, target=Orientation.OPENGL
        ),
        "left and right swapped": lambda pixels: image.convert(
            pixels, source=Orientation.UPRIGHT, target=Orientation.TURNED_180
        ),
        "turned by 180 degrees": lambda pixels: pixels[::-1, ::-1],
        "red and blue swapped": lambda pixels: pixels[..., ::-1],
        "the middle 90 %, enlarged": lambda pixels: zoom(pixels, 0.9),
    }
    for name, change in ways.items():
        yield Candidate(name=name, cause="pictures", fix=TURN, ask=_seeing(cameras, change))
        if len(cameras) > 1 and name in WAYS_UP:
            for camera in cameras:
                said = f"{camera} alone: {name}"
                yield Candidate(name=said, cause="pictures", fix=TURN, ask=_seeing([camera], change))
    if len(cameras) == 2:
        one, other = cameras

        def swapped(seen: Observation) -> Observation:
            return replace(seen, images={one: seen.images[other], other: seen.images[one]})

        yield Candidate(
            name=f"{one} and {other} changed over",
            cause="pictures",
            fix="name the cameras as training did (SelectCameras in the policy's `encode` list)",
            ask=swapped,
        )


def zoom(pixels: np.ndarray, area: float) -> np.ndarray:
    """The middle of it, `area` of the pixels, at the picture's size."""
    height, width = pixels.shape[:2]
    tall, wide = (max(1, round(side * area**0.5)) for side in (height, width))
    top, left = (height - tall) // 2, (width - wide) // 2
    inner = np.ascontiguousarray(pixels[top : top + tall, left : left + wide])
    return image.resize(inner, height=height, width=width, method="bilinear")


def state(
    specs: Specs, used: Normalizer | None, own: Normalizer | None, published: Mapping[str, Normalizer] = NOTHING
) -> Iterator[Candidate]:
    """Ways to write the orientation; statistics. `used`: what the policy normalises the state with, `own`: what these
    demonstrations say, `published`: what the checkpoint's folder has, by how it is chosen."""
    if specs.proprio.width == proprio.WIDTH and specs.proprio.rotation is Rotation.AXIS_ANGLE_ROBOSUITE:
        for name, change in (
            ("orientation as the shorter rotation (angle up to 180 degrees)", _canonical),
            ("orientation as the other quaternion of the two (q for -q)", _other_sign),
            ("orientation as the imaginary part of a quaternion", _imaginary),
        ):
            yield Candidate(name=name, cause="state", fix=STATE, ask=_feeling(proprio.ORIENTATION, change))
    if used is None:
        return
    if own is not None and used.width == own.width:
        yield Candidate(
            name="normalised with the statistics of these demonstrations",
            cause="state statistics",
            fix="the policy carries another data set's statistics of the state: choose the right key "
            "(DIR#statistics=NAME), or train again on these demonstrations",
            ask=_renormalised(used, own),
        )
    for key, other in published.items():
        yield Candidate(
            name=f"normalised with the statistics of {key}",
            cause="state statistics",
            fix=f"the policy carries another data set's statistics of the state: name it as DIR#{key}",
            ask=_renormalised(used, other),
            named=True,
        )


def sentences(language: Mapping[str, str]) -> Iterator[Candidate]:
    """Ways to write the task down. `language`: the suite's sentence for a demonstration's, where they differ."""
    ways: Mapping[str, Callable[[str], str]] = {
        "with a full stop": lambda text: text.rstrip(". ") + ".",
        "without a full stop": lambda text: text.rstrip(". "),
        "in small letters": str.lower,
        "with a capital letter": lambda text: text[:1].upper() + text[1:],
        "with underscores": lambda text: text.replace(" ", "_"),
        "with blanks for underscores": lambda text: text.replace("_", " "),
        "as the suite says it": lambda text: language.get(text, text),
    }
    for name, change in ways.items():
        yield Candidate(name=name, cause="sentence form", fix=PROMPT, ask=_told(change))


def gripper(specs: Specs) -> Iterator[Candidate]:
    place = specs.action.gripper_index
    ways: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
        "open and close swapped (-1 and 1)": lambda g: -g,
        "open and close swapped (0 and 1)": lambda g: 1 - g,
        "0 to 1 read as -1 to 1": lambda g: 2 * g - 1,
        "1 to 0 read as -1 to 1": lambda g: 1 - 2 * g,
        "-1 to 1 read as 0 to 1": lambda g: (g + 1) / 2,
        "-1 to 1 read as 1 to 0": lambda g: (1 - g) / 2,
    }
    for name, change in ways.items():
        yield Candidate(name=name, cause="gripper", fix=GRIPPER, read=_with(place, change), axis=place)


def actions(
    specs: Specs, used: Normalizer | None, own: Normalizer | None, published: Mapping[str, Normalizer] = NOTHING
) -> Iterator[Candidate]:
    """Axes, what steps are relative to, statistics, and when."""
    arm = [axis for axis in range(specs.action.width) if axis != specs.action.gripper_index]
    names = ("x", "y", "z")
    if len(arm) == 6:
        for kind, first in (("moves", 0), ("turns", 3)):
            for one, other in ((0, 1), (0, 2), (1, 2)):
                said = f"{names[one]} and {names[other]} of the {kind} swapped"
                yield Candidate(
                    name=said, cause="axes", fix=ACTIONS, read=_permuted(arm[first + one], arm[first + other])
                )
        for axis in range(6):
            said = f"{names[axis % 3]} of the {'moves' if axis < 3 else 'turns'} reversed"
            yield Candidate(name=said, cause="axes", fix=ACTIONS, read=_with(arm[axis], lambda value: -value))
        if specs.proprio.width >= 6:
            absolute = "train and decode with or without AddState alike: LIBERO's actions are steps already"
            for said, sign in (("the state added twice", -1.0), ("the state not added", 1.0)):
                yield Candidate(name=said, cause="relative to the state", fix=absolute, read=_moved(arm, sign))
    if used is not None and own is not None and used.width == own.width:
        yield Candidate(
            name="decoded with the statistics of these demonstrations",
            cause="action statistics",
            fix="the policy carries another data set's statistics: choose the right key (DIR#statistics=NAME), or put "
            "these demonstrations' into its `decode` list",
            read=_redecoded(used, own),
        )
    for key, normalizer in published.items():
        if used is not None:
            yield Candidate(
                name=f"decoded with the statistics of {key}",
                cause="action statistics",
                fix=f"the policy carries another data set's statistics: name it as DIR#{key}",
                read=_redecoded(used, normalizer),
                named=True,
            )
    for offset in (-4, -2, -1, 1, 2, 4):
        when = f"{abs(offset)} step{'s' if abs(offset) > 1 else ''} {'later' if offset > 0 else 'earlier'}"
        yield Candidate(name=f"meant for {when}", cause="moment", fix=MOMENT, offset=offset)


def scaled(answers: np.ndarray, true: np.ndarray, valid: np.ndarray, arm: Sequence[int]) -> tuple[Candidate, Any]:
    """The factor per axis of the arm that fits best (least squares): what other statistics would do."""
    given, wanted = answers[valid], true[valid]
    power = (given**2).sum(0)
    fitted = np.where(power > 0, (given * wanted).sum(0) / np.where(power > 0, power, 1), 1.0)
    factors = np.ones(answers.shape[-1])
    factors[list(arm)] = fitted[list(arm)]
    said = ", ".join(f"{factors[axis]:.2g}" for axis in arm)
    candidate = Candidate(
        name=f"each axis in another unit (times {said})",
        cause="action statistics",
        fix=ACTIONS,
        read=lambda values, _: values * factors,
    )
    return candidate, factors


def _seeing(cameras: Sequence[str], change: Callable[[np.ndarray], np.ndarray]) -> Ask:
    def ask(seen: Observation) -> Observation:
        changed = {name: np.ascontiguousarray(change(seen.images[name])) for name in cameras}
        return replace(seen, images={**seen.images, **changed})

    return ask


def _feeling(part: slice, change: Callable[[np.ndarray], np.ndarray]) -> Ask:
    def ask(seen: Observation) -> Observation:
        felt = seen.proprio.copy()
        felt[part] = change(felt[part])
        return replace(seen, proprio=felt)

    return ask


def _renormalised(used: Normalizer, other: Normalizer) -> Ask:
    def ask(seen: Observation) -> Observation:
        known = other.forward(seen.proprio.astype(np.float64))
        return replace(seen, proprio=used.inverse(known).astype(np.float32))

    return ask


def _redecoded(used: Normalizer, other: Normalizer) -> Read:
    return lambda answers, _: other.inverse(used.forward(answers))


def _told(change: Callable[[str], str]) -> Ask:
    return lambda seen: replace(seen, prompt=change(seen.prompt) or seen.prompt)


def _canonical(turned: np.ndarray) -> np.ndarray:
    return rotation.convert(turned, source=Rotation.AXIS_ANGLE_ROBOSUITE, target=Rotation.AXIS_ANGLE)


def _other_sign(turned: np.ndarray) -> np.ndarray:
    return rotation.axis_angle_robosuite(-rotation.quaternion_xyzw(turned))


def _imaginary(turned: np.ndarray) -> np.ndarray:
    return rotation.quaternion_xyzw(turned)[..., :3]


def _with(axis: int, change: Callable[[np.ndarray], np.ndarray]) -> Read:
    def read(answers: np.ndarray, _: np.ndarray) -> np.ndarray:
        changed = answers.copy()
        changed[..., axis] = change(answers[..., axis])
        return changed

    return read


def _permuted(one: int, other: int) -> Read:
    def read(answers: np.ndarray, _: np.ndarray) -> np.ndarray:
        changed = answers.copy()
        changed[..., [one, other]] = answers[..., [other, one]]
        return changed

    return read


def _moved(arm: Sequence[int], sign: float) -> Read:
    """By the state in which was asked: position and orientation, as AddState does it."""

    def read(answers: np.ndarray, felt: np.ndarray) -> np.ndarray:
        changed = answers.copy()
        changed[..., list(arm)] += sign * felt[:, None, : len(arm)]
        return changed

    return read
