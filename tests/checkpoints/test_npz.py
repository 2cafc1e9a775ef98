"""`.npz` files of weights: every type there and back, bfloat16 as others read it, nothing lost in a cast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handeye.checkpoints.npz import cast, read_npz, write_npz
from handeye.errors import UserError


def test_there_and_back(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randn(3, 4, generator=random)
    tensors = {f"params/{t}/w": values.to(t) for t in (torch.float32, torch.float16, torch.bfloat16)}
    tensors["params/turned"] = values.T
    write_npz(tmp_path / "a.npz", tensors)
    again = read_npz(tmp_path / "a.npz")
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert again[name].dtype == tensor.dtype and torch.equal(again[name], tensor)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz"]


def test_bfloat16_is_what_numpy_makes_of_it(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"w": torch.tensor([1.0, -2.5], dtype=torch.bfloat16)})
    with np.load(tmp_path / "a.npz") as file:
        assert file["w"].dtype == np.dtype("V2")
        assert file["w"].view(np.uint16).tolist() == [0x3F80, 0xC020]


def test_big_endian_numbers_are_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.array([1.5, 2.0], ">f4"))
    assert read_npz(tmp_path / "a.npz")["w"].tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({"w": np.array([1.0])}, "float64"),
        ({"w": np.array([{}], object)}, "pickle"),
        ({"w": np.array(["a"])}, "<U1"),
        (b"PK\x03\x04 cut off", "zip"),
        (b"", "EOF|data left|pickle"),
    ],
)
def test_refused(content: dict | bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.savez(path, **content)
    with pytest.raises(UserError, match=why):
        read_npz(path)


def test_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(2))
    with pytest.raises(UserError, match="single array"):
        read_npz(tmp_path / "a.npy")


def test_a_missing_file() -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_npz(Path("nowhere.npz"))


def test_a_damaged_file(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"w": torch.arange(1000.0)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[2000] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read_npz(tmp_path / "a.npz")


def test_no_cast_loses_a_large_number() -> None:
    large = {"w": torch.tensor([70_000.0, 1.0])}
    with pytest.raises(UserError, match="w holds 1 numbers that are too large, up to 70000"):
        cast(large, torch.float16, what="it")
    with pytest.raises(UserError, match="float16"):
        cast({"w": large["w"].bfloat16()}, torch.float16, what="it")
    assert cast(large, torch.bfloat16, what="it")["w"].dtype == torch.bfloat16
    infinite = {"w": torch.tensor([torch.inf])}  # it was so before: not the cast's doing
    assert cast(infinite, torch.float16, what="it")["w"].isinf().all()
