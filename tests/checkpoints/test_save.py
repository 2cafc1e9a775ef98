"""A checkpoint is there whole, or not there."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from handeye.checkpoints import save as module
from handeye.checkpoints.manifest import FILE, Manifest
from handeye.checkpoints.save import save, whole_folder, write_tensors
from handeye.errors import UserError


def test_nothing_else_is_left_behind(checkpoint: Path) -> None:
    assert sorted(path.name for path in checkpoint.parent.iterdir()) == ["checkpoint"]
    assert sorted(path.name for path in checkpoint.iterdir()) == [FILE, "model.safetensors"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(tmp_path / "new") as part:
        (part / "begun").write_text("x")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_user_error_and_leaves_nothing(
    tmp_path: Path, model: nn.Module, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(UserError, match="No space left"):
        save(tmp_path / "new", manifest, model.state_dict())
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_is_no_obstacle(tmp_path: Path, model: nn.Module, manifest: Manifest) -> None:
    (tmp_path / ".new.part").mkdir()
    (tmp_path / ".new.part" / "half").write_text("x")
    save(tmp_path / "new", manifest, model.state_dict())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [FILE, "model.safetensors"]


def test_shared_and_strided_tensors_are_written(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    write_tensors(
        tmp_path / "a", {"one": base, "same": base, "view": base[0], "cl": base.to(memory_format=torch.channels_last)}
    )
    assert (tmp_path / "a").stat().st_size > 4 * (24 * 3 + 12)
