"""`handeye data verify`: open the set, gather evidence episode by episode in worker processes, say what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye.console import console, progress, say
from handeye.data.config import VerifyConfig
from handeye.data.source import Source, Stored, open_source
from handeye.data.verify import known, rendered
from handeye.data.verify.contents import ContentsCheck
from handeye.data.verify.findings import Check, Finding, exit_code
from handeye.data.verify.motion import GripperCheck, MomentCheck
from handeye.data.verify.picture import PictureCheck
from handeye.data.verify.pose import PoseCheck
from handeye.data.workers import HANG_AFTER, MOST_MEMORY
from handeye.data.xvr.questions import holds_questions
from handeye.data.xvr.verify import verify as verify_questions
from handeye.distributed.crew import Ask, Crew
from handeye.distributed.jobs import Finished
from handeye.errors import UserError

SHOWN = 5
"""Defects that are listed one by one; the rest are counted."""


def run(config: VerifyConfig) -> int:
    """The exit code: 0 sound, 1 odd, 2 not to be used."""
    try:
        source = open_source(config.root)
    except UserError as error:
        if holds_questions(config.root):
            return _tell(config, None, verify_questions(config.root, quick=config.quick, workers=config.workers))
        return _tell(config, None, [_unreadable(error)])
    return _tell(config, source.stored, verify(source, suite=config.suite, quick=config.quick, workers=config.workers))


def verify(source: Source, *, suite: str | None = None, quick: bool = False, workers: int = 1) -> list[Finding]:
    """Every finding, in the order in which a person would read them."""
    checks = _checks(suite or suite_of(source.root), quick=quick)
    defects: list[Finding] = []
    for ref, measured in _measured(source, quick=quick, workers=workers):
        if isinstance(measured, UserError):
            defects.append(_unreadable(measured))
            continue
        for check, part in zip(checks, measured, strict=True):
            check.add(ref, part)
    found = [_readable(source, defects)]
    found += [Finding(check="warning", verdict="warn", found=text, fix="look at it") for text in source.warnings]
    found += defects[:SHOWN]
    if len(defects) < len(source.episodes):
        found += [finding for check in checks for finding in check.findings(source)]
    if not quick and not defects:
        found += rendered.findings(source, suite=suite if suite != "none" else None)
    return found


def suite_of(root: Path) -> str | None:
    """The LIBERO suite that a folder's path names, nearest part first. None: none."""
    for part in reversed(root.resolve().parts):
        names = [suite for suite in known.SUITES if re.search(rf"{suite}(?!\d)", part)]
        if names:
            return names[0]
    return None


def _checks(suite: str | None, *, quick: bool) -> tuple[Check, ...]:
    pictures: tuple[Check, ...] = () if quick else (PictureCheck(),)
    return ContentsCheck(suite), GripperCheck(), MomentCheck(), PoseCheck(), *pictures


@dataclass(frozen=True)
class _Setup:
    root: Path
    quick: bool


def _make(setup: _Setup, ask: Ask) -> Callable[[int], Any]:
    source = open_source(setup.root)
    checks = _checks(None, quick=setup.quick)

    def measure(number: int) -> Any:
        """What each check keeps of an episode, or why it cannot be read: other episodes may be sound."""
        try:
            episode = source.load(source.episodes[number], images=not setup.quick)
        except UserError as error:
            return error
        return [check.measure(episode) for check in checks]

    return measure


def _measured(source: Source, *, quick: bool, workers: int) -> Sequence[tuple[Any, Any]]:
    """(ref, what was measured) of every episode, in order."""
    found: dict[int, Any] = {}
    total = len(source.episodes)
    with progress("verifying", total) as advance:
        if workers == 1:
            measure = _make(_Setup(source.root, quick), _no_question)
            for number in range(total):
                found[number] = measure(number)
                advance()
        else:

            def done(ended: Finished[int, Any]) -> None:
                found[ended.job] = ended.result if ended.error is None else _crashed(source, ended)
                advance()

            Crew(
                make=_make, setup=_Setup(source.root, quick), workers=min(workers, total), tries=1,
                hang_after=HANG_AFTER, things="episodes", log="the message", memory=MOST_MEMORY,
            ).each(range(total), done)  # fmt: skip
    return [(ref, found[number]) for number, ref in enumerate(source.episodes)]


def _no_question(question: object) -> object:
    raise AssertionError("nobody asks here")


def _crashed(source: Source, ended: Finished[int, Any]) -> UserError:
    """A library that crashed or hung on an episode: that episode is at fault, or we are."""
    return UserError(
        f"{source.root}: {source.episodes[ended.job].id} could not be read.",
        why=(ended.error or "").strip().splitlines()[-1],
        fix="fetch it again",
    )


def _readable(source: Source, defects: Sequence[Finding]) -> Finding:
    stored = source.stored
    said = f"{stored.format} {stored.version}, {stored.codec} {source.specs.image.height} x {source.specs.image.width}"
    if stored.lacks:
        said += f", without {', '.join(stored.lacks)}"
    if not defects:
        return Finding(
            check="readable", verdict="ok", found=said, evidence={"format": stored.format, "version": stored.version}
        )
    return Finding(
        check="readable",
        verdict="fail",
        found=f"{said}; {len(defects)} of {len(source.episodes)} episodes cannot be read",
        fix="fetch these again; the first ones follow",
    )


def _unreadable(error: UserError) -> Finding:
    return Finding(
        check="readable", verdict="fail", found=" ".join(filter(None, (error.what, error.why))), fix=error.fix
    )


def _tell(config: VerifyConfig, stored: Stored | None, findings: Sequence[Finding]) -> int:
    code = exit_code(findings)
    if config.json:
        value: Mapping[str, Any] = {
            "root": str(config.root),
            "verdict": ("sound", "odd", "unusable")[code],
            "findings": [finding.to_json() for finding in findings],
        }
        print(json.dumps(value, indent=2, sort_keys=True))  # noqa: T201 - JSON for another program, not for a person
        return code
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "check", "found"):
        shown.add_column(column, overflow="fold")
    colours = {"ok": "green", "note": "cyan", "warn": "yellow", "fail": "red"}
    for finding in findings:
        shown.add_row(f"[{colours[finding.verdict]}]{finding.verdict}[/]", finding.check, finding.found)
        if finding.fix:
            shown.add_row("", "", f"fix: {finding.fix}")
    console.print(shown)
    say(("sound", "something is odd", "do not use it as it is")[code] + f": {config.root}")
    return code
