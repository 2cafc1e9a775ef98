"""A folder of openpi's as a policy, and every way in which such a folder is not one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_pi05 import VISION, policy
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.layouts.openpi import recognises
from handeye.checkpoints.npz import read_npz, write_npz
from handeye.checkpoints.published import load
from handeye.cli import main
from handeye.errors import UserError
from handeye.serve.local import LocalPolicy
from handeye.types import Observation

HEADS = {"heads": "4", "vision_heads": "2"}
STATISTICS = {
    "state": {"mean": [0.0] * 8, "std": [1.0] * 8, "q01": [-1.0] * 8, "q99": [1.0] * 8},
    "actions": {"mean": [0.0] * 7, "std": [1.0] * 7, "q01": [-1.0] * 7, "q99": [1.0] * 7},
}


@pytest.fixture
def options(tmp_path: Path) -> dict[str, str]:
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "pick", "up", "the", "cube"]
    tokenizer = Tokenizer(WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return {**HEADS, "chunk": "3", "precision": "fp32", "tokenizer": str(tmp_path / "tokenizer.json")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = policy(vision=replace(VISION, image_size=224, patch=112))
    state = {name: x.detach().contiguous() for name, x in model.state_dict().items()}
    folder = tmp_path / "4999"
    (folder / "assets" / "someone" / "libero").mkdir(parents=True)
    save_file(names.to_torch(state, model.config), folder / "model.safetensors", metadata=names.TORCH_METADATA)
    content = json.dumps({"norm_stats": STATISTICS})
    (folder / "assets" / "someone" / "libero" / "norm_stats.json").write_text(content)
    return folder


def observations(count: int) -> list[Observation]:
    random = np.random.default_rng(0)
    return [
        Observation(
            images={name: random.integers(0, 256, (256, 256, 3), np.uint8) for name in ("agentview", "wrist")},
            proprio=random.normal(size=8).astype(np.float32),
            prompt="pick up the cube",
            seed=index,
        )
        for index in range(count)
    ]


def test_it_acts(folder: Path, options: Mapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Together and alone alike, twice the same, and what nobody chose is said."""
    checkpoint = load(folder, {name: value for name, value in options.items() if name != "chunk"})
    said = capsys.readouterr().out
    assert "10 actions per answer (as pi05_libero; else #chunk=N)" in " ".join(said.split())
    assert "does not see the robot's state" in " ".join(said.split())
    assert checkpoint.manifest.step == 4999
    alone, together = LocalPolicy(checkpoint, rows=1), LocalPolicy(checkpoint, rows=3)
    seen = observations(3)
    one, many = (np.stack([a.actions for a in p.act(seen)]) for p in (alone, together))
    assert one.shape == (3, 10, 7)
    np.testing.assert_allclose(one, many, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(one, np.stack([a.actions for a in alone.act(seen)]))
    assert not np.allclose(one[0], alone.act([replace(seen[0], seed=9)])[0].actions, atol=1e-2)


def test_bfloat16_is_the_default(folder: Path, options: Mapping[str, str]) -> None:
    checkpoint = load(folder, {name: value for name, value in options.items() if name != "precision"})
    kinds = {name: p.dtype for name, p in checkpoint.model.named_parameters()}
    assert kinds["language.embedding.weight"] == torch.bfloat16
    assert kinds["action_out_proj.weight"] == torch.float32
    assert np.isfinite(LocalPolicy(checkpoint).act(observations(1))[0].actions).all()


def test_the_tokenizer_is_looked_for(
    folder: Path, options: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENPI_DATA_HOME", str(tmp_path / "cache"))
    del options["tokenizer"]
    with pytest.raises(UserError, match="has no tokenizer"):
        load(folder, options)
    for place in (tmp_path / "cache" / "big_vision", folder):
        place.mkdir(parents=True, exist_ok=True)
        (place / "paligemma_tokenizer.model").write_bytes(b"no model")
        with pytest.raises(UserError, match="cannot be read as a tokenizer"):
            load(folder, options)


def edited(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_tensors_that_do_not_fit(folder: Path, options: Mapping[str, str]) -> None:
    edited(folder, lambda t: t.update({"more.weight": torch.ones(1), "action_out_proj.bias": torch.ones(31)}))
    edited(folder, lambda t: t.pop("time_mlp_in.bias"))
    with pytest.raises(UserError) as error:
        load(folder, options)
    for part in ("missing: time_mlp_in.bias", "unexpected: more.weight", "action_out_proj.bias is [31], not [32]"):
        assert part in str(error.value)


def test_either_name_of_the_table(folder: Path, options: Mapping[str, str]) -> None:
    before = load(folder, options).model.state_dict()["language.embedding.weight"]
    edited(folder, lambda t: t.update({names.TABLE_TOO: t.pop(names.TABLE)}))
    assert torch.equal(load(folder, options).model.state_dict()["language.embedding.weight"], before)
    edited(folder, lambda t: t.update({names.TABLE: t[names.TABLE_TOO] + 1}))
    with pytest.raises(UserError, match="two tables"):
        load(folder, options)


def test_folders_that_leave_something_open(folder: Path, options: dict[str, str]) -> None:
    other = folder / "assets" / "other"
    other.mkdir()
    told = folder / "assets" / "someone" / "libero" / "norm_stats.json"
    (other / "norm_stats.json").write_bytes(told.read_bytes())
    with pytest.raises(UserError, match="statistics of 2 robots"):
        load(folder, options)
    with pytest.raises(UserError, match="asset"):
        load(folder, {**options, "asset": "nobody"})
    assert load(folder, {**options, "asset": "someone/libero"}).manifest.provenance["asset"].endswith("norm_stats.json")
    for path in (told, other / "norm_stats.json"):
        path.unlink()
    with pytest.raises(UserError, match="has no statistics"):
        load(folder, options)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"chunks": "3"}, "chunk"),
        ({"chunk": "none"}, "chunk=none"),
        ({"state": "maybe"}, "maybe"),
        ({"heads": ""}, "heads=N"),
        ({"heads": "999"}, "no 999 heads"),
        ({"heads": "5"}, "no 5 heads"),
        ({"vision_heads": ""}, "vision_heads=N"),
        ({"precision": "fp16"}, "fp16"),
    ],
)
def test_options(given: dict[str, str], why: str, folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match=why):
        load(folder, {**options, **given})


