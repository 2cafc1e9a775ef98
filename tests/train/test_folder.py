"""A run's folder: whose it is, and who is at it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.train import folder
from handeye.train.families.config import ImageConfig, TinyConfig
from handeye.train.state import WITHOUT_CONSEQUENCE


@pytest.fixture
def config(tmp_path: Path) -> TinyConfig:
    return TinyConfig(data=tmp_path / "data", out=tmp_path / "run", images=ImageConfig(image_size=16), batch=4)


def claimed(config: TinyConfig) -> AbstractContextManager[None]:
    return folder.claim(config.out, config, ignored=WITHOUT_CONSEQUENCE)


def test_the_folder_belongs_to_one_configuration(config: TinyConfig) -> None:
    with claimed(config):
        pass
    with claimed(replace(config, seed=5)):  # nothing was begun yet
        folder.sign(config.out, config, {})
    with claimed(replace(config, keep=5, memory_gb=1.0)):
        pass
    other = replace(config, steps=7, images=replace(config.images, shift=9))
    with pytest.raises(UserError) as error, claimed(other):
        pass
    assert "steps: 4000 there, 7 here" in str(error.value)
    assert "images.shift" in str(error.value)
    assert "batch" not in str(error.value)


def test_a_folder_with_something_else_in_it_is_refused(config: TinyConfig) -> None:
    config.out.mkdir()
    (config.out / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty"), claimed(config):
        pass
    assert [path.name for path in config.out.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folders_place_is_refused(config: TinyConfig) -> None:
    config.out.write_text("x")
    with pytest.raises(UserError, match="is a file"), claimed(config):
        pass


def test_two_processes_cannot_train_the_same_run(config: TinyConfig) -> None:
    with (
        claimed(config),
        pytest.raises(UserError, match="in use by another"),
        claimed(config),
    ):
        pass
    with claimed(config):
        pass


def test_other_demonstrations_are_noticed(config: TinyConfig) -> None:
    config.out.mkdir()
    folder.require_same_data(config.out, {"episodes": 3, "digest": "a"})
    folder.sign(config.out, config, {"episodes": 3, "digest": "a"})
    folder.require_same_data(config.out, {"episodes": 3, "digest": "a"})
    with pytest.raises(UserError, match="digest: a there, b here"):
        folder.require_same_data(config.out, {"episodes": 3, "digest": "b"})
