"""Parts make the whole, and what is no part is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.config import EvaluateConfig, MergeConfig
from handeye.evaluate.merge import run
from handeye.evaluate.results import EPISODES
from handeye.evaluate.run import run as run_evaluation
from handeye.policy.scripted import Noise
from handeye.records import append_line, read_lines

Evaluate = Callable[..., Path]


def lines(out: Path) -> list[dict[str, Any]]:
    return results.comparable(results.read(out).values())


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts of 24 episodes."""
    folder = tmp_path_factory.mktemp("parts")
    for number in (1, 2, 3):
        flags: dict[str, Any] = {"tasks": (0, 1, 2), "episodes": 8, "workers": 1, "videos": "failures"}
        out = folder / f"part{number}"
        run_evaluation(EvaluateConfig(policy="noise", suite="fake", out=out, shard=f"{number}/3", **flags), Noise())
    return folder


@pytest.fixture
def parts(originals: Path, tmp_path: Path) -> list[Path]:
    return [shutil.copytree(part, tmp_path / part.name) for part in sorted(originals.iterdir())]


def test_three_parts_are_the_whole(evaluate: Evaluate, parts: list[Path], tmp_path: Path) -> None:
    whole = evaluate("whole", "noise", videos="failures")
    counts = [len(lines(part)) for part in parts]
    assert counts == [8, 8, 8]
    assert all({line["episode"]["task"] for line in lines(part)} == {0, 1, 2} for part in parts), "each a bit of each"
    merged = run(MergeConfig(runs=(parts[2], parts[0], parts[1]), out=tmp_path / "merged"))
    assert lines(merged) == lines(whole)
    assert json.loads((merged / "summary.json").read_text()) == json.loads((whole / "summary.json").read_text())
    assert {path.name for path in (merged / "videos").iterdir()} == {path.name for path in (whole / "videos").iterdir()}
    assert len(read_lines(merged / "sessions.jsonl")) == 6
    before = (merged / EPISODES).read_bytes()
    run(MergeConfig(runs=tuple(parts), out=merged))  # again, over itself
    assert (merged / EPISODES).read_bytes() == before
    evaluate("merged", "noise")  # it is a directory like any other: nothing is left to do
    assert (merged / EPISODES).read_bytes() == before


def test_missing_episodes_are_said_and_can_be_run(
    evaluate: Evaluate, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged = run(MergeConfig(runs=(parts[0], parts[2]), out=tmp_path / "merged"))
    assert "8 episodes are missing: fake/0/init1/episode-0/0" in capsys.readouterr().err
    assert json.loads((merged / "summary.json").read_text())["complete"] is False
    assert len(lines(evaluate("merged", "noise"))) == 24


def test_overlapping_parts_must_agree(evaluate: Evaluate, parts: list[Path], tmp_path: Path) -> None:
    whole = evaluate("whole", "noise")
    assert lines(run(MergeConfig(runs=(whole, parts[0]), out=tmp_path / "merged"))) == lines(whole)
    first, *others = read_lines(parts[0] / EPISODES)
    (parts[0] / EPISODES).unlink()
    for line in ({**first, "steps": first["steps"] + 1}, *others):
        append_line(parts[0] / EPISODES, line)
    with pytest.raises(UserError, match=f"{first['id']} came out differently") as refused:
        run(MergeConfig(runs=(whole, parts[0]), out=tmp_path / "other"))
    assert f"steps: {first['steps']} | {first['steps'] + 1}" in refused.value.why
    assert not (tmp_path / "other").exists()


def test_an_error_gives_way_to_a_result(parts: list[Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(parts[0], copy)
    first, *others = read_lines(parts[0] / EPISODES)
    (copy / EPISODES).unlink()
    for line in ({**first, "outcome": "error", "error": "lost", "hashes": {}}, *others):
        append_line(copy / EPISODES, line)
    for order in ((copy, parts[0]), (parts[0], copy)):
        merged = run(MergeConfig(runs=order, out=tmp_path / f"from-{order[0].name}"))
        assert lines(merged) == lines(parts[0])


def test_another_plan_is_refused(evaluate: Evaluate, parts: list[Path], tmp_path: Path) -> None:
    other = evaluate("other", "noise", seed=3, shard="2/3")
    with pytest.raises(UserError, match="not parts of one evaluation") as refused:
        run(MergeConfig(runs=(parts[0], other), out=tmp_path / "merged"))
    assert "protocol.seed: 0 | 3" in refused.value.why
    with pytest.raises(UserError, match="not an evaluation"):
        run(MergeConfig(runs=(parts[0], tmp_path), out=tmp_path / "merged"))
    with pytest.raises(UserError, match="not an evaluation's directory, and not empty"):
        run(MergeConfig(runs=(parts[0],), out=tmp_path))
    append_line(parts[1] / EPISODES, {**read_lines(parts[1] / EPISODES)[0], "episode": {**STRANGE}, "id": "strange"})
    with pytest.raises(UserError, match="its plan has no such episode"):
        run(MergeConfig(runs=tuple(parts), out=tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()


STRANGE = {"suite": "fake", "task": 3, "initial_state": 9, "stream": "episode", "seed": 0, "attempt": 0}


def test_a_part_that_is_being_written_is_refused(parts: list[Path], tmp_path: Path) -> None:
    import fcntl

    with (parts[1] / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="still writing"):
            run(MergeConfig(runs=tuple(parts), out=tmp_path / "merged"))
    (parts[1] / ".lock").unlink()  # as after a copy
    run(MergeConfig(runs=tuple(parts), out=tmp_path / "merged"))


def test_a_part_keeps_to_its_directory(evaluate: Evaluate, parts: list[Path]) -> None:
    with pytest.raises(UserError, match="is part 1 of 3 of this evaluation, not 2 of 3"):
        evaluate("part1", "noise", shard="2/3")
    with pytest.raises(UserError, match="is part 1 of 3 of this evaluation, not 1 of 1"):
        evaluate("part1", "noise")


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_what_is_no_part(shard: str) -> None:
    with pytest.raises(UserError, match="is not a part"):
        EvaluateConfig(policy="noise", suite="fake", shard=shard)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one of the parts"):
        MergeConfig(runs=(tmp_path,), out=tmp_path)
    with pytest.raises(UserError, match="nothing to merge"):
        MergeConfig(runs=(), out=tmp_path)
