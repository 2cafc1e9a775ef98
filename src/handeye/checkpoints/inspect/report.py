"""What was found out about a file or folder, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from handeye.console import say

Verdict = Literal["sound", "incomplete", "broken", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """`verdict`: sound is whole and, if it is a checkpoint, would load; incomplete lacks what is in `missing`; broken
    has `problems`; unknown is nothing that is known here."""

    path: str
    verdict: Verdict
    what: str
    """In a few words."""

    layout: str = ""
    family: str = ""
    backbones: tuple[str, ...] = ()
    """Where, which, and what proves it."""

    parameters: int | None = None
    tensors: int | None = None
    types: Mapping[str, int] = field(default_factory=dict)
    """Type -> numbers of it."""

    adapters: str = ""
    statistics: tuple[str, ...] = ()
    """Keys, or what they are of."""

    conventions: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    """What unpickling would call. None of it was."""

    fix: str = ""
    """What to type or do first."""

    command: str = ""
    """What uses it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def show(self) -> None:
        say(f"{self.path}: {self.what}")
        numbers = "" if self.parameters is None else f"{self.parameters:,} in {self.tensors:,} tensors"
        for title, lines in (
            ("verdict", [self.verdict]),
            ("layout", [self.layout]),
            ("family", [self.family]),
            ("backbones", self.backbones),
            ("parameters", [numbers]),
            ("types", [", ".join(f"{kind} {count:,}" for kind, count in self.types.items())]),
            ("adapters", [self.adapters]),
            ("statistics", self.statistics),
            ("conventions", [f"{name}: {value}" for name, value in self.conventions.items()]),
            ("note", self.notes),
            ("problem", self.problems),
            ("missing", self.missing),
            ("code in it", [*self.code, *["none of it was run"] * bool(self.code)]),
            ("fix", [self.fix]),
            ("use it", [self.command]),
        ):
            for index, line in enumerate(filter(None, lines)):
                say(f"  {title if index == 0 else '':<12}{line}")
