"""AtlasVLA's files, whole and foreign, written as its trainer writes them. Its own are read in tests/parity."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_vggt import QWEN2, QWEN3, REFERENCE, batch, save_as_atlas, small

from handeye.checkpoints import published
from handeye.checkpoints.layouts import vggt_vla as layout
from handeye.cli import main
from handeye.data.pipeline.vggt import NO_INSTRUCTION
from handeye.errors import UserError
from handeye.serve.local import load_policy

IS_QWEN3 = {"language": "qwen3"}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str = "best_model_epoch3.pt", settings: dict[str, Any] = REFERENCE, **changes: Any) -> Path:
        (tmp_path / "tokenizer.json").write_text("{}")
        return save_as_atlas(tmp_path / name, small(settings), **changes)

    return write


Write = Callable[..., Path]


def test_read_whole(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(norm_stats={"action_mean": torch.linspace(-0.1, 0.1, 7).tolist()})
    assert layout.recognises(path) and layout.recognises(path.parent)
    read = published.load(path, IS_QWEN3)
    assert read.manifest.family == "vggt_vla" and read.manifest.step == 7
    assert read.manifest.specs.image.cameras == ("agentview", "wrist")
    said = capsys.readouterr().out
    assert "a Qwen3 of no published size" in said and "2 tensors that no action depends on" in said
    ours = small(REFERENCE)
    asked = batch(ours)
    torch.testing.assert_close(read.model.sample_actions(asked), ours.sample_actions(asked), atol=1e-5, rtol=1e-5)
    assert read.manifest.config["language"]["name"].startswith("a Qwen3")
    acted = read.manifest.pipeline.decode(np.zeros((4, 7), np.float32))
    np.testing.assert_allclose(acted[0], np.linspace(-0.1, 0.1, 7), atol=1e-6)


def test_older_ones_saw_one_camera_and_normalised_pixels(write: Write) -> None:
    read = published.load(write(), IS_QWEN3)
    assert read.manifest.specs.image.cameras == ("agentview",)
    means = {"unit": 0.0, "imagenet": 0.485}
    for pixels, mean in means.items():
        (step,) = published.load(write(), {**IS_QWEN3, "pixels": pixels}).manifest.pipeline.finish_steps
        assert step.means[0][0] == mean


def test_the_sentence_that_it_was_trained_with(write: Write) -> None:
    steps = published.load(write(), {**IS_QWEN3, "sentence": "constant"}).manifest.pipeline.encode_steps
    assert any(getattr(step, "text", "") == NO_INSTRUCTION for step in steps)
    assert not any(hasattr(step, "text") for step in published.load(write(), IS_QWEN3).manifest.pipeline.encode_steps)


@pytest.mark.parametrize(("held", "named"), [(QWEN2, "Qwen/Qwen3-0.6B-Base"), (QWEN3, "Qwen/Qwen2-0.5B")])
def test_another_language_model_than_it_names(write: Write, held: Any, named: str) -> None:
    path = write(settings={**REFERENCE, "language": held}, named=named)
    with pytest.raises(UserError, match="does not hold the language model that it names") as error:
        published.load(path)
    assert named in str(error.value) and f"a Qwen{held.kind[-1]} of no published size" in str(error.value)
    heads = {"language_heads": "2"} if held is QWEN2 else {}
    assert published.load(path, {"language": held.kind, **heads}).manifest.config["language"]["kind"] == held.kind


def test_how_many_heads_is_not_guessed(write: Write) -> None:
    path = write(settings={**REFERENCE, "language": QWEN2})
    for heads in ({}, {"language_heads": "5"}):
        with pytest.raises(UserError, match="How many heads"):
            published.load(path, {"language": "qwen2", **heads})


def test_an_adapter_is_merged(write: Write) -> None:
    stem = "vggt_backbone.vggt.aggregator.frame_blocks.0.attn.qkv"
    down, up = torch.randn(3, 16), torch.randn(48, 3)
    whole = small(REFERENCE)
    weight = whole.state_dict()[f"{stem}.weight"].clone()
    path = write()
    saved = _plain(path)
    state = saved["model_state_dict"]
    state[f"{stem}.base.weight"], state[f"{stem}.base.bias"] = state.pop(f"{stem}.weight"), state.pop(f"{stem}.bias")
    state |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    lora = {"use_vggt_lora": True, "vggt_lora_alpha": 6, "vggt_lora_rank": 3}
    path = _rewrite(path, state, vggt=lora)
    read = published.load(path, IS_QWEN3)
    torch.testing.assert_close(read.model.state_dict()[f"{stem}.weight"], weight + up @ down * 2)
    with pytest.raises(UserError, match="its configuration none"):
        published.load(_rewrite(path, state, vggt={"use_vggt_lora": False}), IS_QWEN3)


def _plain(path: Path) -> dict[str, Any]:
    from handeye.checkpoints.files import read_pt

    return read_pt(path, records=layout.RECORDS)


def _rewrite(path: Path, state: dict[str, torch.Tensor], **changes: Any) -> Path:
    """The same file with exactly these tensors."""
    from small_vggt import foreign_module

    with foreign_module() as classes:
        config, saved = classes["ModelConfig"](), _plain(path)
        for name, part in vars(saved["config"]).items():
            kind = {"vggt": "VGGT", "action_head": "ActionHead"}.get(name, name.title())
            made = classes[f"{kind}Config"]()
            vars(made).update({**vars(part), **changes.get(name, {})})
            setattr(config, name, made)
        torch.save({**saved, "model_state_dict": state, "config": config}, path)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"vision": {"use_vision_tower": True}}, "vision tower"),
     ({"vggt": {"use_pretrained_vggt": False}}, "SimpleVGGTBackbone"),
     ({"action_head": {"use_spatial_features": True}}, "spatial"),
     ({"language": {"use_lora": True}}, "adapter"),
     ({"state": {"action_head.action_std": torch.zeros(7)}}, "deviations"),
     ({"state": {"vggt_backbone.extra": torch.zeros(7)}}, "1 unexpected"),
     ({"norm_stats": {"action_mean": [9.0] * 7}}, "different statistics")],
)  # fmt: skip
def test_what_is_not_read(write: Write, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        published.load(write(**changes), IS_QWEN3)


def test_a_tensor_of_another_shape_or_gone(write: Write) -> None:
    path = write()
    state = _plain(path)["model_state_dict"]
    gone = {n: t for n, t in state.items() if n != "vggt_backbone.cross_attn.out_proj.bias"}
    with pytest.raises(UserError, match="1 tensors missing"):
        published.load(_rewrite(path, gone), IS_QWEN3)
    wide = {**state, "vggt_backbone.cross_attn.out_proj.bias": torch.zeros(3)}
    with pytest.raises(UserError, match="1 of another shape"):
        published.load(_rewrite(path, wide), IS_QWEN3)


def test_code_in_it_is_named_and_never_run(write: Write) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return os.putenv, ("ATLAS_WAS_RUN", "1")

    path = write(dataset_name=Bad())
    with pytest.raises(UserError, match=r"posix\.putenv"):
        published.load(path, IS_QWEN3)
    assert "ATLAS_WAS_RUN" not in os.environ


def test_its_tokenizer_is_not_fetched(write: Write) -> None:
    path = write()
    (path.parent / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        published.load(path, IS_QWEN3)


def test_options_are_checked(write: Write) -> None:
    for options in ({"cameras": "front"}, {"colour": "red"}, {"pad": "many"}):
        with pytest.raises(UserError):
            published.load(write(), options)


def test_two_files_are_two_policies(write: Write) -> None:
    write("other.pt")
    with pytest.raises(UserError, match="holds 2 checkpoints"):
        published.load(write().parent, IS_QWEN3)


def test_others_files_are_not_its(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps([1]))
    assert not layout.recognises(tmp_path) and not layout.recognises(tmp_path / "b.pt")


def test_it_acts(write: Write, tmp_path: Path) -> None:
    """From its address to an action in the robot's units."""
    path = write()
    words = {f"w{i}": i for i in range(1, 40)} | {"put": 40, "the": 41, "cube": 42, "<unk>": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps({
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    }))  # fmt: skip
    policy = load_policy(f"{path}#language=qwen3,pad=0")
    from handeye.types import Observation

    image = np.zeros((256, 256, 3), np.uint8)
    seen = Observation(images={"agentview": image}, proprio=np.zeros(8, np.float32), prompt="put the cube")
    (chunk,) = policy.act([seen])
    assert chunk.actions.shape == (4, 7) and np.abs(chunk.actions).max() <= 1


def test_converted_it_is_the_same_policy(write: Write, tmp_path: Path) -> None:
    path = write()
    main(["convert", f"{path}#language=qwen3", str(tmp_path / "ours")])
    ours, theirs = published.load(tmp_path / "ours"), published.load(path, IS_QWEN3)
    asked = batch(small(REFERENCE))
    torch.testing.assert_close(ours.model.sample_actions(asked), theirs.model.sample_actions(asked))
    assert ours.manifest.pipeline == theirs.manifest.pipeline
    main(["inspect", str(tmp_path / "ours")])
