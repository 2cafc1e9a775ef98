"""Orbax directories: both forms of names and of storage, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from handeye.checkpoints.orbax import read_orbax, write_orbax
from handeye.checkpoints.trees import read_tree
from handeye.errors import UserError

tensorstore = pytest.importorskip("tensorstore", reason="needs the extra `orbax`")


def write(folder: Path, arrays: dict[tuple[str, ...], np.ndarray], *, ocdbt: bool = True) -> Path:
    """As Orbax lays arrays out."""
    folder.mkdir(parents=True)
    for path, array in arrays.items():
        name, base = ".".join(path), f"file://{folder}/"
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"} if ocdbt else f"{base}{name}/"
        spec = {"driver": "zarr", "kvstore": store}
        opened = tensorstore.open(spec, create=True, dtype=array.dtype, shape=array.shape).result()
        opened.write(array).result()
    tree = {str(path): {"key_metadata": [{"key": part, "key_type": 2} for part in path]} for path in arrays}
    (folder / "_METADATA").write_text(json.dumps({"tree_metadata": tree}))
    return folder


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("end", [(), ("value",)])
def test_names_and_types(ocdbt: bool, end: tuple[str, ...], tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        ("params", "a", "kernel", *end): values,
        ("params", "b", *end): values.astype(np.float16),
        ("params", "c", *end): values.astype(tensorstore.bfloat16.numpy_dtype),
    }
    tree = read_tree(write(tmp_path / "7" / "params", arrays, ocdbt=ocdbt).parent)
    kinds = {"a/kernel": torch.float32, "b": torch.float16, "c": torch.bfloat16}
    assert {name: tensor.dtype for name, tensor in tree.items()} == kinds
    for tensor in tree.values():
        assert tensor.float().tolist() == values.tolist()


def test_written_and_read(tmp_path: Path) -> None:
    """Every type, a scalar's shape, and zeros, which are stored like any other number. Orbax's own reading:
    recipes/orbax_by_orbax.py."""
    tensors = {
        "a/kernel": torch.randn(3, 4),
        "b": torch.randn(2, 5, 1).bfloat16(),
        "c/d/e": torch.randn(7).half(),
        "zeros": torch.zeros(4, 4),
        "turned": torch.randn(4, 6).T,
    }
    write_orbax(tmp_path / "1" / "params", tensors)
    found = read_tree(tmp_path / "1")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    metadata = json.loads((tmp_path / "1" / "params" / "_METADATA").read_text())
    assert [part["key"] for part in metadata["tree_metadata"]["('params', 'c', 'd', 'e')"]["key_metadata"]] == [
        "params", "c", "d", "e",
    ]  # fmt: skip


def test_an_array_that_is_missing(tmp_path: Path) -> None:
    folder = write(tmp_path / "params", {("params", "a"): np.zeros(2, np.float32)})
    metadata = json.loads((folder / "_METADATA").read_text())
    metadata["tree_metadata"]["b"] = {"key_metadata": [{"key": "params"}, {"key": "b"}]}
    (folder / "_METADATA").write_text(json.dumps(metadata))
    with pytest.raises(UserError, match="cannot be read"):
        read_orbax(folder)


@pytest.mark.parametrize("text", ["{", "{}", '{"tree_metadata": {"a": 1}}', '{"tree_metadata": [1]}'])
def test_metadata_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "_METADATA").write_text(text)
    with pytest.raises(UserError, match=r"_METADATA|cannot be read"):
        read_orbax(tmp_path)


def test_numbers_that_are_no_weights(tmp_path: Path) -> None:
    folder = write(tmp_path / "train_state", {("step",): np.zeros(1, np.int32)})
    with pytest.raises(UserError, match="step is int32"):
        read_orbax(folder)


def test_two_names_that_become_one(tmp_path: Path) -> None:
    zeros = np.zeros(2, np.float32)
    folder = write(tmp_path / "params", {("params", "a"): zeros, ("params", "a", "value"): zeros})
    with pytest.raises(UserError, match="same name"):
        read_orbax(folder)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no weights"):
        read_tree(tmp_path)
