"""LeRobot may return random weights and say so in a printed line: they are compared with the file's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from handeye.errors import UserError
from handeye.serve.lerobot_weights import require_loaded


@pytest.fixture
def policy() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 4), nn.Linear(8, 8))


def written(folder: Path, model: nn.Module) -> str:
    """Under other names than the policy's own."""
    state = {f"model.inner.{name}": tensor.bfloat16() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    return str(folder)


def test_what_was_loaded(policy: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    require_loaded(policy, written(tmp_path, policy))
    assert not capsys.readouterr().err


def test_random_weights_are_refused(policy: nn.Module, tmp_path: Path) -> None:
    path = written(tmp_path, policy)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.normal_()
    with pytest.raises(UserError, match="returned other weights"):
        require_loaded(policy, path)


def test_a_part_is_said(policy: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, policy)
    nn.init.normal_(policy[2].weight)
    require_loaded(policy, path)
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of " in said and "model.inner.2.weight" in said


def test_what_cannot_be_compared_is_said(policy: nn.Module, capsys: pytest.CaptureFixture[str]) -> None:
    require_loaded(policy, "lerobot/pi05_libero")
    assert "was not checked" in capsys.readouterr().err
