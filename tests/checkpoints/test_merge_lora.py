"""An adapter goes into its base once, and into no other; what that changes is measured and written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openvla_goldens import published as whole_golden
from safetensors.torch import load_file, save_file
from torch import Tensor

from handeye.checkpoints import published
from handeye.checkpoints.adapters import read_adapter
from handeye.checkpoints.fixed import fixed_batch
from handeye.checkpoints.load import load
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.merge_lora import beside, find, outputs, run
from handeye.checkpoints.merge_lora_config import MergeLoraConfig
from handeye.checkpoints.save import save
from handeye.data.statistics import measure
from handeye.errors import UserError
from handeye.models.tiny import Model
from handeye.records import read_json, sha256_json

MODULES = ("join", "layers.0.widen", "trunks.agentview.convolutions.1")


def merge(adapter: Path, base: Path, out: Path, *, onto_merged: bool = False, **options: str) -> Path:
    run(MergeLoraConfig(adapter=adapter, base=str(base), out=out, onto_merged=onto_merged), base, options)
    return out


@pytest.fixture
def adapter(tmp_path: Path, model: Model) -> Path:
    return write_adapter(tmp_path / "adapter", dict(model.state_dict()))


def write_adapter(folder: Path, weights: dict[str, Tensor], *, up: float = 0.1, seed: int = 5, **told: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    told = {"peft_type": "LORA", "r": 2, "lora_alpha": 1, "bias": "none", **told}
    (folder / "adapter_config.json").write_text(json.dumps(told))
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for name in MODULES:
        out, *inner = weights[f"{name}.weight"].shape
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.randn((2, *inner), generator=random)
        ones = [1] * (len(inner) - 1)
        tensors[f"base_model.model.{name}.lora_B.weight"] = up * torch.randn((out, 2, *ones), generator=random)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def recorded(folder: Path) -> dict[str, Any]:
    (told,) = read_json(folder / "manifest.json", what="a manifest")["provenance"]["merges"]
    return dict(told)


def test_merged_is_as_beside(tmp_path: Path, checkpoint: Path, adapter: Path, capsys: Any) -> None:
    """The weights are W + scale B A, convolutions too; the answers are those of the adapter beside its base, and how
    far they are from it is what the manifest says."""
    out = merge(adapter, checkpoint, tmp_path / "out")
    base, merged = load(checkpoint), load(out)
    assert merged.manifest.merged and not base.manifest.merged
    parts = load_file(adapter / "adapter_model.safetensors")
    for name, tensor in merged.model.state_dict().items():
        before, module = base.model.state_dict()[name], name.removesuffix(".weight")
        if module not in MODULES:
            assert torch.equal(tensor, before)
            continue
        up, down = (parts[f"base_model.model.{module}.lora_{side}.weight"].flatten(1) for side in "BA")
        torch.testing.assert_close(tensor, before + 0.5 * (up @ down).view(before.shape), atol=1e-6, rtol=1e-5)
    batch = fixed_batch(base.manifest)
    with beside(base.model, read_adapter(adapter)):
        apart = outputs(base.model, batch).answers
    after = outputs(merged.model, batch).answers
    told = recorded(out)
    assert told["largest_difference"]["answers"] == pytest.approx(float((apart - after).abs().max()))
    assert told["largest_difference"]["answers"] < 1e-4 < told["effect"]["answers"]
    assert told["base"]["manifest"] == sha256_json(base.manifest.to_json())
    assert told["adapter"]["modules"] == len(MODULES)
    assert not torch.equal(outputs(base.model, batch).answers, after), "the hooks are gone"
    assert f"{len(MODULES)} of" in capsys.readouterr().out


def test_each_module_by_its_own_scale(tmp_path: Path, checkpoint: Path, model: Model) -> None:
    """As peft names them: whole names behind `^`, last parts without; the first that fits counts."""
    alphas = {"^widen": 64, "^join": 4, r"0\.widen": 8, "layers.0.widen": 64}
    adapter = write_adapter(tmp_path / "adapter", dict(model.state_dict()), alpha_pattern=alphas)
    assert read_adapter(adapter).scale == dict(zip(MODULES, (2.0, 4.0, 0.5), strict=True))
    merged = load(merge(adapter, checkpoint, tmp_path / "out")).model.state_dict()
    parts = load_file(adapter / "adapter_model.safetensors")
    for module, scale in read_adapter(adapter).scale.items():
        before = model.state_dict()[f"{module}.weight"]
        up, down = (parts[f"base_model.model.{module}.lora_{side}.weight"].flatten(1) for side in "BA")
        torch.testing.assert_close(merged[f"{module}.weight"], before + scale * (up @ down).view(before.shape))
    told = recorded(tmp_path / "out")
    assert told["adapter"]["scales"] == [0.5, 2.0, 4.0]
    assert told["largest_difference"]["answers"] < 1e-3 < told["effect"]["answers"]  # beside its base it is the same


def test_a_second_merge_is_refused(tmp_path: Path, checkpoint: Path, adapter: Path, model: Model) -> None:
    once = merge(adapter, checkpoint, tmp_path / "once")
    for onto in (False, True):
        with pytest.raises(UserError, match=r"is in .*once already(.|\n)*count it twice"):
            merge(adapter, once, tmp_path / "twice", onto_merged=onto)
    other = write_adapter(tmp_path / "other", dict(model.state_dict()), seed=6)
    with pytest.raises(UserError, match=r"has an adapter merged into it(.|\n)*--onto-merged"):
        merge(other, once, tmp_path / "twice")
    twice = merge(other, once, tmp_path / "twice", onto_merged=True)
    assert len(read_json(twice / "manifest.json", what="a manifest")["provenance"]["merges"]) == 2
    for each in (adapter, other):
        with pytest.raises(UserError, match="already"):
            merge(each, twice, tmp_path / "thrice", onto_merged=True)
    assert not (tmp_path / "thrice").exists()


def test_a_foreign_base_is_refused(tmp_path: Path, checkpoint: Path, model: Model, manifest: Manifest) -> None:
    """By what the run recorded, by a copy of the base's weights in the adapter, by names, by shapes."""
    weights = dict(model.state_dict())
    trained = write_adapter(tmp_path / "run" / "adapter", weights)
    base = {"manifest": sha256_json(load(checkpoint).manifest.to_json())}
    save(tmp_path / "run" / "final", replace(manifest, provenance={"base": base}), weights)
    assert find(trained) == (trained, tmp_path / "run") == find(tmp_path / "run")
    good = merge(tmp_path / "run", checkpoint, tmp_path / "good")
    assert "merges" in load(good).manifest.provenance and load(good).manifest.provenance["base"] == base
    save(tmp_path / "stranger", replace(manifest, step=8), weights)
    with pytest.raises(UserError, match=r"was not trained on .*stranger(.|\n)*recorded another base"):
        merge(tmp_path / "run", tmp_path / "stranger", tmp_path / "out")
    shutil.rmtree(tmp_path / "run" / "final")
    save(tmp_path / "run" / "final", replace(manifest, family="openvla"), weights)
    with pytest.raises(UserError, match=r"trained more than its adapter(.|\n)*a openvla out of tiny"):
        merge(tmp_path / "run", checkpoint, tmp_path / "out")
    shutil.rmtree(tmp_path / "run" / "final")
    save(tmp_path / "run" / "final", manifest, {**weights, "norm.bias": weights["norm.bias"] + 1})
    with pytest.raises(UserError, match=r"trained more than its adapter(.|\n)*norm.bias is another there"):
        merge(tmp_path / "run", checkpoint, tmp_path / "out")

    copied = write_adapter(tmp_path / "copied", weights)
    parts = load_file(copied / "adapter_model.safetensors")
    for change, fits in ((0.0, True), (1.0, False)):
        copy = {"base_model.model.join.base_layer.weight": (weights["join.weight"] + change).bfloat16()}
        save_file({**parts, **copy}, copied / "adapter_model.safetensors")
        if fits:
            merge(copied, checkpoint, tmp_path / "fits")
        else:
            with pytest.raises(UserError, match=r"copy of its base's join.base_layer.weight, which is another"):
                merge(copied, checkpoint, tmp_path / "out")
    for renamed, said in (("strange", r"they have no strange"), ("norm", r"does not fit these weights")):
        save_file({name.replace("join", renamed): t for name, t in parts.items()}, copied / "adapter_model.safetensors")
        with pytest.raises(UserError, match=said):
            merge(copied, checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_run_knows_comes_along(
    tmp_path: Path, checkpoint: Path, model: Model, manifest: Manifest, capsys: Any
) -> None:
    """Its statistics and what it was trained on; of a bare adapter neither is known, and the base's data is not its."""
    random = np.random.default_rng(1)
    own = measure([(random.uniform(-2, 2, (50, 7)), random.normal(size=(50, 8)))])
    write_adapter(tmp_path / "run" / "adapter", dict(model.state_dict()))
    told = {"training": {"held_out": 0.1, "seed": 0}, "data": {"digest": "the run's"}}
    trained = replace(manifest, statistics=own, step=70, provenance=told)
    save(tmp_path / "run" / "final", trained, dict(model.state_dict()))
    found = load(merge(tmp_path / "run", checkpoint, tmp_path / "out")).manifest
    assert (found.statistics, found.step, found.provenance["data"]) == (own, 70, told["data"])
    assert "warning" not in capsys.readouterr().err

    base = replace(manifest, provenance={"training": {}, "data": {"digest": "the base's"}, "made": "by a test"})
    save(tmp_path / "base", base, dict(model.state_dict()))
    bare = write_adapter(tmp_path / "bare", dict(model.state_dict()))
    found = load(merge(bare, tmp_path / "base", tmp_path / "other")).manifest
    assert set(found.provenance) == {"made", "merges"} and found.statistics == manifest.statistics
    assert "statistics and pipeline are the base's" in capsys.readouterr().err


def test_what_is_no_adapter_or_does_nothing(tmp_path: Path, checkpoint: Path, model: Model) -> None:
    with pytest.raises(UserError, match="holds no adapter"):
        merge(checkpoint, checkpoint, tmp_path / "out")
    fresh = write_adapter(tmp_path / "fresh", dict(model.state_dict()), up=0.0)
    with pytest.raises(UserError, match="changes nothing"):
        merge(fresh, checkpoint, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        MergeLoraConfig(adapter=fresh, base=str(checkpoint), out=tmp_path / "out")


@pytest.mark.goldens
def test_the_references_run(goldens: Path, tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Its adapter, heads and statistics on its base: as `#base=` reads them, where the reference merges in bfloat16.
    The base that it is, it carries a copy of; another is refused."""
    base = goldens / "openvla" / "openvla_tiny"
    folder = whole_golden(goldens / "openvla", "oft_tiny", tmp_path)
    for path in folder.glob("model*"):
        path.unlink()
    out = merge(folder, base, tmp_path / "out", statistics="toy_arm")
    found, wanted = load(out), published.load(folder, {"base": str(base), "statistics": "toy_arm"})
    assert found.model.config == wanted.model.config
    theirs = wanted.model.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in found.model.state_dict().items())
    told = recorded(out)
    assert told["adapter"]["scales"] == [0.5]
    assert told["largest_difference"]["states"] < 1e-5 < told["effect"]["states"]
    record_property("modules of the reference's adapter merged", told["adapter"]["modules"])

    another = tmp_path / "another"
    shutil.copytree(base, another, copy_function=shutil.copyfile)
    another.chmod(0o755)
    weights = load_file(another / "model.safetensors")
    weights["language_model.lm_head.weight"][5, 5] += 1
    save_file(weights, another / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"was not trained on .*another(.|\n)*lm_head"):
        merge(folder, another, tmp_path / "out2", statistics="toy_arm")
    with pytest.raises(UserError, match="not one of its checkpoints"):
        merge(folder, out, tmp_path / "out2")
