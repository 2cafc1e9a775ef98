"""Is this XVR folder sound? Every line, every shard and every picture, with the place of what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from handeye import console
from handeye.data import pictures
from handeye.data.verify.findings import Finding
from handeye.data.xvr.chance import SPLITS, chance
from handeye.data.xvr.questions import Entry, entry, files_of, scan
from handeye.data.xvr.store import Store, listed
from handeye.errors import UserError

SHOWN = 5
"""Defects that are told one by one; the rest are counted."""

_AT_ONCE = 2_000
"""Pictures handed to the threads together: waiting jobs take memory."""

_FIX = "get the data again: `handeye fetch xvr`"


@dataclass
class _Split:
    """What is kept of one file."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    pictures: dict[str, int] = field(default_factory=dict)
    """With the first line that asks about it."""


def verify(root: Path, *, quick: bool = False, workers: int = 2) -> list[Finding]:
    """`quick`: pictures are looked up and not decoded. `workers`: threads that decode them."""
    try:
        files = files_of(root)
    except UserError as error:
        return [_fail("questions", [_told(error)], error.fix)]
    splits, found = _read(files)
    store = Store(root if root.is_dir() else root.parent)
    found += _same_ids(splits)
    if broken := _shards(store):
        unseen = Finding(check="pictures", verdict="note", found="not looked at: the shards are damaged")
        return [*found, _fail("shards", broken, _FIX), unseen]
    found += [_pictures(store, splits, quick, workers)]
    return [*found, *_contents(splits)]


def _shards(store: Store) -> list[str]:
    damaged = [_refusal(partial(listed, shard)) for shard in store.shards]
    doubled = None if any(damaged) else _refusal(partial(store.has, "images/none"))  # the index names what is in two
    return [_told(refusal) for refusal in (*damaged, doubled) if refusal]


def _read(files: Sequence[Path]) -> tuple[list[_Split], list[Finding]]:
    splits, bad, doubled, contradicting = [], list[str](), list[str](), list[str]()
    for path in files:
        split, lines = _Split(path.stem), dict[str, int]()
        for line in scan(path):
            question = line.question
            if isinstance(question, UserError):
                bad.append(_told(question))
                continue
            where = f"{path.name} line {line.number}"
            if (first := lines.setdefault(question.id, line.number)) != line.number:
                doubled.append(f"{where}: {question.id} is in line {first} as well")
            if question.options and question.answer not in question.options:
                contradicting.append(f"{where}: the answer {question.answer!r} is none of {list(question.options)}")
            split.entries.append(entry(question))
            for picture in question.pictures:
                split.pictures.setdefault(picture, line.number)
        splits.append(split)
    total = ", ".join(f"{split.name} {len(split.entries)}" for split in splits)
    found = [_fail("questions", bad, _FIX) if bad else Finding(check="questions", verdict="ok", found=total)]
    if doubled:
        found.append(_fail("ids", doubled, "take the doubled lines out"))
    if contradicting:
        found.append(_fail("answers", contradicting, "compare the lines with the set that they come from", "warn"))
    return splits, found


def _same_ids(splits: Sequence[_Split]) -> Iterator[Finding]:
    """A question of the evaluation that was trained on."""
    places: dict[str, list[str]] = {}
    for split in splits:
        for one in {known.id for known in split.entries}:
            places.setdefault(one, []).append(split.name)
    if shared := [f"{one} is in {' and in '.join(names)}" for one, names in sorted(places.items()) if len(names) > 1]:
        yield _fail("splits", shared, "leave these questions out of all but one file")


def _pictures(store: Store, splits: Sequence[_Split], quick: bool, workers: int) -> Finding:
    asked = {name: f"{split.name}.jsonl line {line}" for split in splits for name, line in split.pictures.items()}

    def problem(name: str) -> str:
        refusal = _refusal(partial(_lookup if quick else _compare, store, name))
        return f"{_told(refusal)} ({asked[name]})" if refusal else ""

    names, bad = sorted(asked), list[str]()
    with ThreadPoolExecutor(workers) as pool, console.progress("pictures", len(names)) as advance:
        for start in range(0, len(names), _AT_ONCE):
            part = names[start : start + _AT_ONCE]
            bad += [said for said in pool.map(problem, part) if said]
            advance(len(part))
    if bad:
        return _fail("pictures", bad, _FIX)
    how = "are there; not decoded (--quick)" if quick else "are there and decode"
    return Finding(check="pictures", verdict="ok", found=f"{len(names)} {how}; {len(store.shards)} tar shards")


def _lookup(store: Store, name: str) -> None:
    if not store.has(name):
        store.read(name)  # says what is missing


def _compare(store: Store, name: str) -> None:
    content = store.read(name)
    pictures.decode(content, str(store.root / name), alpha="drop")
    if (twin := store.twin(name)) is not None and twin != content:
        raise UserError(f"{name} is another picture in a shard than as a file.", fix=_FIX)


def _contents(splits: Sequence[_Split]) -> Iterator[Finding]:
    """What is worth knowing of it."""
    for split in splits:
        if not split.entries:
            continue
        rates = chance(split.entries)
        told = ", ".join(
            f"{task} {rate.questions} (guessing {rate.random:.1%}, always {rate.frequent!r} {rate.majority:.1%})"
            for task, rate in rates.items()
        )
        evidence = {task: {"questions": rate.questions, "random": rate.random} for task, rate in rates.items()}
        yield Finding(check=f"tasks of {split.name}", verdict="note", found=told, evidence=evidence)
        published = SPLITS.get(split.name)
        if published and published != len(split.entries):
            said = f"{len(split.entries)} questions, {published} in the published set"
            yield Finding(check=f"size of {split.name}", verdict="note", found=said)
        most = Counter(known.pictures for known in split.entries)
        if many := sum(count for pictures, count in most.items() if pictures > 6):
            said = (
                f"{many} questions ask about more than 6 pictures, {max(most)} at most: give the model as many frames"
            )
            yield Finding(check=f"pictures of {split.name}", verdict="note", found=said)
    evaluation = [split for split in splits if "eval" in split.name]
    for split in evaluation:
        trained = set[str]().union(*(other.pictures for other in splits if other not in evaluation))
        if shared := trained.intersection(split.pictures):
            said = f"{len(shared)} of its {len(split.pictures)} pictures are also asked about in other files"
            yield Finding(check=f"overlap of {split.name}", verdict="note", found=said)


def _refusal(act: Callable[[], object]) -> UserError | None:
    try:
        act()
    except UserError as error:
        return error
    return None


def _told(error: UserError) -> str:
    return f"{error.what} {error.why}".strip()


def _fail(check: str, defects: Sequence[str], fix: str, verdict: Literal["warn", "fail"] = "fail") -> Finding:
    more = f"; and {len(defects) - SHOWN} more" if len(defects) > SHOWN else ""
    return Finding(
        check=check,
        verdict=verdict,
        found="; ".join(defects[:SHOWN]) + more,
        fix=fix,
        evidence={"defects": len(defects)},
    )
