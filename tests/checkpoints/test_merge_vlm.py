"""The verbs, from files to files: what they write, what they say, and that nothing is left where they refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import small_vqa
import torch
from safetensors.torch import load_file, save_file
from small_pi05 import policy, reader
from small_vqa import write_questions
from torch import Tensor

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.layouts.openpi_write import norm_stats, write_assets
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.merge_config import ExtractVlmConfig, MergeVlmConfig
from handeye.checkpoints.merge_vlm import extract, merge, run, vlm_of
from handeye.checkpoints.npz import read_npz, write_npz
from handeye.checkpoints.orbax import write_orbax
from handeye.checkpoints.save import save
from handeye.checkpoints.trees import read_tree
from handeye.cli import main
from handeye.conventions.plain import to_plain
from handeye.errors import UserError
from handeye.models import pi05
from handeye.models.gemma import precision


def tree_of(model: torch.nn.Module) -> dict[str, Tensor]:
    return names.to_tree({name: x.detach() for name, x in model.named_parameters()}, model.config)


HEADS = {"heads": "4", "vision_heads": "2"}


def merge_files(base: Path, tuned: Path, out: Path, options: dict[str, str] | None = None, **flags: str) -> None:
    run(MergeVlmConfig(base=str(base), tuned=tuned, out=out, **flags), base, options or {})


def extract_file(base: Path, out: Path, options: dict[str, str] | None = None) -> None:
    extract(ExtractVlmConfig(base=str(base), out=out), base, options or {})


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
    merge_files(base, tmp_path / "run", tmp_path / "new.npz")
    merged, wanted = read_npz(tmp_path / "new.npz"), names.to_tree(state, reader().config)
    assert all(torch.equal(merged[f"PaliGemma/{key}"], array) for key, array in wanted.items())


@pytest.mark.parametrize("kind", ["pi0", "pi05"])
def test_out_tuned_and_back(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = tree_of(policy(kind))
    write_npz(tmp_path / "base.npz", tree)
    extract_file(tmp_path / "base.npz", tmp_path / "vlm.npz")
    vlm = read_npz(tmp_path / "vlm.npz")
    assert len(vlm) == 32 and all(key.startswith(("params/img/", "params/llm/")) for key in vlm)
    vlm["params/img/head/bias"] = vlm["params/img/head/bias"] + 1
    write_npz(tmp_path / "tuned.npz", vlm)

    merge_files(tmp_path / "base.npz", tmp_path / "tuned.npz", tmp_path / "new.npz")
    merged = read_npz(tmp_path / "new.npz")
    differing = {key for key in tree if not torch.equal(merged[key], tree[key])}
    assert merged.keys() == tree.keys() and differing == {"PaliGemma/img/head/bias"}
    report = json.loads((tmp_path / "new.merge.json").read_text())
    assert report["counts"] == {"base": len(tree) - 32, "tuned": 32, "changed": 1, "left_out": 0}
    assert set(report["arrays"]) == set(tree)
    assert "32 arrays tuned (1 differ" in capsys.readouterr().out


def test_a_folder_for_pytorch(base: Path, tuned: Path, tmp_path: Path) -> None:
    """Stored in bfloat16, with the tensors in single precision that openpi keeps so."""
    merge_files(base, tuned, tmp_path / "new", dtype="bfloat16")
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
    merge_files(base, tuned, tmp_path / "new.npz")
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
            merge_files(base, tuned, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.npz", "tuned.npz"]


def test_what_exists_is_not_overwritten(base: Path, tuned: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        MergeVlmConfig(base=str(base), tuned=tuned, out=tuned)
    with pytest.raises(UserError, match="exists already"):
        ExtractVlmConfig(base=str(base), out=tuned)
    with pytest.raises(UserError, match="does not fit --to openpi-orbax"):
        MergeVlmConfig(base=str(base), tuned=tuned, out=tuned.with_name("new.npz"), to="openpi-orbax")


def test_a_change_that_the_stored_type_cannot_show(base: Path) -> None:
    tree = read_tree(base)
    vlm = vlm_of(tree, what="base")
    hardly = {**vlm, "img/head/bias": vlm["img/head/bias"] * (1 + 1e-6)}
    assert merge(tree, hardly).changed == ("PaliGemma/img/head/bias",)
    with pytest.raises(UserError, match="nothing was tuned"):
        merge({key: x.bfloat16() for key, x in tree.items()}, hardly)


LAYOUTS = ("ours", "run", "torch", "params")


def laid_out(layout: str, where: Path, manifest: Manifest) -> tuple[Path, dict[str, str]]:
    """The policy of `base` in another layout, with statistics; and what has to be said of it."""
    model = policy()
    state = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    if layout in ("ours", "run"):
        folder = where / "final" if layout == "run" else where
        save(folder, replace(manifest, family="pi05", config=to_plain(model.config)), state)
        return where, {}
    where.mkdir()
    if layout == "torch":
        save_file(names.to_torch(state, model.config), where / "model.safetensors", metadata=names.TORCH_METADATA)
    else:
        pytest.importorskip("tensorstore", reason="needs the extra `orbax`")
        write_orbax(where / "params", names.to_tree(state, model.config))
    write_assets(where, manifest)
    return (where / "params" if layout == "params" else where), HEADS if layout == "torch" else {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_a_base(layout: str, base: Path, tuned: Path, manifest: Manifest, tmp_path: Path) -> None:
    """Taken apart and merged to the bit as from an .npz file; statistics come along."""
    folder, said = laid_out(layout, tmp_path / "base", manifest)
    for each, options, name in ((base, {}, "wanted"), (folder, said, "found")):
        extract_file(each, tmp_path / f"{name}.npz", options)
        merge_files(each, tuned, tmp_path / name, options)
    wanted, found = (read_npz(tmp_path / f"{name}.npz") for name in ("wanted", "found"))
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    wanted, found = (load_file(tmp_path / name / "model.safetensors") for name in ("wanted", "found"))
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    (told,) = (tmp_path / "found" / "assets").rglob("norm_stats.json")
    assert json.loads(told.read_text()) == norm_stats(manifest.statistics)


def test_for_openpis_own_trainer(base: Path, tuned: Path, manifest: Manifest, tmp_path: Path) -> None:
    folder, _ = laid_out("orbax", tmp_path / "base", manifest)
    merge_files(folder, tuned, tmp_path / "new", to="openpi-orbax")
    wanted, found = merge(read_tree(base), read_tree(tuned)).tree, read_tree(tmp_path / "new")
    assert found.keys() == wanted.keys() and all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["assets", "merge.json", "params"]


def test_what_a_base_needs_said(base: Path, tuned: Path, manifest: Manifest, tmp_path: Path) -> None:
    folder, said = laid_out("torch", tmp_path / "base", manifest)
    extract_vlm = ["extract-vlm", f"{folder}#heads=4,vision_heads=2", str(tmp_path / "vlm.npz")]
    assert main(extract_vlm) in (0, None) and (tmp_path / "vlm.npz").exists()
    out = tmp_path / "no.npz"
    for options, why in (({}, "how many heads"), ({**said, "chunk": "3"}, "chunk"), ({"heads": "x"}, "heads=x")):
        with pytest.raises(UserError, match=why):
            extract_file(folder, out, options)
    with pytest.raises(UserError, match="takes no heads"):
        extract_file(base, out, said)
    (folder / "params").mkdir()
    (folder / "params" / "_METADATA").write_text("{}")
    with pytest.raises(UserError, match="two sets of weights"):
        merge_files(folder, tuned, out, said)


def test_a_base_of_mixed_types_loses_nothing_in_pytorchs_layout(base: Path, tuned: Path, tmp_path: Path) -> None:
    """As a LoRA's frozen weights beside those that it was added into."""
    tree = read_npz(base)
    low = {key: x.bfloat16() if "embedder" in key else x for key, x in tree.items()}
    write_npz(base, low)
    merge_files(base, tuned, tmp_path / "new")
    tensors = load_file(tmp_path / "new" / "model.safetensors")
    state = names.from_torch(tensors, policy().config, what="new")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    name = "expert.layers.0.up.weight"
    assert torch.equal(state[name], policy().state_dict()[name])
