"""An evaluation whose directory is a URL: the same records there, and another machine goes on from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from handeye.errors import UserError
from handeye.evaluate import compare_run, elsewhere, results, runs
from handeye.evaluate.config import EvaluateConfig, MergeConfig
from handeye.evaluate.merge import run as merge
from handeye.evaluate.run import run
from handeye.evaluate.study_config import CompareConfig
from handeye.policy.scripted import Noise
from handeye.records import read_lines
from handeye.report.config import ReportConfig
from handeye.report.load import load
from handeye.report.run import run as report
from handeye.transfer import remote
from handeye.transfer.remote import elsewhere as far

Machine = Callable[[str], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`machine("b")`: from now on this is another one, whose own folders are empty the first time."""

    def become(name: str) -> None:
        monkeypatch.setenv("HANDEYE_HOME", str(tmp_path / f"machine-{name}"))

    become("a")
    return become


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield {"memory": "memory://runs/x", "file": f"file://{tmp_path}/shelf/x"}[request.param]
    fsspec.filesystem("memory").store.clear()


def config(out: str | Path, **flags: Any) -> EvaluateConfig:
    given: dict[str, Any] = {"tasks": (0, 1), "episodes": 4, "workers": 1} | flags
    return EvaluateConfig(policy="noise", suite="fake", out=Path(out), **given)


def lines(folder: Path) -> list[dict[str, Any]]:
    return results.comparable(runs.load(folder).results.values())


def test_the_directory_is_there(machine: Machine, url: str, tmp_path: Path) -> None:
    here = run(config(tmp_path / "here", videos="failures"), Noise())
    run(config(url, videos="failures"), Noise())
    machine("b")
    assert lines(Path(url)) == lines(here)
    there = far(url).names()
    assert set(there) == {"plan.json", "episodes.jsonl", "sessions.jsonl", "summary.json"} | {
        f"videos/{path.name}" for path in (here / "videos").iterdir()
    }
    assert json.loads(far(url).read("summary.json") or b"") == json.loads((here / "summary.json").read_text())
    assert compare_run.run(CompareConfig(runs=(Path(url), here))) == 0
    [shown] = load((Path(url),))
    assert len(shown.films) == len(list((here / "videos").iterdir())) > 0
    page = report(ReportConfig(runs=(Path(url),), out=tmp_path / "page.html"))
    assert page.stat().st_size > 10_000
    assert ReportConfig(runs=(Path(url),)).page == Path("report.html")


def test_another_machine_goes_on(machine: Machine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is lost in the middle; nothing of it is left but what it has sent."""
    before = run(config(tmp_path / "here"), Noise())
    write, appended = results.append, 0

    def dies(out: Path, result: Any) -> None:
        nonlocal appended
        appended += 1
        if appended > 5:
            raise KeyboardInterrupt
        write(out, result)

    monkeypatch.setattr(results, "append", dies)
    with pytest.raises(KeyboardInterrupt):
        run(config(url), Noise())
    monkeypatch.setattr(results, "append", write)
    machine("b")
    assert len(lines(Path(url))) == 5
    out = run(config(url), Noise())
    assert lines(Path(url)) == lines(before)
    starts = [line for line in read_lines(out / "sessions.jsonl") if "started" in line]
    assert [line["episodes_before"] for line in starts] == [0, 5]


def test_what_only_this_machine_has_is_sent(machine: Machine, url: str) -> None:
    """It was killed before the last episodes had arrived."""
    out = run(config(url), Noise())
    there = far(url).read("episodes.jsonl") or b""
    far(url).write("episodes.jsonl", b"".join(there.splitlines(keepends=True)[:3]))
    run(config(url), Noise())
    machine("b")
    assert len(lines(Path(url))) == 8
    assert (out / "episodes.jsonl").read_bytes() == there


def test_a_directory_there_belongs_to_one_plan(machine: Machine, url: str) -> None:
    run(config(url), Noise())
    machine("b")
    with pytest.raises(UserError, match="belongs to another evaluation"):
        run(config(url, episodes=5), Noise())
    plan = json.loads(far(url).read("plan.json") or b"")
    plan["identity"]["initial_states"] = [9]
    far(url).write("plan.json", json.dumps(plan).encode())
    machine("a")
    with pytest.raises(UserError, match="its copy here belong to different evaluations"):
        run(config(url), Noise())


def test_what_is_no_evaluation_there_is_left_alone(machine: Machine, url: str) -> None:
    far(url).write("thesis.tex", b"years of work")
    with pytest.raises(UserError, match="not empty"):
        run(config(url), Noise())
    assert set(far(url).names()) == {"thesis.tex"}


def test_storage_that_takes_nothing_is_known_before_the_first_episode(
    machine: Machine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(self: Any, name: str, content: bytes) -> None:
        raise UserError("no", why="access denied", fix="ask")

    monkeypatch.setattr(remote._Stored, "write", refuses)
    with pytest.raises(UserError, match="access denied"):
        run(config(url), Noise())
    assert not (elsewhere.working_folder(Path(url)) / "episodes.jsonl").exists()


def test_parts_from_elsewhere_are_merged(machine: Machine, url: str, tmp_path: Path) -> None:
    whole = run(config(tmp_path / "whole", videos="failures"), Noise())
    for number in (1, 2):
        run(replace(config(f"{url}{number}", videos="failures"), shard=f"{number}/2"), Noise())
    machine("b")
    merged = merge(MergeConfig(runs=(Path(f"{url}1"), Path(f"{url}2")), out=tmp_path / "merged"))
    assert lines(merged) == lines(whole)
    assert {path.name for path in (merged / "videos").iterdir()} == {path.name for path in (whole / "videos").iterdir()}
