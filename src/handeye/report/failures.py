"""What went wrong: failures with what was unmet and how it looked, errors with their traceback."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from handeye.evaluate.results import EpisodeResult
from handeye.report.figures import key
from handeye.report.load import Shown
from handeye.report.tasks import ended


def gallery(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Every failure. Filmed ones come first, and of these the first of every run and task before the second of any."""
    found = [_failure(each, result) for each in shown for result in each.results if result.outcome == "failure"]
    seen = Counter[tuple[int, int, bool]]()
    for failure in found:
        kind = failure["run"], failure["task"], failure["filmed"]
        failure["turn"] = seen[kind]
        seen[kind] += 1
    return sorted(found, key=lambda failure: (not failure["filmed"], failure["turn"]))


def _failure(each: Shown, result: EpisodeResult) -> dict[str, Any]:
    return {
        "id": each.id(result.episode),
        "run": each.number,
        "label": each.label,
        "key": key(each.colour),
        "suite": each.suite,
        "task": result.episode.task,
        "sentence": each.tasks[result.episode.task],
        "state": result.episode.initial_state,
        "ended": ended(result),
        "unmet": list(result.unmet or ()),
        "note": result.note,
        "filmed": each.video(result.episode) is not None,
    }


def unmet(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Which parts of a goal did not hold at the end, most often first. Only suites that know their goals say so."""
    rows = []
    for each in shown:
        for task, numbers in each.summary["tasks"].items():
            failed = sum(result.outcome == "failure" for result in each.of_task(int(task)))
            rows += [
                {
                    "label": each.label,
                    "key": key(each.colour),
                    "suite": each.suite,
                    "task": f"{task} {each.tasks[int(task)]}",
                    "part": part,
                    "count": count,
                    "failed": failed,
                }
                for part, count in numbers["unmet"].items()
            ]
    return sorted(rows, key=lambda row: -row["count"])


def errors(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    return [
        {"label": each.label, "id": result.episode.key, "last": text.splitlines()[-1] if text else "", "text": text}
        for each in shown
        for result in each.recorded
        if result.outcome == "error"
        for text in [(result.error or "").strip()]
    ]
