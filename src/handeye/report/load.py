"""Evaluations, read back for a page: each with a name of its own, its sessions and its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from handeye.errors import UserError
from handeye.evaluate import plan, runs, video
from handeye.evaluate.compare_run import policy_of
from handeye.evaluate.results import EpisodeResult
from handeye.evaluate.runs import Run
from handeye.evaluate.sequential import order
from handeye.evaluate.summary import summarise
from handeye.records import read_json, read_lines
from handeye.report.stopping import Stopping, stopping
from handeye.types import EpisodeId

State = Literal["success", "failure", "error", "missing"]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One evaluation on the page."""

    run: Run
    """Its label is unlike that of any other run on its suite."""

    number: int
    """Its place on the page."""

    colour: int
    """Runs of one label share it, whatever their suites: colour, line and marker follow it."""

    sessions: Sequence[Mapping[str, Any]]
    """Lines of starts and, where the program ended by itself, of ends."""

    summary: Mapping[str, Any]

    part: tuple[int, int]
    """Which one of how many, where machines share a plan."""

    own: frozenset[EpisodeId]
    """What this part was to run."""

    ended: Stopping | None
    """Set if a rule may have ended it."""

    results: Sequence[EpisodeResult]
    """What counts, in the plan's order."""

    beyond: Mapping[str, EpisodeResult]
    """Recorded, but counting nowhere: it was under way when a rule had decided."""

    by_task: Mapping[int, Sequence[EpisodeResult]]
    films: Mapping[str, Path]
    """Videos, by their episode's key."""

    @property
    def suite(self) -> str:
        return self.run.suite

    @property
    def label(self) -> str:
        return self.run.label

    @property
    def identity(self) -> Mapping[str, Any]:
        return self.run.identity

    @property
    def tasks(self) -> dict[int, str]:
        """Index -> sentence."""
        return {task["index"]: task["language"] for task in self.identity["tasks"]}

    @property
    def recorded(self) -> list[EpisodeResult]:
        return [*self.results, *self.beyond.values()]

    @property
    def stopped(self) -> bool:
        return self.ended is not None and self.ended.decision is not None and self.ended.decision.stop

    @property
    def missing(self) -> int:
        """Episodes that are still to be run."""
        return 0 if self.stopped else sum(episode.key not in self.run.results for episode in self.own)

    def of_task(self, task: int) -> Sequence[EpisodeResult]:
        return self.by_task.get(task, ())

    def state(self, episode: EpisodeId) -> State:
        result = self.run.results.get(episode.key)
        return "missing" if result is None else result.outcome

    def absent(self, episode: EpisodeId) -> str:
        """Why there is no record of it."""
        if self.stopped:
            return "not needed"
        return "missing" if episode in self.own else "in another part"

    def id(self, episode: EpisodeId) -> str:
        """Of an episode's record on the page."""
        return f"{self.number}|{episode.key}"

    def video(self, episode: EpisodeId) -> Path | None:
        return self.films.get(episode.key)


def load(folders: Sequence[Path]) -> list[Shown]:
    """UserError for whatever is no evaluation."""
    found = [runs.load(folder) for folder in folders]
    for run in found:
        runs.bring_films(run.folder, run.files, run.results.values())
    labels = _labels(found)
    colours = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    return [
        _shown(replace(run, label=label), number, colours[label])
        for number, (run, label) in enumerate(zip(found, labels, strict=True))
    ]


def _shown(run: Run, number: int, colour: int) -> Shown:
    first, parts = part = _part(run.files)
    own, ended = run.planned[first - 1 :: parts], stopping(run)
    counted = own
    if ended is not None and ended.decision is not None and ended.decision.stop:
        counted = tuple(order(run.planned)[: ended.decision.episodes])
    ordered = [run.results[key] for key in (episode.key for episode in run.planned) if key in run.results]
    keys = {episode.key for episode in counted}
    results = [result for result in ordered if result.episode.key in keys]
    by_task: dict[int, list[EpisodeResult]] = {}
    for result in results:
        by_task.setdefault(result.episode.task, []).append(result)
    paths = {result.episode.key: video.path(run.files, result.episode) for result in ordered}
    there = {path for folder in {path.parent for path in paths.values()} for path in folder.glob("*.mp4")}
    return Shown(
        run=run,
        number=number,
        colour=colour,
        sessions=read_lines(run.files / plan.SESSIONS),
        summary=summarise(counted, run.results),
        part=part,
        own=frozenset(own),
        ended=ended,
        results=results,
        beyond={result.episode.key: result for result in ordered if result.episode.key not in keys},
        by_task=by_task,
        films={key: path for key, path in paths.items() if path in there},
    )


def _part(folder: Path) -> tuple[int, int]:
    """Of several that share a plan. UserError if it says so in a way we do not know."""
    written = read_json(folder / plan.PLAN, what="the run's plan").get("part", [1, 1])
    match written:
        case [int(number), int(parts)] if 1 <= number <= parts:
            return number, parts
    raise UserError(
        f"{folder / plan.PLAN} is no part that can be read.",
        why=f"part is {written!r}, not two numbers",
        fix="it was edited or written by another version: restore it, or evaluate again",
    )


def by_suite(shown: Sequence[Shown]) -> dict[str, list[Shown]]:
    """Both in the order given."""
    suites: dict[str, list[Shown]] = {}
    for each in shown:
        suites.setdefault(each.suite, []).append(each)
    return suites


def _labels(found: Sequence[Run]) -> list[str]:
    """The policy's name; where two runs on a suite share it, with what tells them apart: the protocols, or else as much
    of their folders as it takes."""
    names = [(run.suite, policy_of(run)) for run in found]
    labels = [name for _, name in names]
    for shared in (name for name, count in Counter(names).items() if count > 1):
        places = [index for index, name in enumerate(names) if name == shared]
        words = [str(found[index].identity["protocol"]["name"]) for index in places]
        parts = [found[index].folder.resolve().parts for index in places]
        depth = 0
        while len(set(words)) < len(words):
            depth += 1
            words = ["/".join(part[-depth:]) for part in parts]
        for index, word in zip(places, words, strict=True):
            labels[index] += f" ({word})"
    return labels
