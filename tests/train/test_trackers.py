"""What metrics.jsonl says is sent on, number by number, to packages that may not be there."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.records import read_json, read_lines
from handeye.train.metrics import FILE, Metrics
from handeye.train.trackers import WANDB, numbers, open_trackers


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Both packages, as far as we use them."""
    found: list[Any] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            found.append(("tensorboard", Path(folder).name))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            found.append((name, step, value))

        def flush(self) -> None: ...

    def init(**how: Any) -> Any:
        found.append(("wandb", how["id"], how["resume"]))
        found.extend((name, how[name]) for name in ("project", "entity") if name in how)
        return SimpleNamespace(id=how["id"] or "new", log=lambda values, step: found.append((values, step)))

    board, wandb = ModuleType("torch.utils.tensorboard"), ModuleType("wandb")
    board.SummaryWriter, wandb.init = SummaryWriter, init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return found


def test_nested_figures_get_paths_and_words_are_left_out() -> None:
    told = {"loss": 1, "l1": [0.5, 2.0], "sign": [{"right": 0.25, "wrong": None}], "note": "x", "ok": True}
    assert numbers(told) == {"loss": 1.0, "l1/0": 0.5, "l1/1": 2.0, "sign/0/right": 0.25}


def test_both_hear_what_is_written(tmp_path: Path, sent: list[Any]) -> None:
    trackers = open_trackers(("tensorboard", "wandb"), tmp_path, {"batch": 4})
    metrics = Metrics(tmp_path, trackers=trackers)
    metrics.log("train", 3, loss=0.5)
    assert [line["loss"] for line in read_lines(tmp_path / FILE)] == [0.5]
    assert sent == [("tensorboard", "tensorboard"), ("wandb", None, "allow"), ("train/loss", 3, 0.5),
                    ({"train/loss": 0.5}, 3)]  # fmt: skip
    Metrics(tmp_path, trackers=trackers, silent=True).log("train", 4, loss=0.5)
    assert len(sent) == 4 and len(read_lines(tmp_path / FILE)) == 1


def test_a_run_that_goes_on_is_the_same_run_there(tmp_path: Path, sent: list[Any]) -> None:
    open_trackers(("wandb",), tmp_path, {})
    assert read_json(tmp_path / WANDB, what="x") == {"id": "new"}
    open_trackers(("wandb",), tmp_path, {})
    assert sent == [("wandb", None, "allow"), ("wandb", "new", "allow")]


def test_wandb_is_told_where(tmp_path: Path, sent: list[Any]) -> None:
    open_trackers(("tensorboard", "wandb"), tmp_path, {}, wandb={"project": "pictures", "entity": None})
    assert sent[1:] == [("wandb", None, "allow"), ("project", "pictures"), ("entity", None)]


@pytest.mark.parametrize("name", ["wandb", "tensorboard"])
def test_an_absent_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=f"--track {name} needs a package"):
        open_trackers((name,), tmp_path, {})  # type: ignore[arg-type]
