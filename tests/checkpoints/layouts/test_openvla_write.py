"""Written as the reference saves it: the same files as the reference's own, and the same bits there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openvla_goldens import published as whole_golden
from safetensors.torch import load_file

from handeye.checkpoints import published
from handeye.checkpoints.convert import convert
from handeye.checkpoints.convert_config import ConvertConfig
from handeye.checkpoints.layouts import openvla_write as module
from handeye.checkpoints.load import Checkpoint
from handeye.checkpoints.save import save
from handeye.conventions import libero
from handeye.data.statistics import measure
from handeye.errors import UserError
from handeye.models import openvla, openvla_oft
from handeye.models.vit import DINO

FORMS: dict[str, tuple[Any, dict[str, Any], dict[str, str]]] = {
    "openvla": (openvla, {}, {}),
    "l1": (openvla_oft, {}, {}),
    "diffusion": (openvla_oft, {"head": "diffusion", "denoising_steps": 10}, {"denoising_steps": "10"}),
    "tokens": (openvla_oft, {"head": "tokens", "proprio_width": None}, {"family": "openvla_oft"}),
    "one camera": (openvla_oft, {"cameras": ("wrist",), "proprio_width": None}, {"cameras": "wrist", "proprio": "no"}),
    "film": (openvla_oft, {"film": True}, {}),
}


def to(out: Path, layout: str, checkpoint: Path, options: dict[str, str] | None = None, **more: str) -> Path:
    config = ConvertConfig(checkpoint=str(checkpoint), out=out, to=layout, **more)  # type: ignore[arg-type]
    convert(config, checkpoint, options or {})
    return out


def same(one: Checkpoint, other: Checkpoint) -> None:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert one.model.config == other.model.config
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]), name
    for part in ("family", "specs", "pipeline", "statistics", "step"):
        assert getattr(one.manifest, part) == getattr(other.manifest, part), part


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_there_and_back(form: str, dtype: str, tmp_path: Path, write: Callable[..., Path], monkeypatch: Any) -> None:
    """Ours -> theirs -> ours, to the bit, in shards too; and theirs holds what the reference looks for."""
    family, settings, options = FORMS[form]
    monkeypatch.setattr(module, "SHARD", 1.5e6)
    if form == "film":  # `write` makes the other components
        checkpoint = filmed(write("published", family, dtype=dtype), settings, dtype, tmp_path)
        first = tmp_path / "ours"
        save(first, checkpoint.manifest, checkpoint.model.state_dict())
    else:
        first = to(tmp_path / "ours", "handeye", write("published", family, dtype=dtype, **settings), options)
    theirs = to(tmp_path / "theirs", "openvla", first)
    again = to(tmp_path / "again", "handeye", theirs, options)
    same(published.load(first), published.load(again))
    assert len(list(theirs.glob("model-*-of-*.safetensors"))) > 1
    names = {path.name.partition("--")[0] for path in theirs.glob("*checkpoint.pt")}
    wanted = {"action_head"} if settings.get("head") != "tokens" and family is openvla_oft else set()
    wanted |= {"proprio_projector"} if family is openvla_oft and "proprio_width" not in settings else set()
    wanted |= {"noisy_action_projector"} if form == "diffusion" else set()
    wanted |= {"vision_backbone"} if form == "film" else set()
    assert names == wanted
    assert (again / "manifest.json").read_text() != "" and not list(tmp_path.glob(".*.part"))


def filmed(folder: Path, settings: dict[str, Any], dtype: str, tmp_path: Path) -> Checkpoint:
    """The published folder's model, steered by the sentence."""
    found = published.load(folder)
    config = replace(found.model.config, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = openvla_oft.Model(config)
    state = {name: torch.randn(t.shape).to(t.dtype) for name, t in model.state_dict().items()}
    model.load_state_dict(state | dict(found.model.state_dict()))
    return Checkpoint(manifest=replace(found.manifest, config={**found.manifest.config, "film": True}), model=model)


@pytest.mark.goldens
@pytest.mark.parametrize("name", ["openvla_tiny", "oft_tiny", "oft_tiny_diffusion", "oft_tiny_film"])
def test_the_references_own_files(name: str, goldens: Path, tmp_path: Path, record_property: Any) -> None:
    """Each file of the reference's folder is made again: weights and components to the bit, with the same names and
    shapes; settings field by field. What is not made: its code, its adapter, and SentencePiece's form of the words."""
    folder = goldens / "openvla" / name
    if name != "openvla_tiny":
        folder = whole_golden(goldens / "openvla", name, tmp_path)
    options = {"statistics": "libero_spatial_no_noops"}
    ours = to(tmp_path / "ours", "openvla", folder, options)
    compared = 0
    for path in sorted(folder.iterdir()):
        if path.name in ("lora_adapter", "tokenizer.model") or path.name.startswith("model"):
            continue
        made = ours / path.name
        if path.suffix == ".pt":
            compared += components(torch.load(made), torch.load(path), merged=name == "oft_tiny_film")
        elif path.name == "config.json":
            one, other = (json.loads(each.read_text()) for each in (made, path))
            other.pop("_name_or_path", None)  # where it was read from
            other["text_config"]["torch_dtype"] = other["torch_dtype"]  # these were made in float32 and cast
            other["norm_stats"] = {key: other["norm_stats"][key] for key in one["norm_stats"]}
            assert one == other
        elif path.name == "dataset_statistics.json":
            one, other = (json.loads(each.read_text()) for each in (made, path))
            assert one == {"libero_spatial_no_noops": other["libero_spatial_no_noops"]}
        elif path.name == "tokenizer.json":
            assert made.read_bytes() == path.read_bytes()
        else:
            assert json.loads(made.read_text()) == json.loads(path.read_text()), path.name
    one, other = weights(ours), weights(folder)
    assert one.keys() == other.keys()
    tower = name == "oft_tiny_film"  # FiLM's tower takes the place of the model's
    for key, tensor in other.items():
        assert one[key].dtype == tensor.dtype and one[key].shape == tensor.shape
        assert torch.equal(one[key], tensor) or (tower and key.startswith("vision_backbone.")), key
    record_property(f"{name}: tensors written as the reference wrote them", compared + len(one))


def components(made: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], *, merged: bool) -> int:
    """The same keys and shapes; values as the reference acts with them: in the model's type, adapters of FiLM's tower
    merged (they are zero in what is written)."""
    assert made.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert made[key].shape == tensor.shape, key
        if ".lora_" in key:
            assert not made[key].any()
        elif not (merged and ".base_layer.weight" in key):
            assert torch.equal(made[key], tensor.to(made[key].dtype)), key
    return len(made)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {key: t for path in folder.glob("model*.safetensors") for key, t in load_file(path).items()}


