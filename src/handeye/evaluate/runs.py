"""An evaluation's directory, read back by those who compare: what was planned, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handeye.errors import UserError
from handeye.evaluate import plan, results, video
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.summary import SUMMARY
from handeye.records import read_lines
from handeye.transfer import remote
from handeye.types import EpisodeId


@dataclass(frozen=True, kw_only=True)
class Run:
    """One evaluation, finished or not."""

    folder: Path
    """As it was named; perhaps elsewhere (handeye.transfer.remote)."""

    files: Path
    """The folder of this machine that holds its files."""

    address: str
    """The policy as it was named."""

    identity: Mapping[str, Any]
    planned: tuple[EpisodeId, ...]
    results: Mapping[str, EpisodeResult]
    """Of planned episodes, by key."""

    label: str = ""
    """What it is called where several stand side by side."""

    @property
    def name(self) -> str:
        """In a sentence: its label, else its folder."""
        return self.label or self.place

    @property
    def place(self) -> str:
        """Its folder, or its URL with both slashes."""
        return remote.url_of(self.folder) or str(self.folder)

    @property
    def suite(self) -> str:
        return str(self.identity["suite"])

    @property
    def stop_when(self) -> Mapping[str, Any] | None:
        """The rule that may have ended it early, as its plan records it."""
        found: Mapping[str, Any] | None = self.identity.get("stop_when")
        return found

    @property
    def errors(self) -> list[EpisodeResult]:
        return [result for result in self.results.values() if result.outcome == "error"]

    def per_minute(self) -> float | None:
        """Episodes per minute, as measured while it ran; None if it never came to an end of its own."""
        ended = [line for line in read_lines(self.files / plan.SESSIONS) if "episodes_per_minute" in line]
        seconds = sum(line["seconds"] for line in ended)
        return 60 * sum(line["episodes"] for line in ended) / seconds if seconds else None


FILES = (plan.PLAN, results.EPISODES, plan.SESSIONS, SUMMARY)
"""Of an evaluation, beside its videos."""


def here(folder: Path) -> Path:
    """The folder itself, or a copy here of one that is elsewhere, fetched anew, without its videos."""
    url = remote.url_of(folder)
    return folder if url is None else remote.files(url, FILES)


def bring_films(folder: Path, files: Path, results: Iterable[EpisodeResult]) -> None:
    """Of a run that is elsewhere: videos of these episodes into the copy here, where there are any."""
    url = remote.url_of(folder)
    if url is None or all(line.get("videos", "none") == "none" for line in read_lines(files / plan.SESSIONS)):
        return
    far = remote.elsewhere(url)
    for result in results:
        path = video.path(files, result.episode)
        if not path.is_file():
            far.fetch(path.relative_to(files).as_posix(), path)


def load(folder: Path) -> Run:
    """UserError for whatever is no evaluation."""
    files = here(folder)
    if not (files / plan.PLAN).is_file():
        raise UserError(
            f"{remote.url_of(folder) or folder} is not an evaluation.",
            why=f"it has no {plan.PLAN}" if files.is_dir() else "there is no such folder",
            fix="give a directory that `handeye evaluate` wrote",
        )
    identity, address = plan.read_identity(files)
    planned = plan.episodes(identity)
    found = results.read(files)
    return Run(
        folder=folder,
        files=files,
        address=address,
        identity=identity,
        planned=planned,
        results={episode.key: found[episode.key] for episode in planned if episode.key in found},
    )
