"""The record of an episode, one JSON line each, appended when it ends. Every figure is computed from these lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from handeye.errors import UserError
from handeye.records import append_line, read_lines
from handeye.types import EpisodeId

Outcome = Literal["success", "failure", "error"]
EPISODES = "episodes.jsonl"


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What became of one episode."""

    episode: EpisodeId
    outcome: Outcome
    """`failure` is the policy's; `error` is ours (a worker crashed, hung or raised) and never counts against it."""

    steps: int
    """Actions of the policy, up to and including the one that succeeded. 0 for an error."""

    questions: int
    """How often the policy was asked."""

    unstable: int
    """Steps in which the simulation exploded and MuJoCo put it back to its start. The reference goes on after that, and
    so do we, but such an episode says little about the policy."""

    unmet: tuple[str, ...] | None
    """Parts of the goal that did not hold at the end; empty after a success. None if the simulator knows none, and for
    an error."""

    note: str
    """Why the expert gave up, in its own words. Other policies say nothing."""

    hashes: Mapping[str, str | None]
    """SHA-256 of the compiled `model`, the placed `scene`, the first `observation` the policy was asked with (None if
    it is never shown one) and all `actions` that were executed. Empty for an error."""

    error: str | None
    """Traceback, or how the worker was lost."""

    timing: Mapping[str, Any]
    """All that may differ when the same episode is run again: seconds, of which waited for answers, tries, worker."""

    @staticmethod
    def broken(episode: EpisodeId, error: str, timing: Mapping[str, Any]) -> EpisodeResult:
        """An episode that never came to an end of its own."""
        nothing: dict[str, Any] = {"steps": 0, "questions": 0, "unstable": 0, "unmet": None, "note": "", "hashes": {}}
        return EpisodeResult(episode=episode, outcome="error", error=error, timing=timing, **nothing)

    def to_json(self) -> dict[str, Any]:
        unmet = None if self.unmet is None else list(self.unmet)
        return {"id": self.episode.key, **asdict(self), "unmet": unmet}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> EpisodeResult:
        fields = {name: part for name, part in value.items() if name not in ("id", "episode", "unmet")}
        unmet = None if value["unmet"] is None else tuple(value["unmet"])
        return EpisodeResult(episode=EpisodeId(**value["episode"]), unmet=unmet, **fields)


def append(out: Path, result: EpisodeResult) -> None:
    append_line(out / EPISODES, result.to_json())


def read(out: Path) -> dict[str, EpisodeResult]:
    """Episode key -> its last record. An error that was run again is replaced by what came of it."""
    found: dict[str, EpisodeResult] = {}
    for number, line in enumerate(read_lines(out / EPISODES), start=1):
        try:
            result = EpisodeResult.from_json(line)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{out / EPISODES} line {number} is not an episode's record.",
                why=f"{type(error).__name__}: {error}",
                fix="the file was edited, or written by another version: restore it, or delete that line",
            ) from None
        known = found.get(result.episode.key)
        if known is None or known.outcome == "error":
            found[result.episode.key] = result
    return found


def remaining(planned: Sequence[EpisodeId], found: Mapping[str, EpisodeResult]) -> list[EpisodeId]:
    """What was planned, less what ended without an error."""
    return [episode for episode in planned if episode.key not in found or found[episode.key].outcome == "error"]


def comparable(results: Iterable[EpisodeResult]) -> list[dict[str, Any]]:
    """Sorted, without timing: equal for any number of workers and any interruption."""
    lines = [{name: value for name, value in result.to_json().items() if name != "timing"} for result in results]
    return sorted(lines, key=lambda line: line["id"])
