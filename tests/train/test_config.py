"""Settings that make no sense are refused before anything is read, in words that name the flag."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.train.config import OptimizerConfig
from handeye.train.families.config import ImageConfig, TinyConfig


def make(**changes: Any) -> TinyConfig:
    return TinyConfig(data=Path("d"), out=Path("o"), **changes)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"batch": -1}, "--batch -1"),
        ({"held_out": 0.0}, "--held-out 0.0"),
        ({"held_out": 1.0}, "--held-out 1.0"),
        ({"threads": 0}, "--threads 0"),
        ({"optimizer": OptimizerConfig(learning_rate=0.0)}, "--learning-rate 0.0"),
        ({"optimizer": OptimizerConfig(ema=1.0)}, "--ema 1.0"),
        ({"images": ImageConfig(image_size=8)}, "--image-size 8"),
        ({"save_every": 30, "log_every": 20}, "use --save-every 40"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], flag: str) -> None:
    with pytest.raises(UserError) as error:
        make(**changes)
    assert flag in str(error.value)


def test_the_module_is_light() -> None:
    code = "import sys, handeye.train.config, handeye.train.choice as c; c.choice(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "handeye.train.presets" in loaded
    assert not {"torch", "mujoco", "h5py", "safetensors"} & set(loaded)
