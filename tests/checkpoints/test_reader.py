"""A PaliGemma's folder: whole, strict, with its tokenizer; and what is said when it is taken for a policy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_pi05 import policy
from small_vqa import config, form, manifest, model, write_checkpoint, write_questions

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints import published
from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.load import load_reader
from handeye.checkpoints.manifest import FILE
from handeye.checkpoints.npz import read_npz, write_npz
from handeye.checkpoints.reading_half import read_half, reader_config
from handeye.cli import main
from handeye.errors import UserError


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "xvr")


@pytest.fixture
def folder(questions: Path, tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "run" / "final", questions)


def test_round_trip_without_what_it_was_made_from(folder: Path, questions: Path) -> None:
    """The tokenizer is inside: the data set may go."""
    wanted = form(questions)
    shutil.rmtree(questions)
    reader = load_reader(folder)
    assert reader.manifest.form == wanted
    assert reader.manifest.form.said([*reader.manifest.form.vocabulary.load()("red"), 1, 5]) == "red"
    for name, tensor in model().state_dict().items():
        assert torch.equal(reader.model.state_dict()[name], tensor), name
    assert not any(p.requires_grad for p in reader.model.parameters())
    assert load_reader(folder.parent).manifest == reader.manifest  # a run means its final
    assert sorted(reader.manifest.files) == ["model.safetensors", "tokenizer.model"]


def test_it_is_no_policy(folder: Path) -> None:
    with pytest.raises(UserError, match="answers questions and does not act") as error:
        published.load(folder)
    assert "merge-vlm" in error.value.fix and "evaluate-vqa" in error.value.fix


def test_a_policy_answers_nothing(checkpoint: Path) -> None:
    assert not manifests.answers_questions(checkpoint)
    with pytest.raises(UserError, match="acts and does not answer"):
        load_reader(checkpoint)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(specs={}), "missing or unknown: specs"),
        (lambda m: m["form"].pop("length"), "length"),
        (lambda m: m.update(tensors=3), "its manifest says 3"),
        (lambda m: m.update(step="x"), "'step' should be int"),
        (lambda m: m["config"].update(vocabulary=99), "another shape"),
        (lambda m: m["form"]["vocabulary"].update(name="../t.model"), "plain name"),
    ],
)
def test_what_was_tampered_with_is_named(folder: Path, change, said: str) -> None:
    value = json.loads((folder / FILE).read_text())
    change(value)
    (folder / FILE).write_text(json.dumps(value))
    with pytest.raises(UserError, match=said):
        load_reader(folder)


def test_another_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes((folder / "tokenizer.model").read_bytes() + b"\x00")
    with pytest.raises(UserError, match="damaged"):
        load_reader(folder)


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_the_reading_half_of_a_policy(kind: str, tmp_path: Path) -> None:
    """From openpi's JAX names and its PyTorch file alike; never an expert's array."""
    acting = policy(kind)
    state = {name: tensor.detach().contiguous() for name, tensor in acting.state_dict().items()}
    write_npz(tmp_path / "base.npz", names.to_tree(state, acting.config))
    (tmp_path / "torch").mkdir()
    tensors = names.to_torch(state, acting.config)
    save_file(tensors, tmp_path / "torch" / "model.safetensors", metadata=names.TORCH_METADATA)
    halves = [
        read_half(tmp_path / "base.npz"),
        read_half(tmp_path / "torch", heads=(4, 2)),
    ]
    for half in halves:
        assert half.config == reader_config(acting.config) and half.form is None
        assert half.state.keys() == {name for name in state if name.startswith(("vision.", "language."))}
        for name, tensor in half.state.items():
            assert torch.equal(tensor, state[name]), name


def test_the_reading_half_of_ours(folder: Path, questions: Path, checkpoint: Path, tmp_path: Path) -> None:
    half = read_half(folder.parent)
    assert half.config == config() and half.form == form(questions)
    write_npz(tmp_path / "p.npz", {f"params/{k}": v for k, v in names.to_tree(half.state, half.config).items()})
    again = read_half(tmp_path / "p.npz")
    assert again.config == config() and all(torch.equal(again.state[n], t) for n, t in half.state.items())
    with pytest.raises(UserError, match="no PaliGemma"):
        read_half(checkpoint)


def test_converted_for_big_vision(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["convert", str(folder), str(tmp_path / "v.npz"), "--to", "openpi-jax"])
    arrays = read_npz(tmp_path / "v.npz")
    assert len(arrays) == 32 and all(name.startswith(("params/img/", "params/llm/")) for name in arrays)
    with pytest.raises(SystemExit):
        main(["convert", str(folder), str(tmp_path / "x"), "--to", "openpi-torch"])
    assert "does not act" in capsys.readouterr().err


def test_where_it_was_made_is_kept(folder: Path, questions: Path) -> None:
    found = load_reader(folder).manifest
    assert found == replace(manifest(questions), files=found.files, tensors=found.tensors)
