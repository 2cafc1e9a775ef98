"""A library that hangs or crashes at an episode costs that episode, and it is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from damage import hanging

from handeye.data.config import ConvertConfig
from handeye.data.convert import run as convert
from handeye.data.source import open_source
from handeye.data.verify import run as verify
from handeye.errors import UserError

PATIENCE = 8.0
"""Seconds: a worker imports and opens the set within them."""


@pytest.mark.parametrize(
    ("make", "why"), [(hanging.verifying, "no sign from the worker"), (hanging.crashing, "killed by SIGSEGV")]
)
def test_verify_names_the_episode_and_goes_on(task_file: Path, monkeypatch, make, why: str) -> None:
    source = open_source(task_file)
    monkeypatch.setattr(verify, "HANG_AFTER", PATIENCE)
    monkeypatch.setattr(verify, "_make", make)
    found = verify.verify(source, workers=2)
    assert "1 of 3 episodes cannot be read" in found[0].found
    assert source.episodes[hanging.AT].id in found[1].found and why in found[1].found
    assert any("14 steps" in finding.found for finding in found), "the other two, of 5 and 9 steps"


def test_convert_names_the_episode_and_keeps_the_others(task_file: Path, tmp_path: Path, monkeypatch) -> None:
    config = ConvertConfig(root=task_file, target=tmp_path / "out", to="rlds", workers=2)
    with monkeypatch.context() as patched:
        patched.setattr(convert, "HANG_AFTER", PATIENCE)
        patched.setattr(convert, "_make", hanging.converting)
        with pytest.raises(UserError, match="no sign from the worker") as refused:
            convert.run(config)
    assert open_source(task_file).episodes[hanging.AT].id in refused.value.what
    assert not config.target.exists()
    convert.run(config)
    assert len(open_source(config.target).episodes) == 3
