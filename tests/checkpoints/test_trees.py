"""What may stand before the names in an `.npz` file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from handeye.checkpoints.npz import write_npz
from handeye.checkpoints.trees import read_tree
from handeye.errors import UserError

ONE = torch.ones(1)


@pytest.mark.parametrize("before", ["", "params/", "opt/target/"])
def test_wrappers(before: str, tmp_path: Path) -> None:
    more = {"opt/state/step": ONE} if before.startswith("opt") else {}
    write_npz(tmp_path / "a.npz", {f"{before}img/w": ONE, f"{before}llm/w": ONE, **more})
    assert set(read_tree(tmp_path / "a.npz")) == {"img/w", "llm/w"}


def test_names_of_two_kinds(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"params/img/w": ONE, "llm/w": ONE})
    with pytest.raises(UserError, match="llm/w stands outside"):
        read_tree(tmp_path / "a.npz")
