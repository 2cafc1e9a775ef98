"""A checkpoint is there whole, or not there."""

from __future__ import annotations

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from handeye.checkpoints import save as module
from handeye.checkpoints.files import read_tensors
from handeye.checkpoints.load import load
from handeye.checkpoints.manifest import FILE, Manifest, read
from handeye.checkpoints.save import save, whole_folder, write_tensors
from handeye.data.pipeline.steps import OpenVlaPrompt
from handeye.data.pipeline.vocabulary import Vocabulary
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


@pytest.fixture
def with_tokenizer(tmp_path: Path, manifest: Manifest) -> Manifest:
    """The pipeline needs a file beside itself."""
    from tokenizers import Tokenizer, models

    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "tokenizer.json"
    path.write_text(Tokenizer(models.WordLevel({"a": 7}, unk_token="a")).to_str())
    step = OpenVlaPrompt(Vocabulary.of(path), 16)
    return replace(manifest, pipeline=replace(manifest.pipeline, encode_steps=(step,)))


def test_a_tokenizer_travels_with_the_checkpoint(tmp_path: Path, model: nn.Module, with_tokenizer: Manifest) -> None:
    save(tmp_path / "new", with_tokenizer, model.state_dict())
    shutil.rmtree(tmp_path / "elsewhere")
    (tmp_path / "new").rename(tmp_path / "moved")  # no place is remembered
    found = load(tmp_path / "moved").manifest
    assert set(found.files) == {"model.safetensors", "tokenizer.json"}
    assert str(tmp_path) not in (tmp_path / "moved" / FILE).read_text()
    assert found.pipeline == with_tokenizer.pipeline
    assert found.pipeline.encode_steps[0]({"prompt": "a"})["prompt"][:3].tolist() == [1, 7, 29871]


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_tokenizer_that_is_missing_or_another_is_an_error(
    tmp_path: Path, model: nn.Module, with_tokenizer: Manifest, content: bytes | None
) -> None:
    save(tmp_path / "new", with_tokenizer, model.state_dict())
    path = tmp_path / "new" / "tokenizer.json"
    path.write_bytes(content) if content is not None else path.unlink()
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load(tmp_path / "new")
    with pytest.raises(UserError, match=r"tokenizer"):  # also for those who read the manifest alone
        read(tmp_path / "new").pipeline.encode_steps[0]({"prompt": "a"})


def test_tied_and_mapped_tensors_are_written(tmp_path: Path) -> None:
    """Tensors of a mapped file as they lie there; two that are one, twice; a part of another, and a transposed one."""
    random = torch.Generator().manual_seed(0)
    whole = {"a": torch.randn(3, 4, generator=random), "b": torch.randn(5, generator=random)}
    write_tensors(tmp_path / "one", whole)
    mapped = read_tensors([tmp_path / "one"])
    given = {**mapped, "tied": mapped["a"], "turned": mapped["a"].T, "first": whole["b"][:2], "rest": whole["b"][2:]}
    write_tensors(tmp_path / "two", given)
    found = read_tensors([tmp_path / "two"])
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in given.items())
