"""What verification says: one finding per check, with its evidence and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from handeye.data.source import EpisodeRef, Source
from handeye.types import Episode

Verdict = Literal["ok", "note", "warn", "fail"]
"""`note`: nothing wrong, but worth knowing, or not to be found out here. `fail`: do not train on this."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    check: str
    verdict: Verdict
    found: str
    """What was measured, with figures."""

    fix: str = ""
    """What to do; required where the verdict is `warn` or `fail`."""

    evidence: Mapping[str, Any] = field(default_factory=dict)
    """The figures behind it; JSON values."""

    def __post_init__(self) -> None:
        assert self.fix or self.verdict in ("ok", "note"), self.check

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@runtime_checkable
class Check(Protocol):
    """One kind of evidence, gathered episode by episode in constant memory."""

    def measure(self, episode: Episode) -> Any:
        """What is kept of one episode: small, picklable, a function of the episode alone. May run in a worker."""
        ...

    def add(self, ref: EpisodeRef, measured: Any) -> None:
        """In the set's order."""
        ...

    def findings(self, source: Source) -> Sequence[Finding]: ...


def exit_code(findings: Sequence[Finding]) -> int:
    """0 sound, 1 something is odd, 2 do not use it."""
    verdicts = {finding.verdict for finding in findings}
    return 2 if "fail" in verdicts else 1 if "warn" in verdicts else 0
