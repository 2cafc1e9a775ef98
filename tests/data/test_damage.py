"""No damaged file may do anything but be read, or end in one UserError: no other exception, no crash, no endless loop,
no memory that the file does not warrant. And whoever says so must have looked: planted defects are found.

What is damaged how is in tests/plugins/damage; `recipes/fuzz_readers.py` goes on for as long as it is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from damage import kinds, planted, run
from damage.run import Case

CASES, SEED = 3000, 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound set of each kind."""
    made = tmp_path_factory.mktemp("sets")
    run.make_sets(made)
    return made


@pytest.fixture(scope="module")
def planted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("planted")
    run.make_sets(made, "damage.planted:KINDS")
    return made


@pytest.mark.slow
def test_damaged_files_are_read_or_refused(folder: Path, record_property: Any) -> None:
    report = run.play(run.spread(CASES, SEED), folder)
    said = "\n\n".join(f"{case}: {what}" for case, what in report.findings.items())
    assert not report.findings, (
        f"play one alone: python recipes/fuzz_readers.py --case '<kind> <seed> <number>'\n{said}"
    )
    assert report.cases >= CASES
    for kind in kinds.KINDS:
        assert report.counts[kind, "refused"] > 0.1 * report.total(kind), kind
    for ended in ("read", "refused", "wrong"):
        record_property(ended, sum(count for (_, how), count in report.counts.items() if how == ended))


FOUND = (Case("lerobot-v3.0-png", 22, 53), Case("lerobot-v2.0-png", 23, 35))
"""Once ended in another exception, in 52,258 cases: a list of row groups with more rows than the pages, and one with a
number for a column's name."""


def test_what_was_found_once(folder: Path) -> None:
    report = run.play(FOUND, folder)
    assert not report.findings
    assert report.cases == len(FOUND)
    assert all(report.counts[case.kind, "refused"] == 1 for case in FOUND)


@pytest.mark.parametrize("kind", kinds.KINDS)
def test_sound_sets_are_read(folder: Path, kind: str) -> None:
    outcome = run.read(kinds.KINDS[kind], run.made(folder, kind))
    assert outcome.ended == "read", outcome.said


@pytest.mark.slow
def test_planted_defects_are_found(planted_folder: Path) -> None:
    table = "damage.planted:KINDS"
    names = [*planted.DEFECTS, "sound"]
    report = run.play(
        [Case(name, 0, 0) for name in names], planted_folder, table=table, most_seconds=1.0, hang_after=20.0
    )
    said = {case.kind: what.splitlines()[-1] for case, what in report.findings.items()}
    expected = {
        "raises": "KeyError: 'planted'", "spins": "no sign from the worker", "crashes": "killed by SIGSEGV",
        "leaves": "exit code 0", "swells": "it took 6", "dawdles": "it took 2", "warns": "RuntimeWarning: overflow",
        "has no words": "no words",
    }  # fmt: skip
    assert said.keys() == expected.keys()
    for kind, words in expected.items():
        assert words in said[kind], said[kind]


def test_what_never_works_ends(planted_folder: Path) -> None:
    cases = [Case("leaves", 0, number) for number in range(1000)]
    with pytest.raises(RuntimeError, match="no worker ends a case any more"):
        run.play(cases, planted_folder, table="damage.planted:KINDS")


def test_a_case_is_the_same_damage_each_time(folder: Path, tmp_path: Path) -> None:
    run.make_sets(tmp_path, names=["zip", "pt", "hdf5-ours"])
    contents = set()
    for number in range(20):
        for kind in ("zip", "pt", "hdf5-ours"):
            case = Case(kind, 0, number)
            path, content, said = run.damaged(folder, case)
            again, same, told = run.damaged(tmp_path, case)
            assert (path.relative_to(folder), content, said) == (again.relative_to(tmp_path), same, told)
            contents.add(content)
    assert len(contents) > 50


def test_every_file_of_every_kind_is_damaged(folder: Path) -> None:
    for kind in ("xvr", "rlds", "lerobot-v3.0-av1", "lerobot-v2.1-png"):
        root = run.made(folder, kind)
        files = {path for path in root.rglob("*") if path.is_file()}
        assert {run.damaged(folder, Case(kind, 0, number))[0] for number in range(300)} == files
