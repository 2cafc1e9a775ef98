from __future__ import annotations

import json
from pathlib import Path

import pytest

from handeye.data.bench import sets as bench_sets
from handeye.data.bench.run import run
from handeye.data.bench.sets import prepare
from handeye.data.bench.synthetic import Maker
from handeye.data.config import BenchDataConfig
from handeye.data.source import open_source
from handeye.data.verify.findings import exit_code
from handeye.data.verify.run import verify
from handeye.errors import UserError


def test_each_way_is_measured_beside_the_naive_loop(
    demo_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of tiny pictures, so the figures mean nothing; that all sides hand out the same samples is checked within."""
    out = tmp_path / "figures.json"
    config = BenchDataConfig(
        root=demo_folder / "a", episodes=4, formats=("raw", "rlds"), rounds=1, size=8, chunk=3, json=out,
        keep=tmp_path / "sets",
    )  # fmt: skip
    assert run(config) == out
    found = {(one["way"], one["set"]): one for one in json.loads(out.read_text())["results"]}
    assert set(found) == {
        ("naive", "raw"), ("stream", "raw"), ("stream", "rlds"), ("memory", "raw"), ("cache", "raw"),
        ("cache, augmented", "raw"),
    }  # fmt: skip
    for (way, _), one in found.items():
        assert one["ms"] > 0 and ("naive" in one["times"]) == (way != "naive")
    assert found["memory", "raw"]["times"]["naive"] > 3
    said = capsys.readouterr().out
    assert "4 episodes" in said and "at least 3 times the naive loop on raw HDF5: " in said
    with pytest.raises(UserError, match="exists already"):
        run(config)


@pytest.mark.parametrize(
    ("lerobot", "why"),
    [("/nowhere/python", "/nowhere/python cannot be run"), ("/bin/true", "side 'lerobot' ended on png")],
)
def test_an_interpreter_without_lerobot_is_one_error(demo_folder: Path, lerobot: str, why: str) -> None:
    config = BenchDataConfig(root=demo_folder, episodes=2, formats=("png",), rounds=1, size=8, lerobot=Path(lerobot))
    with pytest.raises(UserError, match=why):
        run(config)


def test_made_up_episodes_obey_the_conventions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_sets, "LENGTH", 60)
    maker = Maker(size=64, tasks=3)
    again = Maker(size=64, tasks=3).make(4, 60)
    for name, frames in maker.make(4, 60).images.items():
        assert (frames == again.images[name]).all()
    sets = prepare(tmp_path, None, 4, ["gzip", "rlds"])
    assert (sets.episodes, sets.size) == (4, 256) and sets.steps == sum(
        ref.length for ref in open_source(sets.path("rlds")).episodes
    )
    findings = verify(open_source(sets.path("rlds")), suite="none")
    assert exit_code(findings) == 0, [finding for finding in findings if finding.verdict in ("warn", "fail")]
