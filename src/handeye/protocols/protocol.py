"""How an evaluation is run, as named data: what must be equal before two success rates may be compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from handeye.errors import UserError
from handeye.types import SceneStream

Unknown = Literal["unknown"]
"""Said where the authors' code does not determine a constant. Such a protocol can be read and compared, not run."""

LABELS = ("name", "version", "about", "sources")
"""Fields that say what a protocol is called, not what it does."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything about an evaluation that is neither the policy nor the suite."""

    name: str
    version: int
    """Goes up with any change of a value below, so that a name and a version always mean the same."""

    about: str = field(default="", compare=False)
    """One sentence for a list."""

    horizons: Mapping[str, int]
    """Suite -> steps the policy may take. Settling is not counted."""

    settle_steps: int
    """Steps before the policy is first asked, while objects come to rest. Success in them does not count."""

    settle_action: tuple[float, ...]
    stream: SceneStream | Unknown
    seed: int | Unknown
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

    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Constant -> where its value was read. `NAME.KEY` for one entry of a mapping."""

    def horizon(self, suite: str) -> int:
        if suite not in self.horizons:
            raise UserError(
                f"Protocol {self.name} says nothing about the suite '{suite}'.",
                why="it has horizons for: " + ", ".join(self.horizons),
                fix="use --protocol handeye-2026, which covers every suite that comes with handeye",
            )
        return self.horizons[suite]

    @property
    def unknown(self) -> tuple[str, ...]:
        """The constants that nobody knows."""
        return tuple(name for name in ("stream", "seed") if getattr(self, name) == "unknown")

    def scenes(self) -> tuple[SceneStream, int]:
        """Stream and seed; UserError where either is unknown. We do not guess under somebody else's name."""
        if self.stream == "unknown" or self.seed == "unknown":
            raise UserError(
                f"Protocol {self.name} cannot be run: {' and '.join(self.unknown)} unknown.",
                why="; ".join(self.sources.get(name, f"no source gives its {name}") for name in self.unknown),
                fix=f"`handeye protocols show {self.name} --json > mine.json`, give it a name of your own and values "
                "for what is unknown, then --protocol mine.json",
            )
        return self.stream, self.seed

    def constants(self) -> Iterator[tuple[str, object, str]]:
        """Name, value and source of each, horizons one by one."""
        for name, value in self.to_json().items():
            if name in LABELS:
                continue
            if isinstance(value, dict):
                for key, part in value.items():
                    yield f"{name}.{key}", part, self.sources.get(f"{name}.{key}", self.sources.get(name, ""))
            else:
                yield name, value, self.sources.get(name, "")

    def to_json(self) -> dict[str, Any]:
        """What identifies it: everything but the prose about it."""
        value = {**asdict(self), "horizons": dict(self.horizons), "settle_action": list(self.settle_action)}
        del value["about"], value["sources"]
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Protocol:
        """TypeError or ValueError name what is wrong with it."""
        _check(value)
        return Protocol(**{**value, "settle_action": tuple(float(part) for part in value["settle_action"])})


def _check(value: Mapping[str, Any]) -> None:
    """Of values that came from a file: ours are checked by their types."""
    if not isinstance(value, Mapping):
        raise TypeError("it is not a JSON object")
    known = [part.name for part in fields(Protocol)]
    if strange := sorted(set(value) - set(known)):
        raise ValueError(f"no protocol has: {', '.join(strange)}")
    if missing := [name for name in known if name not in value and name not in ("about", "sources")]:
        raise ValueError(f"missing: {', '.join(missing)}")
    for name in ("horizons", "sources"):
        if not isinstance(value.get(name, {}), Mapping):
            raise ValueError(f"{name} is {value[name]!r}, not an object")
    words = {"seed": "unknown", "camera_size": "policy", "replan_steps": "chunk"}
    least = {"version": 1, "settle_steps": 0, "seed": 0, "camera_size": 1, "replan_steps": 1, "initial_states": 1}
    numbers = {name: value[name] for name in least if value[name] != words.get(name)}
    numbers |= {f"horizons.{suite}": steps for suite, steps in value["horizons"].items()}
    for name, number in numbers.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < least.get(name, 1):
            raise ValueError(f"{name} is {number!r}, not a whole number from {least.get(name, 1)} up")
    texts = {name: value[name] for name in ("name", "image_steps", "simulator")}
    texts |= {f"sources.{name}": text for name, text in value.get("sources", {}).items()}
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise ValueError(f"{name} is {text!r}, not a text")
    if not isinstance(value.get("about", ""), str):
        raise ValueError(f"about is {value['about']!r}, not a text")
    for name, allowed in (("stream", (*get_args(SceneStream), "unknown")), ("success", ("any_step",))):
        if value[name] not in allowed:
            raise ValueError(f"{name} is {value[name]!r}, not one of: {', '.join(allowed)}")
    action = value["settle_action"]
    if not isinstance(action, list | tuple) or len(action) != 7:
        raise ValueError(f"settle_action is {action!r}, not 7 numbers")
    if not all(isinstance(part, int | float) and math.isfinite(part) for part in action):
        raise ValueError(f"settle_action is {action!r}, not 7 numbers")


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
