"""Cases played in worker processes. A library that crashes, spins or takes all memory costs its case alone, and is told
with the case's name, under which it can be played again."""

from __future__ import annotations

import gc
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Literal

from damage.kinds import Kind
from handeye import console
from handeye.distributed.crew import Ask, Crew
from handeye.distributed.jobs import Finished
from handeye.errors import UserError

MOST_MEMORY = 400_000_000
"""Bytes that reading one may take more than was held before. The sets have some 100 kB; one picture of the largest size
that is decoded has 50 MB, and is copied."""

MOST_ADDRESSES = 6_000_000_000
"""Bytes of address space that a worker may take: room that is claimed and never touched costs nothing."""

MOST_SECONDS = 10.0
"""Of processor time for one case. Reading a sound set takes less than a tenth of a second."""


@dataclass(frozen=True, order=True)
class Case:
    kind: str
    seed: int
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.seed} {self.number}"


@dataclass(frozen=True)
class Outcome:
    ended: Literal["read", "refused", "wrong"]
    said: str = ""
    seconds: float = 0.0
    """Of processor time."""


@dataclass
class Report:
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, how it ended) -> cases."""

    findings: dict[Case, str] = field(default_factory=dict)
    ended_by_themselves: int = 0
    """Cases whose worker lived to tell."""

    slowest: tuple[float, Case | None] = (0.0, None)

    @property
    def cases(self) -> int:
        return sum(self.counts.values())

    def total(self, kind: str) -> int:
        return sum(count for (name, _), count in self.counts.items() if name == kind)

    def add(self, case: Case, outcome: Outcome) -> None:
        self.counts[case.kind, outcome.ended] += 1
        self.slowest = max(self.slowest, (outcome.seconds, case), key=lambda pair: pair[0])
        if outcome.ended == "wrong":
            self.findings[case] = outcome.said


def kinds_of(table: str) -> Mapping[str, Kind]:
    """`module:name`: workers import it."""
    module, _, name = table.partition(":")
    found: Mapping[str, Kind] = getattr(import_module(module), name)
    return found


TABLE = "damage.kinds:KINDS"


def make_sets(folder: Path, table: str = TABLE, names: Iterable[str] | None = None) -> None:
    for name, kind in kinds_of(table).items():
        if names is None or name in names:
            kind.make(made(folder, name))


def made(folder: Path, kind: str) -> Path:
    return folder / kind / f"made.{kind}"


def damaged(folder: Path, case: Case, table: str = TABLE) -> tuple[Path, bytes, str]:
    """Which file of the sound set is damaged, its new content, and what was done to it."""
    kind, root, chance = kinds_of(table)[case.kind], made(folder, case.kind), random.Random(str(case))
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.is_file())
    choices = [(path, change) for path in files if (change := _change(kind, path.name)) is not None]
    path, change = chance.choice(choices)
    content, said = change(path.read_bytes(), chance)
    return path, content, f"{path.relative_to(root.parent)}: {said}"


def _change(kind: Kind, name: str) -> Callable[[bytes, random.Random], tuple[bytes, str]] | None:
    return next((change for end, change in kind.changes.items() if name.endswith(end)), None)


def spread(total: int, seed: int, table: str = TABLE, names: Sequence[str] | None = None) -> Iterator[Case]:
    """About `total` cases, shared out by weight, in an order that changes the kind each time."""
    kinds = {name: kind for name, kind in kinds_of(table).items() if names is None or name in names}
    share = -(-total // sum(kind.weight for kind in kinds.values()))
    for number in range(share * max(kind.weight for kind in kinds.values())):
        for name, kind in kinds.items():
            if number < share * kind.weight:
                yield Case(name, seed, number)


@dataclass(frozen=True)
class _Setup:
    folder: Path
    table: str
    most_seconds: float


def play(
    cases: Iterable[Case],
    folder: Path,
    *,
    table: str = TABLE,
    workers: int = 2,
    most_seconds: float = MOST_SECONDS,
    hang_after: float = 60.0,
    report: Report | None = None,
) -> Report:
    """Sets must be made in `folder` beforehand. `hang_after`: seconds, by the clock, after which a silent worker is
    given up: several times `most_seconds`, which are of processor time."""
    report = report or Report()
    left = iter(cases)

    def done(ended: Finished[Case, Outcome]) -> None:
        if ended.error is None:
            assert ended.result is not None
            report.ended_by_themselves += 1
            report.add(ended.job, ended.result)
        else:
            what = damaged(folder, ended.job, table)[2]
            report.add(ended.job, Outcome("wrong", f"{what}: {ended.error.strip()}"))

    crew = Crew(
        make=_make, setup=_Setup(folder, table, most_seconds), workers=workers, tries=1, hang_after=hang_after,
        things="cases", log="the report", memory=2_000_000_000,
    )  # fmt: skip
    for leftover in folder.glob("worker-*"):  # of an earlier round
        shutil.rmtree(leftover)
    ended = -1
    while ended < report.ended_by_themselves:
        ended = report.ended_by_themselves
        try:
            crew.each(left, done)
            return report
        except UserError:  # several workers were lost in a row, which stops a crew: that is what we came for
            continue
    raise RuntimeError("no worker ends a case any more: the last one was lost by " + [*report.findings.values()][-1])


def _make(setup: _Setup, ask: Ask) -> Callable[[Case], Outcome]:
    warnings.simplefilter("error")  # a reader that warns in numpy's words did not look first
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    console.errors.quiet = True
    work = Path(tempfile.mkdtemp(prefix="worker-", dir=setup.folder))

    def do(case: Case) -> Outcome:
        kind, sound, copy = kinds_of(setup.table)[case.kind], made(setup.folder, case.kind), made(work, case.kind)
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copytree(sound, copy) if sound.is_dir() else shutil.copy(sound, copy)
        path, content, said = damaged(setup.folder, case, setup.table)
        target = copy / path.relative_to(sound)
        target.write_bytes(content)
        try:
            outcome = read(kind, copy, setup.most_seconds)
        finally:
            target.write_bytes(path.read_bytes())
        return Outcome(outcome.ended, f"{said}: {outcome.said}", outcome.seconds)

    return do


def read(kind: Kind, root: Path, most_seconds: float = MOST_SECONDS) -> Outcome:
    """How reading it ends, in this process."""
    before, begun = _peak(reset=True), time.process_time()
    try:
        kind.read(root)
        ended = Outcome("read")
    except UserError as error:
        ended = Outcome("refused", str(error)) if error.what and error.fix else Outcome("wrong", f"no words: {error!r}")
    except Exception:
        ended = Outcome("wrong", traceback.format_exc())
    taken, seconds = _peak() - before, time.process_time() - begun
    gc.collect(0)
    if taken > MOST_MEMORY:
        ended = Outcome("wrong", f"it took {taken / 1e6:.0f} MB: {ended.said}")
    if seconds > most_seconds:
        ended = Outcome("wrong", f"it took {seconds:.1f} s: {ended.said}")
    return Outcome(ended.ended, ended.said, seconds)


def _peak(*, reset: bool = False) -> int:
    """Most bytes of memory held since the last reset (Linux: proc(5), clear_refs)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
