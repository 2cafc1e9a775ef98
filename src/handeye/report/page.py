"""Runs -> one page. Everything is computed before a template sees it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from handeye.report import failures, overview, published, tasks
from handeye.report.load import Shown, by_suite
from handeye.report.origin import origin
from handeye.report.speed import speed
from handeye.report.versus import telling, versus
from handeye.report.videos import Shelf, shelve

MARKS = {"success": "✓", "failure": "✕", "error": "!", "missing": "·"}
GALLERY, PAIRS = 12, 6
"""Failures and pairs that are open from the start; the others wait behind a button."""


def render(
    shown: Sequence[Shown],
    *,
    page: Path,
    embed_mb: float,
    assets: Path | None = None,
    margin: float | None = None,
    alpha: float = 0.05,
) -> str:
    """The page's text. `page`: where it will lie, for links to videos that are not inside. Videos go to `assets`."""
    templates = resources.files("handeye.report") / "templates"
    style, script = ((templates / name).read_text() for name in ("style.css", "page.js"))
    comparisons = versus(shown, margin=margin, alpha=alpha)
    shelf = shelve(shown, page=page, limit=embed_mb, assets=assets, first=telling(comparisons))
    suites = by_suite(shown)
    return (
        _templates()
        .get_template("page.html")
        .render(
            style=style,
            script=script,
            policy=_policy(style, script),
            version=metadata.version("handeye"),
            title=f"{_listed([each.label for each in shown], 'runs')} on {_listed(list(suites), 'suites')}",
            index=overview.overview(shown),
            comparisons=comparisons,
            suites=[tasks.suite(name, runs) for name, runs in suites.items()],
            failures=failures.gallery(shown),
            unmet=failures.unmet(shown),
            errors=failures.errors(shown),
            speed=speed(shown),
            published=published.published(shown),
            origins=[origin(each) for each in shown],
            episodes=_episodes(shown, shelf),
            shelf=shelf,
            marks=MARKS,
            gallery=GALLERY,
            pairs=PAIRS,
        )
    )


@cache
def _templates() -> Any:
    import jinja2  # here: nobody but the report needs it

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("handeye.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ticked"] = _ticked
    return environment


def _ticked(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _policy(style: str, script: str) -> str:
    """What a browser may do with the page: run this script, use this style, play videos. Nothing is loaded, and nothing
    that a task's sentence or a traceback may hold is run."""
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'" for text in (style, script)
    ]
    allowed = f"style-src {hashes[0]}; script-src {hashes[1]}; img-src data:; media-src 'self' file: blob:"
    return f"default-src 'none'; {allowed}"


def _episodes(shown: Sequence[Shown], shelf: Shelf) -> dict[str, dict[str, Any]]:
    """What a click on a cell shows."""
    return {
        each.id(result.episode): {
            "key": result.episode.key,
            "run": each.label,
            "task": each.tasks[result.episode.task],
            "state": f"initial state {result.episode.initial_state}",
            "outcome": result.outcome,
            "ended": tasks.ended(result),
            "questions": result.questions,
            "seconds": result.timing.get("seconds"),
            "tries": result.timing.get("tries", 1),
            **({"unmet": ", ".join(result.unmet)} if result.unmet else {}),
            **({"note": result.note} if result.note else {}),
            **({"unstable": result.unstable} if result.unstable else {}),
            **({"error": result.error} if result.error else {}),
            "hashes": {name: value[:12] for name, value in result.hashes.items() if value},
            "video": shelf.found.get(each.id(result.episode)),
        }
        for each in shown
        for result in each.recorded
    }


def _listed(names: Sequence[str], things: str) -> str:
    """By name as long as a title is still read."""
    names = list(dict.fromkeys(names))
    if len(names) > 4:
        return f"{len(names)} {things}"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
