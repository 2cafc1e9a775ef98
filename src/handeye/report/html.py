"""Runs -> one page: what the template needs, computed; nothing is computed in the template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.summary import rate_of
from handeye.protocols.protocol import differences
from handeye.report.figures import Curve, interval_bar, success_over_steps
from handeye.report.load import Run
from handeye.report.videos import Shelf, shelve
from handeye.types import EpisodeId

MARKS = {"success": "✓", "failure": "✗", "error": "!", "waiting": "·"}
COLOURS = 6
"""Colours of runs in style.css; they repeat after that."""


def render(runs: Sequence[Run], *, page: Path, embed_mb: float) -> str:
    """The page's text. `page`: where it will lie, for links to videos that are not embedded."""
    import jinja2  # here: nobody but the report needs it

    templates = resources.files("handeye.report") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    shelf = shelve(runs, page=page, limit=embed_mb)
    suites = list(dict.fromkeys(run.suite for run in runs))
    return environment.from_string((templates / "page.html").read_text()).render(
        style=(templates / "style.css").read_text(),
        script=(templates / "page.js").read_text(),
        title=f"{_listed([run.label for run in runs])} on {_listed(suites)}",
        cards=[_card(run, number) for number, run in enumerate(runs)],
        suites=[_suite(suite, runs) for suite in suites],
        runs=[_about(run, number) for number, run in enumerate(runs)],
        differences=_differences(runs),
        errors=[_error(run, result) for run in runs for result in run.results.values() if result.outcome == "error"],
        episodes=_episodes(runs, shelf),
        shelf=shelf,
        marks=MARKS,
    )


def _card(run: Run, number: int) -> dict[str, Any]:
    """The headline. With errors it says so and what the rate could have been."""
    overall, summary = rate_of(list(run.results.values())), run.summary
    return {
        "colour": number % COLOURS,
        "label": run.label,
        "suite": run.suite,
        "protocol": run.identity["protocol"]["name"],
        "percent": f"{100 * overall.value:.1f}" if overall.episodes else None,
        "low": f"{100 * overall.low:.1f}",
        "high": f"{100 * overall.high:.1f}",
        "bar": interval_bar(overall, colour=number % COLOURS),
        "successes": overall.successes,
        "episodes": overall.episodes,
        "errors": summary["errors"],
        "bounds": [_percent(summary["if_errors_were"][side]) for side in ("failures", "successes")],
        "missing": len(run.planned) - len(run.results),
        "planned": len(run.planned),
        "over_tasks": summary["over_tasks"] and [_percent(summary["over_tasks"][side]) for side in ("low", "high")],
        "tasks": len(run.identity["tasks"]),
    }


