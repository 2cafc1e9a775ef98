"""`handeye protocols list`, `show` and `diff`: protocols for the eye, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from handeye.console import say, table
from handeye.errors import UserError
from handeye.protocols.config import DiffConfig, ListConfig, ShowConfig
from handeye.protocols.presets import LIBERO_HORIZONS, PROTOCOLS, described
from handeye.protocols.protocol import Protocol
from handeye.records import read_json
from handeye.transfer import remote

PLAN = "plan.json"


def list_(config: ListConfig) -> None:
    """A row per protocol."""
    found = [make() for make in PROTOCOLS.values()]
    if config.json:
        say(json.dumps([{**as_file(protocol), "runnable": not protocol.unknown} for protocol in found], indent=2))
        return
    rows = []
    for protocol in found:
        steps = [protocol.horizons[suite] for suite in LIBERO_HORIZONS]
        scenes = "unknown" if protocol.unknown else f"{protocol.stream} {protocol.seed}"
        rows.append(
            [
                protocol.name,
                f"{min(steps)}-{max(steps)}",
                protocol.settle_steps,
                scenes,
                protocol.camera_size,
                protocol.replan_steps,
                protocol.initial_states,
            ]
        )
    table("", ["", "steps", "settle", "scenes, seed", "pixels", "per look", "per task"], rows)
    say("\nsteps: LIBERO's suites. per look: actions before the policy is asked again. per task: episodes.\n")
    for protocol in found:
        say(f"{protocol.name}: {protocol.about}" + (" (cannot be run)" if protocol.unknown else ""))
    say("\n`handeye protocols show NAME` has every constant with its source.")


def show(config: ShowConfig) -> None:
    protocol = find(config.protocol)
    if config.json:
        say(json.dumps(as_file(protocol), indent=2))
        return
    say(f"{protocol.name}, version {protocol.version}" + (f": {protocol.about}" if protocol.about else ""))
    if protocol.unknown:
        say(f"It cannot be run: {' and '.join(protocol.unknown)} unknown.")
    for name, value, source in protocol.constants():
        say(f"\n{name}: {_plain(value)}")
        say(f"    {source or 'no source given'}")


def diff(config: DiffConfig) -> None:
    one, other = find(config.one), find(config.other)
    found = differing(one, other, suite=config.suite)
    if config.json:
        say(json.dumps({"one": one.name, "other": other.name, "differences": found}, indent=2))
        return
    if not found:
        say(f"{one.name} and {other.name} are the same" + (f" for {config.suite}." if config.suite else "."))
    for line in found:
        say(f"{line['constant']}: {_plain(line['one'])} | {_plain(line['other'])}")
        say(f"    {one.name}: {line['source_of_one'] or 'no source given'}")
        say(f"    {other.name}: {line['source_of_other'] or 'no source given'}")


def differing(one: Protocol, other: Protocol, *, suite: str | None = None) -> list[dict[str, Any]]:
    """The constants that differ, with values and sources of both; of one suite's horizon only if it is named."""
    sides = [{name: (value, source) for name, value, source in protocol.constants()} for protocol in (one, other)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    if suite is not None:
        for protocol in (one, other):
            protocol.horizon(suite)
        names = {name: None for name in names if not name.startswith("horizons.") or name == f"horizons.{suite}"}
    found = []
    for name in names:
        (value, source), (another, its_source) = (side.get(name, ("(absent)", "")) for side in sides)
        if value != another:
            found.append(
                {
                    "constant": name,
                    "one": value,
                    "other": another,
                    "source_of_one": source,
                    "source_of_other": its_source,
                }
            )
    return found


def find(name: str) -> Protocol:
    """By name, from a protocol file, or from the plan of an evaluation's directory, here or at a URL."""
    url = remote.url_of(name)
    plan = (Path(name) if url is None else remote.files(url, (PLAN,))) / PLAN
    if not plan.is_file():
        return described(name)
    written = read_json(plan, what="a run's plan")
    try:
        return _with_sources(Protocol.from_json(written["identity"]["protocol"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{plan} holds no protocol.", why=str(error), fix="give the directory of an evaluation, or a name"
        ) from None


def _with_sources(protocol: Protocol) -> Protocol:
    """A run's plan holds values alone; those of the protocol's own have its sources, others the run's flags."""
    make = PROTOCOLS.get(protocol.name)
    original = {} if make is None else {name: (value, source) for name, value, source in make().constants()}
    sources = {}
    for name, value, _ in protocol.constants():
        own, source = original.get(name, (None, ""))
        sources[name] = source if own == value else "set by this run"
    return replace(protocol, sources=sources)


def as_file(protocol: Protocol) -> dict[str, Any]:
    """What a protocol file holds: the values, and the prose about them."""
    return {**protocol.to_json(), "about": protocol.about, "sources": dict(protocol.sources)}


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return str(dict(value)) if isinstance(value, Mapping) else str(value)
