"""metrics.jsonl never has a step twice, whatever was interrupted."""

from __future__ import annotations

from pathlib import Path

from handeye.records import read_lines
from handeye.train.metrics import FILE, Metrics, rewind


def test_going_back_drops_what_comes_after(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, before=100.0)
    for step in range(1, 6):
        metrics.log("train", step, loss=1 / step)
    metrics.log("validation", 4, l1=0.5)
    with (tmp_path / FILE).open("a") as file:
        file.write('{"kind": "train", "st')  # a kill in the middle of a line
    rewind(tmp_path, 3)
    lines = read_lines(tmp_path / FILE)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] == 1 / 3
    assert lines[2]["seconds"] >= 100
    rewind(tmp_path, 0)
    assert read_lines(tmp_path / FILE) == []


def test_there_may_be_nothing_to_go_back_in(tmp_path: Path) -> None:
    rewind(tmp_path, 3)
    assert not list(tmp_path.iterdir())
