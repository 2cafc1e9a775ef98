"""LeRobot's policies through a small module with the part of its API that is used: the library itself cannot be
installed beside our pinned versions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from handeye.conventions import libero
from handeye.errors import UserError
from handeye.serve.load import load
from handeye.types import Observation, Policy


@dataclass
class Feature:
    shape: tuple[int, ...]


@dataclass
class Config:
    type: str = "pi05"
    device: str = "cuda"
    n_obs_steps: int = 1
    n_action_steps: int = 4
    input_features: dict[str, Feature] = field(
        default_factory=lambda: {
            "observation.images.image": Feature((3, 32, 32)),
            "observation.images.image2": Feature((3, 32, 32)),
            "observation.images.empty_camera_0": Feature((3, 224, 224)),
            "observation.state": Feature((8,)),
        }
    )
    output_features: dict[str, Feature] = field(default_factory=lambda: {"action": Feature((7,))})
    temporal_ensemble_coeff: float | None = None


class FakePolicy:
    """Predicts six steps: the state, the mean colours and the sentence's length, plus torch's own noise."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012
    strict: bool | None = None

    @classmethod
    def from_pretrained(cls, path: str, *, config: Config, strict: bool) -> FakePolicy:
        cls.strict = strict
        cls.asked.clear()
        return cls()

    def to(self, device: str) -> FakePolicy:
        return self

    def eval(self) -> FakePolicy:
        return self

    def reset(self) -> None: ...

    def predict_action_chunk(self, batch: dict[str, Any]) -> torch.Tensor:
        self.asked.append(batch)
        base = batch["observation.state"][:, :7] + batch["observation.images.image"].mean()
        return base[:, None] * torch.arange(6)[None, :, None] + torch.randn(1, 6, 7)


@pytest.fixture
def lerobot(monkeypatch: pytest.MonkeyPatch) -> Config:
    config = Config()
    configs, factory = ModuleType("lerobot.configs.policies"), ModuleType("lerobot.policies.factory")

    def before(batch: dict[str, Any]) -> dict[str, Any]:
        assert batch["observation.images.image"].shape == (1, 3, 32, 32)
        return batch | {"seen": True}

    def after(action: torch.Tensor) -> torch.Tensor:
        assert action.shape == (1, 7), "one action per call, as LeRobot's own loop gives them"
        return action * 2

    def processors(policy_cfg: Config, pretrained_path: str, preprocessor_overrides: dict[str, Any]) -> tuple[Any, Any]:
        assert preprocessor_overrides == {"device_processor": {"device": "cpu"}}
        return before, after

    class PreTrainedConfig:
        @staticmethod
        def from_pretrained(path: str) -> Config:
            return config

    configs.PreTrainedConfig = PreTrainedConfig  # type: ignore[attr-defined]
    factory.get_policy_class = lambda name: {"pi05": FakePolicy}[name]  # type: ignore[attr-defined]
    factory.make_pre_post_processors = processors  # type: ignore[attr-defined]
    packages = {"lerobot": {}, "lerobot.configs": {"policies": configs}, "lerobot.policies": {"factory": factory}}
    for name, members in packages.items():
        package = ModuleType(name)
        for key, module in members.items():
            setattr(package, key, module)
            monkeypatch.setitem(sys.modules, f"{name}.{key}", module)
        monkeypatch.setitem(sys.modules, name, package)
    return config


def seen(seed: int = 0) -> Observation:
    random = np.random.default_rng(seed)
    return Observation(
        images={name: random.integers(0, 256, (32, 32, 3), np.uint8) for name in libero.CAMERAS},
        proprio=random.normal(size=8).astype(np.float32),
        prompt="open the drawer",
        seed=seed,
    )


def test_it_is_asked_in_lerobots_terms(lerobot: Config) -> None:
    policy = load("lerobot:outputs/pi05", device="cpu")
    assert isinstance(policy, Policy)
    assert policy.specs == libero.specs(camera_size=32)
    assert FakePolicy.strict is True, "weights that do not fit are an error"
    [chunk] = policy.act([seen()])
    assert (chunk.actions.shape, chunk.actions.dtype) == ((4, 7), np.float32), "n_action_steps of the prediction"
    [asked] = FakePolicy.asked
    assert asked["task"] == ["open the drawer"] and asked["seen"]
    for key, name in (("image", "agentview"), ("image2", "wrist")):
        mirrored = seen().images[name][:, ::-1]  # a raw rendering turned by 180 degrees
        np.testing.assert_array_equal(
            asked[f"observation.images.{key}"][0].permute(1, 2, 0).numpy(), mirrored.astype(np.float32) / 255
        )
    np.testing.assert_array_equal(asked["observation.state"][0].numpy(), seen().proprio)
    assert "observation.images.empty_camera_0" not in asked


def test_noise_is_the_observations_own(lerobot: Config) -> None:
    """Neither neighbours nor history matter, and the process's own generator is left alone."""
    policy = load("lerobot:outputs/pi05", device="cpu")
    torch.manual_seed(5)
    together = policy.act([seen(1), seen(2)])
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after
    np.testing.assert_array_equal(policy.act([seen(2)])[0].actions, together[1].actions)
    assert not np.array_equal(policy.act([replace(seen(2), seed=9)])[0].actions, together[1].actions)


def change(name: str, value: Any) -> Callable[[Config], None]:
    return lambda config: setattr(config, name, value)


def camera(name: str, shape: tuple[int, ...] = (3, 32, 32)) -> Callable[[Config], None]:
    return lambda config: config.input_features.update({name: Feature(shape)})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (change("n_obs_steps", 2), "last 2 observations"),
        (change("temporal_ensemble_coeff", 0.01), "averages"),
        (change("output_features", {"action": Feature((14,))}), "LIBERO's 7 numbers"),
        (change("output_features", {}), "LIBERO's 7 numbers"),
        (camera("observation.images.left"), "'left'"),
        (camera("observation.images.image", (3, 64, 64)), "shapes"),
        (camera("observation.state", (14,)), "8 numbers"),
        (camera("observation.environment_state", (3,)), "environment_state"),
    ],
)
def test_policies_that_do_not_fit(spoil: Callable[[Config], None], says: str, lerobot: Config) -> None:
    spoil(lerobot)
    with pytest.raises(UserError, match=says):
        load("lerobot:outputs/other", device="cpu")


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lerobot", None)
    with pytest.raises(UserError, match="LeRobot's policies need LeRobot"):
        load("lerobot:outputs/pi05", device="cpu")
