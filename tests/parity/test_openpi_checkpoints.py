"""openpi's checkpoints as it writes them: names and shapes at true size, every layout, and the policy that acts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.layouts.openpi import recognises
from handeye.checkpoints.layouts.openpi_lora import fold
from handeye.checkpoints.npz import read_npz, write_npz
from handeye.checkpoints.published import load
from handeye.checkpoints.trees import read_tree
from handeye.models import paligemma, pi05

pytestmark = pytest.mark.goldens
Record = Callable[[str, object], None]
HEADS = {"pi05_tiny": {"heads": "8", "vision_heads": "3"}, "pi0_tiny": {"heads": "8", "vision_heads": "2"}}


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    return goldens / "pi05"


def shapes(path: Path) -> dict[str, list[int]]:
    return json.loads(path.read_text())


def test_names_at_true_size(folder: Path, record_property: Record) -> None:
    for name, config in (("pi05_base", pi05.Config()), ("pi0_base", pi05.Config(kind="pi0"))):
        told = shapes(folder / "keys" / f"{name}_keys.json")
        assert names.tree_shapes(config) == told
        with torch.device("meta"):
            tree = {key: torch.empty(shape) for key, shape in told.items()}
        assert names.config_of(tree, what=name, chunk=config.chunk) == config
        record_property("names and shapes at true size", len(told))
    told = shapes(folder / "keys" / "paligemma3b_keys.json")
    assert {f"params/{key}": shape for key, shape in names.tree_shapes(paligemma.Config()).items()} == told
    record_property("names and shapes at true size", len(told))


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_pytorch_names_at_true_size(kind: str, folder: Path, record_property: Record) -> None:
    """And what is stored in which type where the model computes in bfloat16."""
    told = json.loads((folder / "keys" / f"{kind}_base_pytorch_keys.json").read_text())
    config = pi05.Config(kind=kind, dtype="bfloat16")
    with torch.device("meta"):
        ours = names.to_torch(names.skeleton(config).state_dict(), config)
    assert set(told) - set(ours) == {names.TABLE_TOO} and set(ours) <= set(told)
    for name, tensor in ours.items():
        assert list(tensor.shape) == told[name]["shape"]
        assert str(tensor.dtype) == f"torch.{told[name]['dtype_when_config_dtype_is_bfloat16']}", name
    record_property("names and shapes at true size", len(ours))
    assert names.from_torch(ours, config, what="ours").keys() == names.skeleton(config).state_dict().keys()
    assert names.config_of_torch(ours, what="ours", chunk=config.chunk, dtype="bfloat16") == config


def test_lora_at_true_size(folder: Path, record_property: Record) -> None:
    """Added in, it is the model without."""
    told = shapes(folder / "keys" / "pi05_lora_keys.json")
    with torch.device("meta"):
        tree = {key: torch.empty(shape) for key, shape in told.items()}
    found = fold(dict(tree), what="a checkpoint")
    assert {key: list(array.shape) for key, array in found.items()} == shapes(folder / "keys" / "pi05_base_keys.json")
    assert names.config_of(found, what="a checkpoint", chunk=10) == pi05.Config()
    record_property("names and shapes at true size", len(told))


@pytest.mark.parametrize(
    ("orbax", "npz"),
    [
        ("pi05_tiny/checkpoint", "pi05_tiny/params"),
        ("pi0_tiny/checkpoint/params", "pi0_tiny/params"),
        ("checkpoint_train_layout/with_ema/7", "checkpoint_train_layout/ema_params"),
        ("checkpoint_train_layout/without_ema/3", "checkpoint_train_layout/raw_params"),
        ("merge/base_f32_checkpoint", "merge/base_f32"),
        ("merge/base_bf16_checkpoint", "merge/base_bf16"),
    ],
)
def test_orbax(orbax: str, npz: str, folder: Path, record_property: Record) -> None:
    pytest.importorskip("tensorstore", reason="needs the extra `orbax`")
    ours, theirs = read_tree(folder / orbax), read_npz(folder / f"{npz}.npz")
    assert set(ours) == set(theirs)
    for key, array in ours.items():
        assert array.dtype == theirs[key].dtype
        assert torch.equal(array, theirs[key]), key
    record_property("arrays of Orbax directories", len(ours))


@pytest.mark.parametrize("name", HEADS)
def test_both_layouts_are_one_policy(name: str, folder: Path, tmp_path: Path, record_property: Record) -> None:
    pytest.importorskip("tensorstore", reason="needs the extra `orbax`")
    tokenizer = {"tokenizer": str(folder / "tokenizer" / "tiny_tokenizer.model"), "precision": "fp32"}
    jax = load(folder / name / "checkpoint", tokenizer)
    shutil.copytree(folder / name / "checkpoint" / "assets", tmp_path / "assets")
    shutil.copy2(folder / name / "model.safetensors", tmp_path)
    assert recognises(tmp_path)
    torch_ = load(tmp_path, {**tokenizer, **HEADS[name]})
    assert jax.manifest.config == torch_.manifest.config
    ours, theirs = jax.model.state_dict(), torch_.model.state_dict()
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        assert torch.equal(tensor, theirs[key]), key
    record_property("tensors of both layouts", len(ours))


@pytest.mark.parametrize("name", HEADS)
def test_what_we_write_is_what_they_wrote(name: str, folder: Path, tmp_path: Path, record_property: Record) -> None:
    tree = read_npz(folder / name / "params.npz")
    said = json.loads((folder / name / "config.json").read_text())
    config = names.config_of(tree, what=name, chunk=said["action_horizon"])
    state = names.from_tree(dict(tree), config, what=name)
    write_npz(tmp_path / "params.npz", names.to_tree(state, config))
    again = read_npz(tmp_path / "params.npz")
    assert again.keys() == tree.keys() and all(torch.equal(again[key], tree[key]) for key in tree)

    save_file(names.to_torch(state, config), tmp_path / "model.safetensors", metadata=names.TORCH_METADATA)
    ours, theirs = (load_file(path / "model.safetensors") for path in (tmp_path, folder / name))
    assert ours.keys() == theirs.keys()
    for key in set(ours) - {names.DEAD}:
        assert torch.equal(ours[key], theirs[key]), key
    assert ours[names.DEAD].shape == theirs[names.DEAD].shape
    with safe_open(folder / name / "model.safetensors", "pt") as file:
        assert file.metadata().items() <= names.TORCH_METADATA.items()
    record_property("arrays and tensors written as openpi writes them", len(tree) + len(ours) - 1)
