"""What may be wrong, how likely, on what evidence, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SURE, LIKELY, POSSIBLE = 0.9, 0.55, 0.4
"""Likelihoods from which a cause is called so. They order causes; no frequency stands behind them."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    name: str
    """A short one that stays: `pictures`, `gripper`, `sentence`, ..."""

    likelihood: float
    what: str
    """In words, with figures."""

    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    """JSON values."""

    @property
    def word(self) -> str:
        return next(
            word
            for least, word in ((SURE, "certain"), (LIKELY, "likely"), (POSSIBLE, "possible"), (0.0, "worth a look"))
            if self.likelihood >= least
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "word": self.word}


def ordered(causes: Iterable[Cause]) -> list[Cause]:
    """The likeliest first, each name once."""
    found: dict[str, Cause] = {}
    for cause in sorted(causes, key=lambda cause: -cause.likelihood):
        found.setdefault(cause.name, cause)
    return list(found.values())
