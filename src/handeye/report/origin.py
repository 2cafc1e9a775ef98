"""Where a run comes from: policy, protocol with its sources, simulator, versions, sessions. Nothing is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from handeye.protocols.presets import PROTOCOLS, described
from handeye.protocols.protocol import Protocol
from handeye.protocols.show import differing, find
from handeye.report.figures import key
from handeye.report.load import Shown

DEFAULT = "handeye-2026"
"""What a protocol of somebody's own is held against."""

TOLD = ("format", "suite", "tasks", "initial_states", "protocol", "policy", "simulator", "versions")
"""Parts of a plan that have a place of their own on the page."""

Rows = list[tuple[str, str]]


def origin(each: Shown) -> dict[str, Any]:
    identity, protocol = each.identity, protocol_of(each)
    against = protocol.name if protocol.name in PROTOCOLS else DEFAULT
    differences = list(_differences(described(against), protocol, each.suite))
    return {
        "label": each.label,
        "number": each.number,
        "key": key(each.colour),
        "suite": each.suite,
        "plan": [
            ("folder", each.run.place),
            ("suite", each.suite),
            ("episodes", _which(identity)),
            *([] if each.part == (1, 1) else [("part", "{} of {}".format(*each.part))]),
            *((name, plain(value)) for name, value in identity.items() if name not in TOLD),
        ],
        "policy": [("address", each.run.address), *_rows(identity["policy"], without=("specs",))],
        "specs": json.dumps(specs, indent=2, ensure_ascii=False) if (specs := identity["policy"].get("specs")) else "",
        "protocol": f"{protocol.name}, version {protocol.version}",
        "about": protocol.about,
        "constants": [(name, plain(value), source) for name, value, source in protocol.constants()],
        "against": against,
        "own": protocol.name not in PROTOCOLS,
        "differences": differences,
        "departs": any(not line["open"] for line in differences),
        "simulator": _rows(identity["simulator"]),
        "versions": _rows(identity["versions"]),
        "sessions": list(_sessions(each.sessions)),
        "raw": json.dumps(identity, indent=2, ensure_ascii=False),
    }


def protocol_of(each: Shown) -> Protocol:
    """As the run used it, each constant with its source."""
    return find(str(each.run.files))


def _differences(theirs: Protocol, ours: Protocol, suite: str) -> Iterator[dict[str, Any]]:
    """Of a run from what its protocol says. A camera's size that is left to the policy is no departure."""
    here = suite if suite in theirs.horizons and suite in ours.horizons else None
    for line in differing(theirs, ours, suite=here):
        open_ = line["constant"] == "camera_size" and line["one"] == "policy"
        yield {
            "constant": line["constant"],
            "open": open_,
            "theirs": plain(line["one"]),
            "ours": plain(line["other"]),
            "why": "left to the policy, which declares it" if open_ else line["source_of_other"],
        }


def _which(identity: Mapping[str, Any]) -> str:
    states, tasks = identity["initial_states"], [str(task["index"]) for task in identity["tasks"]]
    span = str(states[0]) if len(states) == 1 else f"{states[0]} to {states[-1]}"
    return f"{len(tasks) * len(states)}: tasks {', '.join(tasks)}; initial states {span}"


def _sessions(lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A start, with the end that follows it if there is one. Words we do not know are shown as they stand."""
    for number, line in enumerate(lines):
        if "started" not in line:
            continue
        provenance = line.get("provenance") or {}
        git, machine = provenance.get("git"), provenance.get("machine") or {}
        after = lines[number + 1] if number + 1 < len(lines) else {}
        known = ("started", "episodes_before", "workers", "provenance")
        yield {
            "started": line["started"],
            "before": line.get("episodes_before", 0),
            "end": _end(after),
            "commit": git["commit"][:10] + (" with local changes" if git["dirty"] else "")
            if git
            else "none: installed",
            "rows": [
                ("workers", plain(line.get("workers"))),
                ("handeye", plain(provenance.get("handeye"))),
                ("Python", plain(provenance.get("python"))),
                ("packages", plain(provenance.get("packages"))),
                ("machine", f"{plain(machine.get('system'))}, {plain(machine.get('cpus'))} CPUs"),
                *((name.replace("_", " "), plain(value)) for name, value in line.items() if name not in known),
            ],
            "command": " ".join(provenance.get("command") or ()),
        }


def _end(line: Mapping[str, Any]) -> str:
    if "ended" not in line:
        return "it was killed, or is still running"
    return f"{line.get('episodes')} episodes in {float(line.get('seconds', 0)) / 60:.1f} minutes"


def _rows(values: Mapping[str, Any], *, without: Sequence[str] = ()) -> Rows:
    return [(name.replace("_", " "), plain(value)) for name, value in values.items() if name not in without]


def plain(value: object) -> str:
    """A JSON value for people."""
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None or value == "" else str(value)
