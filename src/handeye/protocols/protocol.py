"""How an evaluation is run, as named data: what must be equal before two success rates may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from handeye.errors import UserError
from handeye.types import SceneStream


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything about an evaluation that is neither the policy nor the suite."""

    name: str
    version: int
    """Goes up with any change of a value below, so that a name and a version always mean the same."""

    horizons: Mapping[str, int]
    """Suite -> steps the policy may take. Settling is not counted."""

    settle_steps: int
    """Steps before the policy is first asked, while objects come to rest. Success in them does not count."""

    settle_action: tuple[float, ...]
    stream: SceneStream
    seed: int
    camera_size: int | Literal["policy"]
    """Height and width at which cameras are rendered; `policy`: what the policy's own ImageSpec declares."""

    image_steps: str
    """What the protocol's authors do to an image before their model sees it. Here that is the work of the pipeline in
    the policy's checkpoint; the sentence is for the reader of a difference."""

    replan_steps: int | Literal["chunk"]
    """Actions of a chunk that are executed before the policy is asked again; `chunk`: all of them."""

    initial_states: int
    """Episodes per task: one from each of the first so many stored initial states."""

    success: Literal["any_step"] = "any_step"
    """The goal holds after some step of the policy; the episode ends there."""

    simulator: str
    """Range of MuJoCo versions it was run with, or may be."""

    def horizon(self, suite: str) -> int:
        if suite not in self.horizons:
            raise UserError(
                f"Protocol {self.name} says nothing about the suite '{suite}'.",
                why="it has horizons for: " + ", ".join(self.horizons),
                fix="use --protocol handeye-2026, which covers every suite that comes with handeye",
            )
        return self.horizons[suite]

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "horizons": dict(self.horizons), "settle_action": list(self.settle_action)}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Protocol:
        return Protocol(**{**value, "settle_action": tuple(value["settle_action"])})


def diff(one: Protocol, other: Protocol) -> list[str]:
    """What differs, one line each; names and versions are labels and left out."""
    label = {"name": None, "version": None}
    return list(differences(one.to_json() | label, other.to_json() | label))


def differences(one: object, other: object, *, at: str = "") -> Iterator[str]:
    """Where two JSON values differ: `protocol.seed: 0 | 7`."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted(one.keys() | other.keys()):
            here = f"{at}.{key}" if at else str(key)
            yield from differences(one.get(key, "(absent)"), other.get(key, "(absent)"), at=here)
    elif one != other:
        yield f"{at}: {_short(one)} | {_short(other)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
