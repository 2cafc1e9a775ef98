"""`handeye doctor`, the verb: every topic, a table that fits a small screen, and what to type."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict

from handeye.console import say
from handeye.doctor import attention, disk, environment, given, gpu, network, profiles, simulator
from handeye.doctor.config import DoctorConfig
from handeye.doctor.findings import Finding

WIDTH = 78


def run(config: DoctorConfig) -> int:
    """The exit code: 1 if anything failed."""
    if config.profile != "here":
        if config.json:
            advice = {family: profiles.advise(config.profile, family).to_json() for family in profiles.USES}
            print(json.dumps(advice, indent=2))  # noqa: T201 - JSON for another program, not for a person
        else:
            profiles.show(config.profile)
        return 0
    found = [finding for topic, check in topics(config).items() for finding in guarded(topic, check)]
    if config.json:
        told = {"verdict": worst(found), "findings": [asdict(each) for each in found]}
        print(json.dumps(told, indent=2))  # noqa: T201 - JSON for another program, not for a person
    else:
        show(found)
    return 1 if worst(found) == "fail" else 0


def topics(config: DoctorConfig) -> dict[str, Callable[[], Iterable[Finding]]]:
    every: dict[str, Callable[[], Iterable[Finding]]] = {
        "environment": environment.check,
        "gpu": gpu.check,
        "attention": attention.check,
        "simulator": simulator.check,
        "given": lambda: given.check(config.data, config.checkpoint),
        "disk": disk.check,
        "network": lambda: network.check(port=config.port, offline=config.offline),
    }
    return {name: check for name, check in every.items() if not config.topics or name in config.topics}


def guarded(topic: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """What was found, and, where the check itself broke, that."""
    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)
    except Exception as error:  # a broken machine breaks checks in ways of its own
        found.append(
            Finding(
                topic=topic,
                about="the check itself",
                verdict="fail",
                found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                means="nothing more is known about this topic",
                fix="HANDEYE_TRACEBACK=1 shows where; please report it",
            )
        )
    return found


def worst(found: Iterable[Finding]) -> str:
    verdicts = {each.verdict for each in found}
    return next((verdict for verdict in ("fail", "warn") if verdict in verdicts), "ok")


def show(found: Iterable[Finding]) -> None:
    """One line each, what is wrong below it; nothing wider than a small screen unless a path is."""
    topic = ""
    for each in found:
        if each.topic != topic:
            topic = each.topic
            say(topic)
        _lines(f"  {each.verdict:<5}{each.about}: {each.found}", 7)
        if each.verdict != "ok":
            _lines(f"       means  {each.means}", 14)
            _lines(f"       type   {each.fix}", 14)
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in ("ok", "warn", "fail")}
    say(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failures")


def _lines(text: str, indent: int) -> None:
    for line in textwrap.wrap(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    ):
        say(line)
