"""The verbs, from files to files: what they write, what they say, and that nothing is left where they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import small_vqa
import torch
from safetensors.torch import load_file
from small_pi05 import policy, reader
from small_vqa import write_questions
from torch import Tensor

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.merge_config import ExtractVlmConfig, MergeVlmConfig
from handeye.checkpoints.merge_vlm import extract, merge, run, vlm_of
from handeye.checkpoints.npz import read_npz, write_npz
from handeye.checkpoints.save import save
from handeye.checkpoints.trees import read_tree
from handeye.conventions.plain import to_plain
from handeye.errors import UserError
from handeye.models import pi05
from handeye.models.gemma import precision


def tree_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return names.to_tree({name: x.detach() for name, x in model.named_parameters()}, model.config)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_npz(tmp_path / "base.npz", tree_of(policy()))
    return tmp_path / "base.npz"


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    array = {f"params/{key}": x + 1 for key, x in tree_of(reader()).items()}
    write_npz(tmp_path / "tuned.npz", array)
    return tmp_path / "tuned.npz"


def test_a_tuned_folder_of_ours(base: Path, tmp_path: Path) -> None:
    """As training writes it: the same arrays as from an .npz file."""
    state = {name: tensor + 1 for name, tensor in reader().state_dict().items()}
    questions = write_questions(tmp_path / "xvr", train=1, valid=1)
    manifest = replace(small_vqa.manifest(questions), config=to_plain(reader().config))
    save(tmp_path / "run" / "final", manifest, state)
    run(MergeVlmConfig(base=base, tuned=tmp_path / "run", out=tmp_path / "new.npz"))
    merged, wanted = read_npz(tmp_path / "new.npz"), names.to_tree(state, reader().config)
    assert all(torch.equal(merged[f"PaliGemma/{key}"], array) for key, array in wanted.items())


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_out_tuned_and_back(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tree_of(policy(kind))
    write_npz(tmp_path / "base.npz", tree)
    extract(ExtractVlmConfig(base=tmp_path / "base.npz", out=tmp_path / "vlm.npz"))
    vlm = read_npz(tmp_path / "vlm.npz")
    assert len(vlm) == 32 and all(key.startswith(("params/img/", "params/llm/")) for key in vlm)
    vlm["params/img/head/bias"] = vlm["params/img/head/bias"] + 1
    write_npz(tmp_path / "tuned.npz", vlm)

    run(MergeVlmConfig(base=tmp_path / "base.npz", tuned=tmp_path / "tuned.npz", out=tmp_path / "new.npz"))
    merged = read_npz(tmp_path / "new.npz")
    differing = {key for key in tree if not torch.equal(merged[key], tree[key])}
    assert merged.keys() == tree.keys() and differing == {"PaliGemma/img/head/bias"}
    report = json.loads((tmp_path / "new.merge.json").read_text())
    assert report["counts"] == {"base": len(tree) - 32, "tuned": 32, "changed": 1, "left_out": 0}
    assert set(report["arrays"]) == set(tree)
    assert "32 arrays tuned (1 differ" in capsys.readouterr().out


def test_a_folder_for_pytorch(base: Path, tuned: Path, tmp_path: Path) -> None:
    """Stored in bfloat16, with the tensors in single precision that openpi keeps so."""
    run(MergeVlmConfig(base=base, tuned=tuned, out=tmp_path / "new", dtype="bfloat16"))
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    config = replace(policy().config, dtype="bfloat16")
    state = names.from_torch(tensors, config, what="new")
    assert all(state[name].dtype == precision(name, "bfloat16") for name in state)
    model = pi05.Model(config)
    model.load_state_dict(state)
    expected = tree_of(reader())["img/head/bias"] + 1
    torch.testing.assert_close(model.vision.head.bias, expected.bfloat16())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["merge.json", "model.safetensors"]


def test_an_expert_in_the_tuned_file_is_left_out_aloud(
    base: Path, tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = read_npz(tuned)
    arrays["params/llm/layers/mlp_1/linear"] = read_npz(base)["PaliGemma/llm/layers/mlp_1/linear"] * 2
    write_npz(tuned, arrays)
    run(MergeVlmConfig(base=base, tuned=tuned, out=tmp_path / "new.npz"))
    key = "PaliGemma/llm/layers/mlp_1/linear"
    assert torch.equal(read_npz(tmp_path / "new.npz")[key], read_npz(base)[key])
    assert "1 arrays of an action expert" in capsys.readouterr().err


def test_an_expert_of_another_model_is_not_left_out(base: Path, tuned: Path) -> None:
    tree, other = read_tree(base), read_tree(tuned)
    other["llm/layers/mlp_2_1/linear"] = torch.ones(1)
    with pytest.raises(UserError, match="unexpected: llm/layers/mlp_2_1/linear"):
        merge(tree, other)


def test_refusing_leaves_nothing(base: Path, tuned: Path, tmp_path: Path) -> None:
    arrays = read_npz(tuned)
    arrays["params/img/head/bias"][0] = torch.nan
    write_npz(tuned, arrays)
    for out in ("new.npz", "new"):
        with pytest.raises(UserError, match="NaN"):
            run(MergeVlmConfig(base=base, tuned=tuned, out=tmp_path / out))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.npz", "tuned.npz"]


def test_what_exists_is_not_overwritten(base: Path, tuned: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        MergeVlmConfig(base=base, tuned=tuned, out=tuned)
    with pytest.raises(UserError, match="exists already"):
        ExtractVlmConfig(base=base, out=tuned)


def test_a_change_that_the_stored_type_cannot_show(base: Path) -> None:
    tree = read_tree(base)
    vlm = vlm_of(tree, what="base")
    hardly = {**vlm, "img/head/bias": vlm["img/head/bias"] * (1 + 1e-6)}
    assert merge(tree, hardly).changed == ("PaliGemma/img/head/bias",)
    with pytest.raises(UserError, match="nothing was tuned"):
        merge({key: x.bfloat16() for key, x in tree.items()}, hardly)
