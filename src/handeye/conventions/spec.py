"""Declared conventions: what the numbers of a dataset, a checkpoint or a simulator mean, compared when they meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Literal, TypeVar

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Orientation
from handeye.conventions.plain import from_plain, to_plain
from handeye.conventions.rotation import Rotation
from handeye.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ActionSpec:
    """What an action makes the robot do."""

    width: int
    control: Literal["eef_delta"]
    """`eef_delta`: a step of the end effector, position and rotation vector, along the world's axes."""

    low: float
    high: float
    """Limits of every dimension; the controller clips beyond them."""

    metres_per_unit: float
    radians_per_unit: float
    gripper: Gripper
    gripper_index: int
    hz: float
    """Actions per second of simulated time."""

    def to_json(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @staticmethod
    def from_json(value: object) -> ActionSpec:
        return from_plain(ActionSpec, value, what="the action spec")


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """What the images show, before any pipeline step."""

    cameras: tuple[str, ...]
    """Our names, in order."""

    height: int
    width: int
    """As rendered or recorded. Two sizes differ even when both are resized to the same one afterwards."""

    orientation: Orientation

    def only(self, cameras: tuple[str, ...], *, here: str) -> ImageSpec:
        """The same images from these cameras alone: for a policy that looks through fewer of them."""
        if missing := [name for name in cameras if name not in self.cameras]:
            raise UserError(
                f"{here} has no camera called '{missing[0]}'.",
                why=f"it has: {', '.join(self.cameras)}",
                fix="render that camera, or use a policy trained without it",
            )
        return replace(self, cameras=cameras)

    def to_json(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @staticmethod
    def from_json(value: object) -> ImageSpec:
        return from_plain(ImageSpec, value, what="the image spec")


@dataclass(frozen=True, kw_only=True)
class ProprioSpec:
    """What the vector of proprioception holds."""

    parts: tuple[tuple[str, int], ...]
    """Names and widths, in order."""

    rotation: Rotation
    """Of the part that is an orientation."""

    @property
    def width(self) -> int:
        return sum(width for _, width in self.parts)

    def to_json(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @staticmethod
    def from_json(value: object) -> ProprioSpec:
        return from_plain(ProprioSpec, value, what="the proprioception spec")


@dataclass(frozen=True, kw_only=True)
class Specs:
    """All three, as a dataset, a checkpoint and a simulator carry them."""

    action: ActionSpec
    image: ImageSpec
    proprio: ProprioSpec

    def to_json(self) -> dict[str, Any]:
        return dict(to_plain(self))

    @staticmethod
    def from_json(value: object) -> Specs:
        return from_plain(Specs, value, what="the specs")


Spec = TypeVar("Spec", ActionSpec, ImageSpec, ProprioSpec, Specs)

MENDS: Mapping[str, str] = {
    "width": "use data and a simulator with equally wide vectors: no step can invent a dimension",
    "control": "record the demonstrations again with this controller",
    "low": "rescale with the decode step ScaleActions",
    "high": "rescale with the decode step ScaleActions",
    "metres_per_unit": "rescale with the decode step ScaleActions",
    "radians_per_unit": "rescale with the decode step ScaleActions",
    "gripper": "add the step ConvertGripper to the policy's `decode` list",
    "gripper_index": "record the demonstrations again: the gripper must be the same dimension",
    "hz": "simulate at the rate of the demonstrations",
    "cameras": "render and name the same cameras, or train again on these",
    "image size": "render at the size of the demonstrations (the camera size of the protocol or the simulator), or "
    "record demonstrations at this one",
    "orientation": "add the step TurnImages to the policy's `encode` list",
    "parts": "assemble the same vector (see handeye.conventions.proprio), or train again on this one",
    "rotation": "add the step ConvertProprioRotation to the policy's `encode` list",
}
"""Field -> what brings the two together."""


def require_same(a: Spec, b: Spec, *, here: str, there: str) -> None:
    """Stop where two conventions differ. `here` names the owner of `a`, `there` that of `b`, for the message."""
    differences = list(_differences(a, b))
    if not differences:
        return
    names = list(dict.fromkeys(name for name, _, _ in differences))
    raise UserError(
        f"{here} and {there} disagree on {', '.join(names)}.",
        why="; ".join(f"{name}: {one!r} here, {other!r} there" for name, one, other in differences),
        fix="; ".join(dict.fromkeys(MENDS[name] for name in names)),
    )


def _differences(a: Any, b: Any) -> Iterator[tuple[str, object, object]]:
    if isinstance(a, ImageSpec) and (a.height, a.width) != (b.height, b.width):
        yield "image size", f"{a.height}x{a.width}", f"{b.height}x{b.width}"
    for field in fields(a):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if is_dataclass(one):
            yield from _differences(one, other)
        elif one != other and not (isinstance(a, ImageSpec) and field.name in ("height", "width")):
            yield field.name, _shown(one), _shown(other)


def _shown(value: object) -> object:
    return value.value if isinstance(value, Enum) else value
