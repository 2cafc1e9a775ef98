"""Weights are read without running anything, and damage is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from handeye.checkpoints.files import read_pt, read_tensors
from handeye.errors import UserError

RAN: list[str] = []


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return RAN.append, ("it ran",)


def test_plain_tensors_come_back(tmp_path: Path) -> None:
    torch.save({"step": 3, "model": {"a": torch.arange(4.0)}}, tmp_path / "a.pt")
    found = read_pt(tmp_path / "a.pt")
    assert found["step"] == 3 and torch.equal(found["model"]["a"], torch.arange(4.0))


def test_code_is_named_and_not_run(tmp_path: Path) -> None:
    torch.save({"config": Hostile()}, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds more than tensors"):
        read_pt(tmp_path / "a.pt")
    assert not RAN


def test_every_damaged_byte_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    """torch itself reads a flipped byte without a word."""
    path = tmp_path / "a.pt"
    torch.save({"a": torch.from_numpy(np.arange(4096, dtype=np.uint8))}, path)
    content = path.read_bytes()
    start = content.index(bytes(range(100, 140)))
    for place in range(start, start + 2000, 331):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(UserError, match="the checksum of"):
            read_pt(path)
    for length in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match="cannot be read as a torch file"):
            read_pt(path)
    with pytest.raises(UserError, match="does not exist"):
        read_pt(tmp_path / "absent.pt")


def test_a_tensor_in_two_files_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        save_file({"same": torch.zeros(1)}, tmp_path / name)
    with pytest.raises(UserError, match="same"):
        read_tensors([tmp_path / "a", tmp_path / "b"])
