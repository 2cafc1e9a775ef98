"""Is everything there, once, of a plausible length, with its own sentence, and does it end in success?"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from handeye.data.source import EpisodeRef, Source
from handeye.data.verify import known
from handeye.data.verify.findings import Finding
from handeye.types import Episode

PLACEHOLDERS = ("", "unknown", "unknown task", "complete the task", "do the task", "task", "none", "instruction", "n/a")
"""Sentences that loaders put in when they find none (facts of public set-ups)."""

SHORT = 10
"""Steps: half a second. No LIBERO demonstration is as short."""

SHOWN = 3


class ContentsCheck:
    """Counts, lengths, sentences, success, duplicates, ranges."""

    def __init__(self, suite: str | None = None) -> None:
        self._suite = suite
        self._lengths: list[tuple[int, str]] = []
        self._ended: Counter[bool | None] = Counter()
        self._unfinished: list[str] = []
        self._actions: dict[str, str] = {}
        self._twice: list[tuple[str, str]] = []
        self._low = self._high = np.zeros(0)
        self._types: Counter[str] = Counter()

    def measure(self, episode: Episode) -> dict[str, Any]:
        actions = np.ascontiguousarray(episode.actions)
        return {
            "length": len(episode),
            "success": episode.success,
            "digest": hashlib.sha256(actions.tobytes()).hexdigest()[:24],
            "low": actions.min(0).astype(np.float64),
            "high": actions.max(0).astype(np.float64),
            "type": str(actions.dtype),
        }

    def add(self, ref: EpisodeRef, measured: Mapping[str, Any]) -> None:
        self._lengths.append((measured["length"], ref.id))
        self._ended[measured["success"]] += 1
        if measured["success"] is False and len(self._unfinished) < SHOWN:
            self._unfinished.append(ref.id)
        first = self._actions.setdefault(measured["digest"], ref.id)
        if first != ref.id:
            self._twice.append((first, ref.id))
        self._types[measured["type"]] += 1
        empty = not self._low.size
        self._low = measured["low"] if empty else np.minimum(self._low, measured["low"])
        self._high = measured["high"] if empty else np.maximum(self._high, measured["high"])

    def findings(self, source: Source) -> Sequence[Finding]:
        return [
            self._counts(source), self._length(), self._language(source), self._success(), self._duplicates(),
            self._ranges(source),
        ]  # fmt: skip

    def _counts(self, source: Source) -> Finding:
        episodes, steps = len(source.episodes), sum(length for length, _ in self._lengths)
        tasks = Counter(ref.task for ref in source.episodes)
        said = f"{episodes} episodes, {steps} steps, {len(tasks)} tasks"
        if len(tasks) > 1:
            said += f", {min(tasks.values())} to {max(tasks.values())} episodes each"
        evidence = {"episodes": episodes, "steps": steps, "tasks": dict(sorted(tasks.items()))}
        expected = [one for one in self._published(source) if one is not None]
        if not expected:
            return Finding(
                check="counts", verdict="note", found=f"{said}; no published set to compare with", evidence=evidence
            )
        for one in expected:
            if (one.tasks, one.episodes) == (len(tasks), episodes) and one.steps in (None, steps):
                return Finding(check="counts", verdict="ok", found=f"{said}: {one.name}, complete", evidence=evidence)
        near = expected[-1] if source.stored.version != "raw" else expected[0]
        wanted = f"{near.episodes} episodes of {near.tasks} tasks" + (f", {near.steps} steps" if near.steps else "")
        return Finding(
            check="counts",
            verdict="warn",
            found=f"{said}; {near.name} has {wanted} ({near.source})",
            fix="fetch what is missing; a part of a suite, or a set of your own, is no mistake: say --suite none",
            evidence=evidence,
        )

    def _published(self, source: Source) -> list[known.Known | None]:
        if self._suite == "none":
            return []
        if self._suite is not None:
            return [known.raw(self._suite), known.no_noops(self._suite)]
        if source.stored.version == "handeye":  # what `handeye demos` made has the size that was asked for
            return []
        return [known.ALL_FOUR] if source.stored.format == "lerobot" and len(source.episodes) > 1_000 else []

    def _length(self) -> Finding:
        lengths = np.array([length for length, _ in self._lengths])
        said = f"{lengths.min()} to {lengths.max()} steps, median {np.median(lengths):.0f}"
        evidence = {"shortest": int(lengths.min()), "longest": int(lengths.max()), "median": float(np.median(lengths))}
        if short := [id for length, id in self._lengths if length < SHORT]:
            return Finding(
                check="lengths",
                verdict="warn",
                found=f"{said}; {len(short)} are shorter than {SHORT} steps: {', '.join(short[:SHOWN])}",
                fix="look at them (handeye data show), and leave out what is no demonstration",
                evidence=evidence,
            )
        most = known.LONGEST.get(self._suite or "")
        if most and lengths.max() > 2 * most:
            return Finding(
                check="lengths",
                verdict="warn",
                found=f"{said}; the longest of {self._suite} without no-ops has {most}",
                fix="policies are stopped long before: filter no-ops (handeye data convert), or look at the longest",
                evidence=evidence,
            )
        return Finding(check="lengths", verdict="ok", found=said, evidence=evidence)

    def _language(self, source: Source) -> Finding:
        prompts = Counter(ref.prompt for ref in source.episodes)
        tasks = {ref.task for ref in source.episodes}
        evidence = {"sentences": dict(sorted(prompts.items()))}
        empty = [prompt for prompt in prompts if prompt.strip().lower() in PLACEHOLDERS]
        if empty:
            return Finding(
                check="language",
                verdict="fail",
                found=f"{prompts[empty[0]]} episodes have the sentence {empty[0]!r}",
                fix="the sentence was lost where the set was made: fetch or convert it again",
                evidence=evidence,
            )
        said = f"{len(prompts)} different sentences for {len(tasks)} tasks"
        if len(prompts) < len(tasks) and len(prompts) == 1:
            return Finding(
                check="language",
                verdict="fail",
                found=f"{said}: every task has the sentence {next(iter(prompts))!r}",
                fix="a policy cannot know what to do: fetch or convert the set again",
                evidence=evidence,
            )
        return Finding(check="language", verdict="ok", found=said, evidence=evidence)

    def _success(self) -> Finding:
        failed, unknown = self._ended[False], self._ended[None]
        evidence = {str(key): value for key, value in self._ended.items()}
        if failed:
            return Finding(
                check="success",
                verdict="warn",
                found=f"{failed} episodes do not end in success: {', '.join(self._unfinished)}",
                fix="leave them out, unless failures are meant to be imitated",
                evidence=evidence,
            )
        if unknown:
            said = f"the format does not say it for {unknown} episodes: handeye data replay finds out"
            return Finding(check="success", verdict="note", found=said, evidence=evidence)
        return Finding(check="success", verdict="ok", found="every episode ends in success", evidence=evidence)

    def _duplicates(self) -> Finding:
        if not self._twice:
            return Finding(check="duplicates", verdict="ok", found="no two episodes have the same actions")
        shown = ", ".join(f"{one} = {other}" for one, other in self._twice[:SHOWN])
        return Finding(
            check="duplicates",
            verdict="warn",
            found=f"{len(self._twice)} episodes repeat the actions of another: {shown}",
            fix="leave the copies out: they weigh double, and may stand on both sides of a split",
            evidence={"pairs": self._twice[:100]},
        )

    def _ranges(self, source: Source) -> Finding:
        low, high = source.specs.action.low, source.specs.action.high
        said = f"{'/'.join(self._types)} in [{self._low.min():.3g}, {self._high.max():.3g}]"
        evidence = {"min": self._low.tolist(), "max": self._high.tolist(), "types": dict(self._types)}
        if self._low.min() < low or self._high.max() > high:
            return Finding(
                check="action range",
                verdict="fail",
                found=f"{said}; the controller takes [{low:g}, {high:g}]",
                fix="these are not LIBERO's actions: fetch another copy",
                evidence=evidence,
            )
        if (still := np.flatnonzero(self._low == self._high)).size:
            return Finding(
                check="action range",
                verdict="warn",
                found=f"{said}; dimension {', '.join(map(str, still))} never changes",
                fix="look at it (handeye data show): a constant dimension cannot be learnt",
                evidence=evidence,
            )
        return Finding(check="action range", verdict="ok", found=said, evidence=evidence)
