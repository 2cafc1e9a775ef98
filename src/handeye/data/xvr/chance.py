"""What guessing reaches, per task, and what was published: a model below chance does not answer in the right form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from handeye.data.xvr.questions import Entry


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Expected shares of right answers, 0 to 1."""

    questions: int
    random: float
    """One of the offered answers, all alike; where the file offers none, one of those that occur in the task."""

    majority: float
    """Always the task's most frequent answer."""

    frequent: str
    answers: int
    """Different ones that occur."""

    offered: int
    """Questions whose file says what can be answered."""


def chance(entries: Iterable[Entry], *, seen: Iterable[Entry] | None = None) -> dict[str, Chance]:
    """Task -> chance. `seen`: where the answers that occur are counted (the training split, say) instead of here."""
    entries = list(entries)
    known = _answers(entries if seen is None else seen)
    asked: dict[str, list[Entry]] = {}
    for entry in entries:
        asked.setdefault(entry.task, []).append(entry)
    found = {}
    for task, ones in sorted(asked.items()):
        counts = known.get(task) or Counter(entry.answer for entry in ones)
        frequent = min(counts, key=lambda answer: (-counts[answer], answer))
        found[task] = Chance(
            questions=len(ones),
            random=sum(1 / (entry.options or len(counts)) for entry in ones) / len(ones),
            majority=sum(entry.answer == frequent for entry in ones) / len(ones),
            frequent=frequent,
            answers=len({entry.answer for entry in ones}),
            offered=sum(entry.options > 0 for entry in ones),
        )
    return found


def _answers(entries: Iterable[Entry]) -> dict[str, Counter[str]]:
    counted: dict[str, Counter[str]] = {}
    for entry in entries:
        counted.setdefault(entry.task, Counter())[entry.answer] += 1
    return counted


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One of XVR's eight kinds of question."""

    name: str
    category: str
    random: float
    """Percent right by guessing, as published."""

    task: str = ""
    """Its name in the files, where that is known: from their ids (9, 10, 6) and from the older files (1, 2, 3)."""


KINDS: Sequence[Kind] = (
    Kind(name="Point", category="Correspondence", random=20.0, task="task9"),
    Kind(name="Directional", category="Correspondence", random=25.0, task="task10"),
    Kind(name="Spatial", category="Verification", random=22.2, task="task6"),
    Kind(name="Temporal", category="Verification", random=33.3, task="task1"),
    Kind(name="Viewpoint", category="Localization", random=33.3),
    Kind(name="Directional View", category="Localization", random=50.0, task="task3"),
    Kind(name="Cross-scenario", category="Localization", random=33.3, task="task2"),
    Kind(name="Language-conditioned", category="Localization", random=50.0),
)
"""In the order of the published table (cross-view-relations.github.io, XVR-Eval)."""


def task_of(kind: Kind) -> str:
    """A kind's name in the files: the published one, or ours where that is not known (`handeye data make-xvr`)."""
    return kind.task or f"task_{kind.name.lower().replace(' ', '_').replace('-', '_')}"


PUBLISHED: Mapping[str, tuple[float, ...]] = {
    "random": (20.0, 25.0, 22.2, 33.3, 33.3, 50.0, 33.3, 50.0, 32.64),
    "human": (92.31, 67.11, 88.46, 77.08, 64.94, 92.08, 87.74, 93.48, 83.85),
    "Qwen3-VL-2B after XVR": (94.32, 53.79, 84.85, 41.18, 57.68, 68.33, 70.14, 63.35, 68.06),
}
"""Percent right on XVR-Eval: the eight kinds in the order of KINDS, then all together (the same page's figure)."""

PUBLISHED_OVERALL: Mapping[str, float] = {
    "GPT-5": 61.74,
    "Qwen3-VL-4B": 45.02,
    "Qwen3-VL-2B": 36.82,
    "paligemma2-3b": 17.36,
    "Eagle2-2B": 16.99,
}
"""Of models whose figures per kind were not at hand. The last two are below chance: they answer in another form."""

SPLITS: Mapping[str, int] = {"train": 103_576, "valid": 3_208, "xvr_eval": 1_866}
"""Published questions (the data set's page on the hub)."""
