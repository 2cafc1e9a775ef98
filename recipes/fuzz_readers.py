"""Every reader against damaged files, for as long as you like: the tests' cases go on from where those end.

    $ python recipes/fuzz_readers.py --minutes 20                   # all kinds
    $ python recipes/fuzz_readers.py --minutes 5 --kinds hdf5 png   # those whose names begin so
    $ python recipes/fuzz_readers.py --case 'hdf5-raw 1 58'         # one alone: what was done, and how it ends

Each case is one damaged file in a small sound set, read completely in a worker process. It must be read, or end in one
UserError. Exit code 1: something else happened, and the cases are named.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "plugins"))

from damage import run
from damage.kinds import KINDS
from damage.run import Case, Report

from handeye.console import say, table

AT_ONCE = 1500
"""Cases between two looks at the clock."""


@dataclass(frozen=True, kw_only=True)
class Options:
    minutes: float = 5.0
    """Begin no further round after so long."""

    seed: int = 1
    """Of the first round; each round has the next one. The tests use 0."""

    kinds: tuple[str, ...] = ()
    """Beginnings of names. Default: all kinds."""

    workers: int = 2
    """Processes."""

    case: str | None = None
    """Play this one alone, by its name in a report."""

    keep: Path | None = None
    """Where the sets are made, and stay. Default: a temporary folder."""


def main(options: Options) -> int:
    os.nice(10)
    names = [name for name in KINDS if not options.kinds or name.startswith(options.kinds)]
    with tempfile.TemporaryDirectory(prefix="damage-") as temporary:
        folder = options.keep or Path(temporary)
        if options.case:
            return one(options.case, folder)
        make(folder, names)
        report, begun = Report(), time.monotonic()
        for seed in itertools.count(options.seed):
            run.play(run.spread(AT_ONCE, seed, names=names), folder, workers=options.workers, report=report)
            minutes = (time.monotonic() - begun) / 60
            say(f"{report.cases} cases, {len(report.findings)} findings, {minutes:.1f} minutes, up to seed {seed}")
            if minutes > options.minutes:
                break
        tell(report, names)
        return 1 if report.findings else 0


def make(folder: Path, names: list[str]) -> None:
    run.make_sets(folder, names=[name for name in names if not run.made(folder, name).exists()])


def one(name: str, folder: Path) -> int:
    kind, seed, number = name.rsplit(" ", 2)
    case = Case(kind, int(seed), int(number))
    make(folder, [kind])
    path, content, said = run.damaged(folder, case)
    say(f"{path}: {len(content)} bytes, {said}")
    report = run.play([case], folder, workers=1)
    tell(report, [kind])
    return 1 if report.findings else 0


def tell(report: Report, names: list[str]) -> None:
    rows = [[kind, *(report.counts[kind, how] for how in ("read", "refused", "wrong"))] for kind in names]
    sums = ["all", *(sum(column) for column in zip(*(row[1:] for row in rows), strict=True))]
    table("", ["kind", "read", "refused", "anything else"], [*rows, sums])
    seconds, case = report.slowest
    say(f"the longest: {seconds:.2f} s of processor time ({case})")
    for case, what in report.findings.items():
        say(f"\n{case}: {what}")


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(Options, description=__doc__)))
