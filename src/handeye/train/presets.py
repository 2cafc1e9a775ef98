"""Complete training configurations, one function for each run we stand behind. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from handeye.train.config import ImageConfig, OptimizerConfig, TrainConfig


def tiny_tabletop() -> TrainConfig:
    """`tiny` on the built-in tabletop suite: minutes on two CPU cores."""
    return TrainConfig(
        data=Path("demos/tabletop"),
        out=Path("runs/tiny_tabletop"),
        steps=2500,
        images=ImageConfig(image_size=64),  # a cube is still four pixels wide, at half the time of 96
        optimizer=OptimizerConfig(learning_rate=3e-3),
    )


def tiny_libero_spatial() -> TrainConfig:
    """`tiny` on the ten tasks of LIBERO-Spatial: under an hour on two CPU cores."""
    return TrainConfig(
        data=Path("demos/libero_spatial"),
        out=Path("runs/tiny_libero_spatial"),
        steps=15_000,
        optimizer=OptimizerConfig(learning_rate=2e-3, warmup=300),
    )


def tiny_libero_object() -> TrainConfig:
    """`tiny` on LIBERO-Object."""
    return replace(tiny_libero_spatial(), data=Path("demos/libero_object"), out=Path("runs/tiny_libero_object"))


def tiny_libero_goal() -> TrainConfig:
    """`tiny` on LIBERO-Goal."""
    return replace(tiny_libero_spatial(), data=Path("demos/libero_goal"), out=Path("runs/tiny_libero_goal"))


def tiny_libero_10() -> TrainConfig:
    """`tiny` on the ten long tasks, LIBERO-10."""
    return replace(tiny_libero_spatial(), data=Path("demos/libero_10"), out=Path("runs/tiny_libero_10"))


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset
    for preset in (tiny_tabletop, tiny_libero_spatial, tiny_libero_object, tiny_libero_goal, tiny_libero_10)
}


def choice() -> Any:
    """The type the command line parses: a preset's name, then the flags that differ from it."""
    import tyro

    presets = tyro.extras.subcommand_type_from_defaults(
        {name: preset() for name, preset in PRESETS.items()},
        descriptions={name: preset.__doc__ or "" for name, preset in PRESETS.items()},
    )
    return Annotated[presets, tyro.conf.arg(name="")]
