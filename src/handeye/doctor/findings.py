"""What a check says: ok, warn or fail, what that means for a result, and the line to type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`fail`: results would be wrong, or nothing would run. `warn`: slower, or wrong under some condition."""

    topic: str
    about: str
    verdict: Verdict
    found: str
    means: str = ""
    """For a result. Empty if it is ok."""

    fix: str = ""
    """The line to type, or what to do."""


Say = Callable[..., Finding]


def of(topic: str) -> tuple[Say, Say, Say]:
    """ok(about, found), warn(about, found, means, fix), fail(about, found, means, fix) of one topic."""

    def make(verdict: Verdict) -> Say:
        def say(about: str, found: str, means: str = "", fix: str = "") -> Finding:
            return Finding(topic=topic, about=about, verdict=verdict, found=found, means=means, fix=fix)

        return say

    return make("ok"), make("warn"), make("fail")