def test_statistics_of_our_own_are_turned(tmp_path: Path, write: Callable[..., Path]) -> None:
    """Measured here the gripper closes at +1; the reference's opens at 1 and is masked."""
    random = np.random.default_rng(0)
    actions = random.uniform(-0.5, 0.5, (200, 7))
    actions[:, 6] = np.where(np.arange(200) < 150, -1.0, 1.0)  # mostly open
    mine = measure([(actions, random.normal(size=(200, 8)))])
    turned = module.published_statistics(mine, libero.ACTION).action
    theirs = measure([(np.column_stack([actions[:, :6], 1 - np.clip(actions[:, 6], 0, 1)]), np.zeros((200, 8)))]).action
    for row in ("mean", "std", "min", "max", "q01", "q99"):
        np.testing.assert_allclose(getattr(turned, row), getattr(theirs, row), atol=1e-12)
    assert turned.mask == (True,) * 6 + (False,)
    assert module.published_statistics(replace(mine, action=turned), libero.ACTION).action == turned

    found = published.load(write("published"))
    own = replace(found.manifest, statistics=mine, provenance={})
    save(tmp_path / "own", own, found.model.state_dict())
    with pytest.raises(UserError, match=r"no name(.|\n)*--statistics libero_spatial_no_noops"):
        to(tmp_path / "theirs", "openvla", tmp_path / "own")
    out = to(tmp_path / "theirs", "openvla", tmp_path / "own", statistics="libero_goal_no_noops")
    assert published.load(out).manifest.statistics.action == turned


def saved(folder: Path, found: Checkpoint, **tower: int) -> Path:
    """The same model with other towers."""
    config = replace(found.model.config, towers=tuple(replace(t, **tower) for t in found.model.config.towers))  # type: ignore[arg-type]
    model = openvla.Model(config)
    model.initialise(torch.Generator().manual_seed(0))
    save(folder, replace(found.manifest, config=to_config(config)), model.state_dict())
    return folder


def test_reduced_models_have_larger_patches(tmp_path: Path, write: Callable[..., Path]) -> None:
    own = saved(tmp_path / "own", published.load(write("published")), patch_size=28)
    same(published.load(to(tmp_path / "theirs", "openvla", own)), published.load(own))


def test_what_has_no_place_there(tmp_path: Path, write: Callable[..., Path]) -> None:
    other = saved(tmp_path / "other", published.load(write("published")), image_size=112)
    with pytest.raises(UserError, match=r"does not fit OpenVLA's layout(.|\n)*pos_embed"):
        to(tmp_path / "theirs", "openvla", other)
    assert not (tmp_path / "theirs").exists()
    with pytest.raises(UserError, match=r"files statistics under no name"):
        ConvertConfig(checkpoint="x", out=tmp_path / "y", to="handeye", statistics="z")


def to_config(config: Any) -> dict[str, Any]:
    from handeye.conventions.plain import to_plain

    return dict(to_plain(config))


def test_another_pipeline_is_said_aloud(tmp_path: Path, write: Callable[..., Path], capsys: Any) -> None:
    """Trained on raw pixels: the reference would compress what it acts on."""
    found = published.load(write("published"))
    raw = replace(found.manifest.pipeline, live_steps=())
    save(tmp_path / "raw", replace(found.manifest, pipeline=raw), found.model.state_dict())
    to(tmp_path / "theirs", "openvla", tmp_path / "raw")
    assert "will not treat live" in capsys.readouterr().err


def test_the_published_towers_need_no_word() -> None:
    assert module._tower("vit_large_patch14_reg4_dinov2.lvd142m", DINO) == {}
    config = module._config(openvla.Config(), {})
    assert "timm_model_kwargs" not in config
    assert config["text_config"] == {
        "model_type": "llama", "vocab_size": 32064, "pad_token_id": 32000, "torch_dtype": "bfloat16"
    }  # fmt: skip
