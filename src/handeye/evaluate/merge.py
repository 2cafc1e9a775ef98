"""`handeye merge-runs`: parts of one evaluation, run anywhere, become the directory that one machine would write.

Nothing is averaged and nothing is chosen. All must have the same plan, an episode that several ran must have come out
the same, and what is missing is said. The parts stay as they are.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from handeye.console import say, warn
from handeye.errors import UserError
from handeye.evaluate import plan as plans
from handeye.evaluate import results, runs, video
from handeye.evaluate.config import MergeConfig
from handeye.evaluate.results import EPISODES, EpisodeResult
from handeye.evaluate.run import alone, refuse_foreign
from handeye.evaluate.summary import SUMMARY, rate_of, summarise
from handeye.protocols.protocol import differences
from handeye.records import read_lines, write_bytes, write_json

LISTED = 5
"""Missing episodes that are named."""


def run(config: MergeConfig) -> Path:
    """Returns the merged directory. UserError for what does not belong together; nothing is written then."""
    out = config.out
    refuse_foreign(out)
    there = [out] if (out / plans.PLAN).exists() else []
    with ExitStack() as stack:
        parts = [runs.here(part) for part in config.runs]
        for part, named in zip(parts, config.runs, strict=True):
            stack.enter_context(_resting(part, named))
        identity, address = _common_plan([*there, *parts])
        planned = plans.episodes(identity)
        merged = _merged([*there, *parts], {episode.key for episode in planned})
        stack.enter_context(alone(out))
        write_json(out / plans.PLAN, {"identity": identity, "address": address, "part": [1, 1]})
        ordered = [merged[episode.key] for episode in planned if episode.key in merged]
        _write_lines(out / EPISODES, [result.to_json() for result in ordered])
        _write_lines(out / plans.SESSIONS, _sessions([*there, *parts], [*there, *config.runs]))
        for part, named in zip(parts, config.runs, strict=True):
            runs.bring_films(named, part, ordered)
        for result in ordered:
            _take_video(parts, out, result)
        write_json(out / SUMMARY, summarise(planned, merged))
    say(f"{len(ordered)} of {len(planned)} episodes -> {out}: {rate_of(ordered)}")
    if errors := sum(result.outcome == "error" for result in ordered):
        warn(f"{errors} episodes ended in an error; `handeye evaluate ... --out {out}` tries them again")
    if missing := [episode.key for episode in planned if episode.key not in merged]:
        more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        warn(
            f"{len(missing)} episodes are missing: {', '.join(missing[:LISTED])}{more}; "
            f"merge their part too, or run them with `handeye evaluate ... --out {out}`"
        )
    return out


def _common_plan(folders: Sequence[Path]) -> tuple[Mapping[str, Any], str]:
    """Of all folders, or an error that says how they differ."""
    first, address = plans.read_identity(folders[0])
    for other in folders[1:]:
        identity, named = plans.read_identity(other)
        if differing := list(differences(first, identity)):
            raise UserError(
                f"{folders[0]} and {other} are not parts of one evaluation.",
                why="; ".join(differing),
                fix="give every machine the same command and versions; `handeye compare` is for different evaluations",
            )
        if named != address:
            warn(f"the policy was named {address} in {folders[0]} and {named} in {other}; it is the same one")
    if "stop_when" in first:
        raise UserError(
            f"{folders[0]} may have been stopped early by a rule.",
            why="which episodes count then depends on what was found, so parts of it are not parts of a whole",
            fix="evaluate without --stop-when",
        )
    return first, address


def _merged(folders: Sequence[Path], planned: set[str]) -> dict[str, EpisodeResult]:
    """Every episode that anybody finished. An error gives way to a result."""
    merged: dict[str, EpisodeResult] = {}
    origin: dict[str, Path] = {}
    for folder in folders:
        for key, result in results.read(folder).items():
            if key not in planned:
                raise UserError(
                    f"{folder / EPISODES} has a record of {key}.",
                    why="its plan has no such episode",
                    fix="the file was edited: restore it, or delete that line",
                )
            known = merged.get(key)
            if known is not None and "error" not in (known.outcome, result.outcome):
                _require_same(known, result, origin[key], folder)
            if known is None or known.outcome == "error":
                merged[key], origin[key] = result, folder
    return merged


def _require_same(one: EpisodeResult, other: EpisodeResult, here: Path, there: Path) -> None:
    [mine], [its] = results.comparable([one]), results.comparable([other])
    if differing := list(differences(mine, its)):
        raise UserError(
            f"{one.episode.key} came out differently in {here} and in {there}.",
            why="; ".join(differing),
            fix="something that reaches the outcome differs between the machines and is not in the plan; find it "
            "before you believe either: `handeye sim check` on both is a start",
        )


def _sessions(folders: Sequence[Path], named: Sequence[Path]) -> list[dict[str, Any]]:
    """Of all parts, each with the folder it came from."""
    places = zip(folders, named, strict=True)
    return [{"part": str(name), **line} for folder, name in places for line in read_lines(folder / plans.SESSIONS)]


def _take_video(folders: Sequence[Path], out: Path, result: EpisodeResult) -> None:
    target = video.path(out, result.episode)
    if not target.exists():
        for folder in folders:
            if (source := video.path(folder, result.episode)).is_file():
                write_bytes(target, source.read_bytes())
                return


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode())


@contextmanager
def _resting(folder: Path, named: Path) -> Iterator[None]:
    """Nobody is writing into it now, or will while it is read."""
    if not (folder / plans.PLAN).is_file():
        raise UserError(
            f"{named} is not an evaluation.", why=f"it has no {plans.PLAN}", fix="give what `handeye evaluate` wrote"
        )
    lock = folder / ".lock"
    if not lock.exists():  # copied from elsewhere without it, perhaps to where nothing may be written
        yield
        return
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"An evaluation is still writing into {folder}.", fix="wait for it, then merge again"
            ) from None
        yield