def test_two_sets_of_weights(folder: Path, options: Mapping[str, str]) -> None:
    (folder / "params").mkdir()
    (folder / "params" / "_METADATA").write_text("{}")
    with pytest.raises(UserError, match="two sets of weights"):
        load(folder, options)
    with pytest.raises(UserError, match="give the folder above"):
        load(folder / "params", options)


def test_there_and_back(folder: Path, options: dict[str, str], tmp_path: Path) -> None:
    """openpi's PyTorch layout, ours, both of openpi's: the same numbers, statistics and answers everywhere."""
    before = load(folder, options)
    address = f"{folder}#" + ",".join(f"{name}={value}" for name, value in options.items() if name != "precision")
    ours, theirs, jax = tmp_path / "ours", tmp_path / "theirs", tmp_path / "weights.npz"
    main(["convert", address, str(ours)])
    main(["convert", str(ours), str(theirs), "--to", "openpi-torch"])
    main(["convert", str(ours), str(jax), "--to", "openpi-jax"])
    main(["convert", str(ours), str(tmp_path / "orbax"), "--to", "openpi-orbax"])
    found = load_file(folder / "model.safetensors")
    written = load_file(theirs / "model.safetensors")
    assert found.keys() == written.keys()
    assert all(torch.equal(found[name], written[name]) for name in found)
    told = json.loads((theirs / "assets" / "someone" / "libero" / "norm_stats.json").read_text())
    assert told == {"norm_stats": STATISTICS}
    tree = names.to_tree(before.model.state_dict(), before.model.config)
    again = read_npz(jax)
    assert again.keys() == tree.keys() and all(torch.equal(again[key], tree[key]) for key in tree)
    seen = observations(1)
    policies = (before, load(ours), load(theirs, options), load(tmp_path / "orbax", options))
    answers = [LocalPolicy(policy).act(seen)[0].actions for policy in policies]
    for other in answers[1:]:
        np.testing.assert_array_equal(answers[0], other)


def test_converting_refuses(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", str(folder), str(folder)])
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["convert", str(folder), str(tmp_path / "new"), "--to", "openpi-jax"])
    assert "ends in .npz" in capsys.readouterr().err


def test_an_npz_in_the_folders_place(folder: Path, options: dict[str, str], tmp_path: Path) -> None:
    """With statistics beside it, or named, or none where they will be measured anew."""
    before = load(folder, options)
    file = tmp_path / "alone" / "weights.npz"
    write_npz(file, names.to_tree(before.model.state_dict(), before.model.config))
    said = {name: value for name, value in options.items() if name not in HEADS}
    assert recognises(file)
    with pytest.raises(UserError, match="has no statistics") as error:
        load(file, said)
    assert f"{file}#statistics=FILE" in error.value.fix
    assert load(file, said, to_fine_tune=True).manifest.files.keys() == {"weights.npz"}

    lying = next(folder.rglob("norm_stats.json"))
    with pytest.raises(UserError, match="both given"):
        load(file, {**said, "statistics": str(lying), "asset": "someone/libero"})
    named = load(file, {**said, "statistics": str(lying)})
    shutil.copytree(folder / "assets", file.parent / "assets")
    beside = load(file, said)
    assert beside.manifest.files.keys() == {"weights.npz", "assets/someone/libero/norm_stats.json"}
    seen = observations(1)
    answers = [LocalPolicy(each).act(seen)[0].actions for each in (before, named, beside)]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])

    address = f"{file}#" + ",".join(f"{name}={value}" for name, value in said.items() if name != "precision")
    main(["convert", address, str(tmp_path / "ours")])
    np.testing.assert_array_equal(answers[0], LocalPolicy(load(tmp_path / "ours")).act(seen)[0].actions)
    other = f"{address},statistics={lying}"
    main(["convert", other, str(tmp_path / "theirs"), "--to", "openpi-torch"])
    assert json.loads(next((tmp_path / "theirs").rglob("norm_stats.json")).read_text()) == {"norm_stats": STATISTICS}


def test_a_file_that_is_no_policy(folder: Path, options: Mapping[str, str], tmp_path: Path) -> None:
    write_npz(tmp_path / "vlm.npz", {"params/llm/embedder/input_embedding": torch.ones(2, 2)})
    for file in (tmp_path / "vlm.npz", folder / "model.safetensors"):
        with pytest.raises(UserError, match="is a file, and no policy of itself") as error:
            load(file, options)
        assert "no such folder" not in error.value.why and f"handeye inspect {file}" in error.value.fix
