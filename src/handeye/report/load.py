"""An evaluation's directory, read back: plan, records, sessions, videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handeye.errors import UserError
from handeye.evaluate import plan, results, video
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.summary import summarise
from handeye.records import read_lines
from handeye.types import EpisodeId


@dataclass(frozen=True, kw_only=True)
class Run:
    """One evaluation."""

    folder: Path
    label: str
    """Short, and unlike that of any other run on the page."""

    address: str
    identity: Mapping[str, Any]
    planned: tuple[EpisodeId, ...]
    results: Mapping[str, EpisodeResult]
    """Of planned episodes, by key."""

    sessions: Sequence[Mapping[str, Any]]
    summary: Mapping[str, Any]

    @property
    def suite(self) -> str:
        return str(self.identity["suite"])

    def of_task(self, task: int) -> list[EpisodeResult]:
        return [result for result in self.results.values() if result.episode.task == task]

    def video(self, episode: EpisodeId) -> Path | None:
        path = video.path(self.folder, episode)
        return path if path.is_file() else None


def load(folders: Sequence[Path]) -> list[Run]:
    runs = [_read(folder) for folder in folders]
    labels = [run.label for run in runs]
    if len(set(labels)) == len(labels):
        return runs
    return [replace(run, label=f"{run.label} ({run.folder.resolve().name})") for run in runs]


def _read(folder: Path) -> Run:
    if not (folder / plan.PLAN).is_file():
        raise UserError(
            f"{folder} is not an evaluation.",
            why=f"it has no {plan.PLAN}" if folder.is_dir() else "there is no such folder",
            fix="give a directory that `handeye evaluate` wrote",
        )
    identity, address = plan.read_identity(folder)
    planned = plan.episodes(identity)
    found = results.read(folder)
    return Run(
        folder=folder,
        label=_label(identity["policy"]),
        address=address,
        identity=identity,
        planned=planned,
        results={episode.key: found[episode.key] for episode in planned if episode.key in found},
        sessions=read_lines(folder / plan.SESSIONS),
        summary=summarise(planned, found),
    )


def _label(policy: Mapping[str, Any]) -> str:
    return str(policy["name"]) if "name" in policy else f"{policy['family']} at step {policy['step']}"
