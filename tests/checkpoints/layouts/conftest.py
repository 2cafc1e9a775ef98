"""Small folders as upstream's code of OpenVLA and OpenVLA-OFT saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_openvla import SMALL, small

from handeye.data.statistics import measure
from handeye.models import openvla

VISION = {"embed_dim": SMALL["width"], "depth": SMALL["depth"], "num_heads": SMALL["heads"]}


def config(statistics: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "openvla",
        "use_fused_vision_backbone": True,
        "image_sizes": [224, 224],
        "timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
        "timm_model_kwargs": [VISION, {**VISION, "mlp_ratio": 4.0}],
        "arch_specifier": "no-align+fused-gelu-mlp",
        "n_action_bins": 256,
        "norm_stats": statistics,
        "text_config": {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
                        "num_attention_heads": 2, "vocab_size": 32064, "pad_token_id": 32000},
    }  # fmt: skip


@pytest.fixture(scope="session")
def statistics() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return measure([(random.uniform(-1, 1, (50, 7)), random.normal(size=(50, 8)))]).to_json()


@pytest.fixture
def write(tmp_path: Path, statistics: dict[str, Any]) -> Callable[..., Path]:
    """A folder as upstream saves it; a family's model of the sizes that `config` tells."""

    def write(name: str, module: Any = openvla, keys: tuple[str, ...] = ("libero_goal",), **settings: Any) -> Path:
        from handeye.checkpoints.layouts import openvla_config

        folder = tmp_path / name
        folder.mkdir()
        told = config({key: statistics for key in keys})
        (folder / "config.json").write_text(json.dumps(told))
        (folder / "tokenizer.json").write_text("{}")  # read when the first prompt comes
        towers, language = openvla_config.sizes(told, what=name)
        model = small(module, towers=towers, language=language, **settings)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        for part in ("action_head", "proprio_projector", "noisy_action_projector"):
            own = {n.removeprefix(f"{part}."): state.pop(n) for n in list(state) if n.startswith(f"{part}.")}
            head = "noise_predictor.mlp_resnet." if settings.get("head") == "diffusion" else "model."
            prefix = "module." + (head if part == "action_head" else "")
            if own:
                torch.save({prefix + n: t for n, t in own.items()}, folder / f"{part}--7000_checkpoint.pt")
        save_file(state, folder / "model.safetensors")
        return folder

    return write
