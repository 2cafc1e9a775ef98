"""Every preset is a complete configuration, and the command line can start from it."""

from __future__ import annotations

import json

import pytest
import tyro

from handeye.conventions import libero
from handeye.train.choice import choice
from handeye.train.families.config import PretrainedConfig, TinyConfig
from handeye.train.families.tiny import make_model
from handeye.train.folder import to_json
from handeye.train.presets import PRESETS


def test_each_has_a_folder_of_its_own_and_says_what_it_is() -> None:
    assert {"tiny_tabletop", "tiny_libero_object", "oft_libero_spatial", "pi05_libero"} <= set(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.about.endswith(".")
        assert preset.make().out.name == name
    assert len({preset.make().out for preset in PRESETS.values()}) == len(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_it_is_json_and_has_something_to_start_from(name: str) -> None:
    config = PRESETS[name].make()
    assert json.loads(json.dumps(to_json(config))) == to_json(config)
    if isinstance(config, TinyConfig):
        model = make_model(config, libero.specs(camera_size=128))
        assert sum(p.numel() for p in model.parameters()) < 5e6
    elif isinstance(config, PretrainedConfig):
        assert config.begins_with_something == (config.sizes == "published") == ("small" not in name)


def test_the_command_line_starts_from_a_preset() -> None:
    config = tyro.cli(
        choice(),
        args=["tiny_tabletop", "--steps", "10", "--learning-rate", "0.5", "--model", "width", "32", "--seed", "3"],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    assert (config.steps, config.optimizer.learning_rate, config.model, config.seed) == (10, 0.5, {"width": 32}, 3)
