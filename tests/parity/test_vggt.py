"""VGGT's aggregator and AtlasVLA's policy against their own numbers, part by part."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from handeye.checkpoints import published
from handeye.checkpoints.backbones import stacks
from handeye.checkpoints.layouts.vggt_vla import IDLE, MEAN, STD
from handeye.checkpoints.load import Checkpoint
from handeye.errors import UserError
from handeye.models.vggt import VGGT_1B, Aggregator, AggregatorConfig
from handeye.models.vggt_vla import QWEN2_05B, QWEN3_06B, Config, Model

pytestmark = pytest.mark.goldens
Count = Callable[[str, int], None]


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Count:
    return lambda what, number: record_property(f"{what} of VGGT and its policy", int(number))


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    return goldens / "data" / "vggt"


def close(ours: Tensor, theirs: Tensor | np.ndarray, atol: float) -> int:
    np.testing.assert_allclose(ours.detach().numpy(), np.asarray(theirs), rtol=0, atol=atol)
    return int(np.asarray(theirs).size)


def test_there_is_everything(folder: Path, count: Count) -> None:
    names = {path.name for path in folder.iterdir()}
    models = json.loads((folder / "vggt_tiny.json").read_text())["models"]
    assert len(models) >= 2 and {f"{name}.safetensors" for name in models} <= names
    assert len([name for name in names if name.startswith("atlas") and name.endswith(".pt")]) >= 2
    count("files", len(names))


@torch.no_grad()
def test_the_aggregator(folder: Path, count: Count) -> None:
    compared = 0
    for name, said in json.loads((folder / "vggt_tiny.json").read_text())["models"].items():
        embed = said["patch_embed"]
        dino = isinstance(embed, dict)
        config = AggregatorConfig(
            width=said["embed_dim"], depth=said["num_frame_blocks"], heads=said["num_heads"],
            registers=said["num_register_tokens"], patch_size=said["patch_size"], image_size=said["img_size"],
            embedding="dinov2" if dino else "conv", rope_base=float(said["rope_frequency"]),
            vision_depth=embed["depth"] if dino else 0, vision_heads=embed["num_heads"] if dino else 1,
        )  # fmt: skip
        model = Aggregator(config).eval()
        model.load_state_dict(load_file(folder / f"{name}.safetensors"))
        io = load_file(folder / f"{name}_io.safetensors")
        for size in said["inputs"]:
            images = io[f"{size}/images"]
            positions, flat = model.positions(*images.shape[-2:]), images.flatten(0, 1)
            assert torch.equal(positions.expand_as(io[f"{size}/positions_frame"]), io[f"{size}/positions_frame"])
            compared += close(model.patches(flat), io[f"{size}/patch_tokens"], 5e-5)
            outputs = model(images)
            for index, output in enumerate(outputs):
                theirs = torch.cat([io[f"{size}/{part}_{index}"] for part in ("frame", "global")], dim=-1)
                compared += close(output, theirs, 5e-5)
            assert len(outputs) == said["num_frame_blocks"] == said["num_global_blocks"]
    assert compared > 10_000
    count("aggregator values", compared)


def test_every_key_of_the_full_size(folder: Path, count: Count) -> None:
    """The aggregator whole; of the policy all but what no action depends on, which is declared."""
    said = json.loads((folder / "vggt_aggregator_keys.json").read_text())
    with torch.device("meta"):
        aggregator = Aggregator(VGGT_1B)
    assert _shapes(aggregator) == said["keys"]
    assert sum(p.numel() for p in aggregator.parameters()) == said["num_parameters"]
    compared = len(said["keys"])
    for language in (QWEN3_06B, QWEN2_05B):
        said = json.loads((folder / f"atlas_vla_keys_{language.kind}.json").read_text())
        blocks = AggregatorConfig(embedding="none")
        with torch.device("meta"):
            model = Model(Config(form="reference", aggregator=blocks, language=language))
        used = {n: s for n, s in said["keys"].items() if not n.startswith(IDLE) and n not in (MEAN, STD)}
        assert _shapes(model) == used
        (stack,) = (s for s in stacks(said["keys"]) if s.prefix.startswith("language_encoder."))
        assert stack.name.startswith(language.name)
        assert [s.name for s in stacks(said["keys"]) if "frame_blocks" in s.prefix] == ["VGGT-1B"]
        compared += len(said["keys"])
    count("names and shapes", compared)


def _shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [("atlas_tiny_head_qwen3", {"language": "qwen3"}),
     ("atlas_tiny_6c47f7f_qwen2", {"language": "qwen2", "language_heads": "7"})],
)  # fmt: skip
@torch.no_grad()
def test_the_policy(folder: Path, tokenizer: Path, count: Count, name: str, options: dict[str, str]) -> None:
    """Read from its own file, which nothing but its own configuration makes sense of."""
    with np.load(folder / f"{name}_expected.npz", allow_pickle=False) as file:
        expected = {key: file[key] for key in file.files}
    compared, ways = 0, sorted({key.split("/")[0] for key in expected if key.endswith("/images")})
    assert ways
    for way in ways:
        cameras = "agentview+wrist" if way == "two_view" else "agentview"
        given = {**options, "cameras": cameras, "tokenizer": str(tokenizer), "pad": "0", "pixels": "unit"}
        read = published.load(folder / f"{name}.pt", given)
        compared += _compare(read, way, expected)
    count("policy values", compared)


def _compare(read: Checkpoint, way: str, expected: dict[str, np.ndarray]) -> int:
    model: Any = read.model
    images = torch.from_numpy(expected[f"{way}/images"])
    images = images if images.ndim == 5 else images[:, None]
    batch = {f"image.{n}": images[:, i].permute(0, 2, 3, 1) for i, n in enumerate(model.config.cameras)}
    batch |= {
        "prompt": torch.from_numpy(expected["input_ids"]),
        "prompt_mask": torch.from_numpy(expected["attention_mask"]),
    }
    words, _ = model.language_encoder(batch)
    seen, positions = model.vision_encoder(model._views(batch))
    features = model.vggt_backbone.features(seen, words, positions)
    answered = model.sample_actions(batch)
    unclipped = read.manifest.pipeline.decode_steps[0]
    stages = {
        "language_tokens": words,
        "vision_tokens": seen,
        "vision_features": features[:, : seen.shape[1]],
        "language_features": features[:, seen.shape[1] :],
        "global_features": model.vggt_backbone(seen, words, positions),
        "actions_normalised": answered,
        "actions": torch.from_numpy(unclipped(answered.numpy(), None)),
        "predict_action": torch.from_numpy(unclipped(answered.numpy(), None))[:, 0],
    }
    there = {key: value for key, value in stages.items() if f"{way}/{key}" in expected}
    assert len(there) >= len(stages) - 1
    return sum(close(value, expected[f"{way}/{key}"], 1e-4) for key, value in there.items())


def test_a_file_that_names_another_model_is_refused(folder: Path, tokenizer: Path) -> None:
    """The reference's own fallback: it names Qwen3-0.6B, and holds a Qwen2."""
    with pytest.raises(UserError, match="does not hold the language model") as error:
        published.load(folder / "atlas_tiny_6c47f7f_qwen2.pt", {"tokenizer": str(tokenizer)})
    assert "Qwen/Qwen3-0.6B-Base" in str(error.value) and "a Qwen2 of no published size" in str(error.value)
    with pytest.raises(UserError, match="does not change that"):
        published.load(folder / "atlas_tiny_6c47f7f_qwen2.pt", {"tokenizer": str(tokenizer), "language": "qwen3"})


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """The reference data brings ids along; no prompt is tokenised here."""
    (tmp_path / "tokenizer.json").write_text("{}")
    return tmp_path / "tokenizer.json"
