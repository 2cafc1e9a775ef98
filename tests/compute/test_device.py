"""A device that is not there is said before anything is read for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from handeye.compute.device import device_of
from handeye.errors import UserError
from handeye.train.families.config import OftConfig
from handeye.train.run import run


def test_what_is_there() -> None:
    assert device_of("cpu") == "cpu"
    assert device_of("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:31", "gpu"])
def test_what_is_not(name: str) -> None:
    with pytest.raises(UserError, match=f"no device {name}"):
        device_of(name)


def test_training_asks_first(tmp_path: Path) -> None:
    """Neither the data nor the checkpoint exist."""
    absent = tmp_path / "absent"
    with pytest.raises(UserError, match="no device gpu"):
        run(OftConfig(data=absent, out=tmp_path / "run", start_from=absent, device="gpu"))
    assert not (tmp_path / "run").exists()