def _suite(suite: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Table, grid and curve of the runs on one suite."""
    mine = [(number, run) for number, run in enumerate(runs) if run.suite == suite]
    horizon = max(run.identity["protocol"]["horizons"][suite] for _, run in mine)
    curves = [
        Curve(
            label=run.label,
            steps=[result.steps for result in run.results.values() if result.outcome == "success"],
            episodes=sum(result.outcome != "error" for result in run.results.values()),
        )
        for _, run in mine
    ]
    sentences = {task["index"]: task["language"] for _, run in mine for task in run.identity["tasks"]}
    return {
        "name": suite,
        "runs": [{"label": run.label, "colour": number % COLOURS} for number, run in mine],
        "tasks": [
            {
                "index": index,
                "language": sentences[index],
                "rates": [_task_rate(run, number, index) for number, run in mine],
                "rows": [
                    {
                        "label": run.label,
                        "colour": number % COLOURS,
                        "cells": [_cell(run, number, e) for e in run.planned if e.task == index],
                    }
                    for number, run in mine
                ],
            }
            for index in sorted(sentences)
        ],
        "curve": success_over_steps(curves, horizon=horizon),
    }


def _task_rate(run: Run, number: int, task: int) -> dict[str, Any]:
    found = rate_of(run.of_task(task))
    numbers = run.summary["tasks"].get(str(task), {})
    return {
        "text": f"{100 * found.value:.0f} %" if found.episodes else "–",
        "interval": f"{100 * found.low:.0f}–{100 * found.high:.0f}" if found.episodes else "",
        "count": f"{found.successes}/{found.episodes}" if found.episodes else "",
        "bar": interval_bar(found, colour=number % COLOURS),
        "steps": f"{numbers['median_steps_to_success']:.0f} steps" if numbers.get("median_steps_to_success") else "–",
        "errors": numbers.get("errors", 0),
    }


def _cell(run: Run, number: int, episode: EpisodeId) -> dict[str, Any]:
    result = run.results.get(episode.key)
    outcome = result.outcome if result else "waiting"
    said = f"{outcome} after {result.steps} steps" if result and result.outcome != "error" else outcome
    return {
        "id": f"{number}|{episode.key}" if result else "",
        "outcome": outcome,
        "video": bool(result and run.video(episode)),
        "title": f"{run.label}, initial state {episode.initial_state}: {said}",
    }


def _episodes(runs: Sequence[Run], shelf: Shelf) -> dict[str, dict[str, Any]]:
    """What a click on a cell shows."""
    return {
        f"{number}|{key}": {
            "id": key,
            "task": sentences[result.episode.task],
            "steps": result.steps,
            "questions": result.questions,
            "seconds": result.timing.get("seconds"),
            "tries": result.timing.get("tries", 1),
            "hashes": {name: value[:12] for name, value in result.hashes.items() if value},
            "error": result.error,
            "video": shelf.found.get((number, key)),
        }
        for number, run in enumerate(runs)
        for sentences in [{task["index"]: task["language"] for task in run.identity["tasks"]}]
        for key, result in run.results.items()
    }


def _error(run: Run, result: EpisodeResult) -> dict[str, Any]:
    text = (result.error or "").strip()
    return {"run": run.label, "id": result.episode.key, "last": text.splitlines()[-1] if text else "", "text": text}


def _differences(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each further run from the first on its suite, leaving out what a comparison of policies is about."""
    found = []
    for run in runs:
        first = next(other for other in runs if other.suite == run.suite)
        pair = [{**dict(each.identity), "policy": None} for each in (first, run)]
        for identity in pair:
            identity["simulator"] = {**identity["simulator"], "cameras": None, "backend": None, "renderer": None}
            identity["protocol"] = {**identity["protocol"], "camera_size": None}
            identity["versions"] = {**identity["versions"], "torch": None}
        if lines := list(differences(*pair)):
            found.append({"one": first.label, "other": run.label, "lines": lines})
    return found


def _about(run: Run, number: int) -> dict[str, Any]:
    """Protocol, policy, simulator, versions and sessions, as rows of name and value."""
    identity = run.identity
    protocol = dict(identity["protocol"])
    horizons = protocol.pop("horizons")
    seconds = sum(result.timing.get("seconds", 0) for result in run.results.values())
    return {
        "label": run.label,
        "colour": number % COLOURS,
        "folder": str(run.folder),
        "episodes": _which(identity),
        "protocol": [("name", f"{protocol.pop('name')}, version {protocol.pop('version')}")]
        + [("horizon", f"{horizons[run.suite]} steps")]
        + [(name.replace("_", " "), _plain(value)) for name, value in protocol.items()],
        "policy": [("address", run.address)]
        + [(name, _plain(value)) for name, value in identity["policy"].items() if name not in ("specs", "name")],
        "specs": identity["policy"].get("specs"),
        "simulator": [(name.replace("_", " "), _plain(value)) for name, value in identity["simulator"].items()]
        + [(name, _plain(value)) for name, value in identity["versions"].items() if name != "mujoco"],
        "time": f"{seconds / 60:.1f} minutes in all workers, {seconds / max(1, len(run.results)):.1f} s an episode",
        "sessions": [_session(session) for session in run.sessions if "started" in session],
    }


def _which(identity: Mapping[str, Any]) -> str:
    states = identity["initial_states"]
    return f"{len(identity['tasks'])} × {len(states)}: tasks, times initial states {states[0]} to {states[-1]}"


def _session(session: Any) -> dict[str, Any]:
    provenance = session["provenance"]
    git = provenance["git"]
    changed = " with local changes" if git and git["dirty"] else ""
    return {
        "started": session["started"],
        "before": session["episodes_before"],
        "workers": session["workers"],
        "commit": git["commit"][:10] + changed if git else "of an installed package",
        "machine": f"{provenance['machine']['system']}, {provenance['machine']['cpus']} CPUs",
        "python": provenance["python"],
        "command": " ".join(provenance["command"]),
    }


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_plain(part) for part in value) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value is None or value == "" else str(value)
