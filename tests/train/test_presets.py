"""Every preset is a complete configuration, and the command line can start from it."""

from __future__ import annotations

import json

import pytest
import tyro

from handeye.conventions import libero
from handeye.train.presets import PRESETS, choice
from handeye.train.run import make_model
from handeye.train.state import to_json


def test_the_names_are_those_of_the_functions() -> None:
    assert {"tiny_tabletop", "tiny_libero_object"} <= set(PRESETS)
    for name, preset in PRESETS.items():
        assert preset.__name__ == name
        assert preset.__doc__
        assert name in str(preset().out)
    assert len({preset().out for preset in PRESETS.values()}) == len(PRESETS) == 5


@pytest.mark.parametrize("name", PRESETS)
def test_it_builds_and_is_json(name: str) -> None:
    config = PRESETS[name]()
    assert json.loads(json.dumps(to_json(config))) == to_json(config)
    model = make_model(config, libero.specs(camera_size=128))
    assert sum(p.numel() for p in model.parameters()) < 5e6


def test_the_command_line_starts_from_a_preset() -> None:
    config = tyro.cli(
        choice(),
        args=["tiny_tabletop", "--steps", "10", "--learning-rate", "0.5", "--model", "width", "32", "--seed", "3"],
        config=(tyro.conf.OmitArgPrefixes,),
    )
    assert (config.steps, config.optimizer.learning_rate, config.model, config.seed) == (10, 0.5, {"width": 32}, 3)
