"""A policy that works gets a clean bill. Broken in one way at a time, the first cause that is named is that way."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from handeye.conventions.gripper import Gripper
from handeye.conventions.image import Orientation, resize
from handeye.conventions.rotation import Rotation
from handeye.conventions.spec import Specs
from handeye.data.pipeline import steps
from handeye.data.pipeline.pipeline import Pipeline
from handeye.data.source import open_source
from handeye.diagnose.diagnosis import Diagnosis, diagnose
from handeye.diagnose.live import Stage
from handeye.protocols.presets import protocol
from handeye.serve.local import LocalPolicy
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.types import ActionChunk, Observation

from .conftest import SIZE, TASKS, Taught

SUITE = [task.language for task in suites.tasks("tabletop")]
COUNT = 16
"""Questions."""


@dataclass
class Broken:
    """The policy behind a mistake in what it is asked or in what becomes of its answers."""

    policy: LocalPolicy
    ask: Callable[[Observation], Observation] = lambda seen: seen
    read: Callable[[np.ndarray, Observation], np.ndarray] = lambda actions, seen: actions
    specs: Specs = field(init=False)

    def __post_init__(self) -> None:
        self.specs = self.policy.specs

    def reset(self, episodes: Sequence[Any]) -> None: ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        answered = self.policy.act([self.ask(each) for each in observations])
        return [
            ActionChunk(actions=np.asarray(self.read(chunk.actions.copy(), seen), np.float32))
            for chunk, seen in zip(answered, observations, strict=True)
        ]


def found(policy: Any, demos: Path, **how: Any) -> Diagnosis:
    return diagnose(policy, open_source(demos), count=COUNT, sentences=SUITE, **how)


def piped(policy: LocalPolicy, change: Callable[[Pipeline], Pipeline]) -> LocalPolicy:
    """The checkpoint with another pipeline in its manifest."""
    other = copy.copy(policy)
    other.manifest = replace(policy.manifest, pipeline=change(policy.manifest.pipeline))
    return other


def first(*added: Any) -> Callable[[Pipeline], Pipeline]:
    return lambda pipeline: replace(pipeline, encode_steps=(*added, *pipeline.encode_steps))


def last(*added: Any) -> Callable[[Pipeline], Pipeline]:
    return lambda pipeline: replace(pipeline, decode_steps=(*pipeline.decode_steps, *added))


def with_normalizer(kind: type, change: Callable[[Any], Any]) -> Callable[[Pipeline], Pipeline]:
    def changed(step: Any) -> Any:
        return replace(step, normalizer=change(step.normalizer)) if isinstance(step, kind) else step

    return lambda pipeline: replace(
        pipeline,
        encode_steps=tuple(map(changed, pipeline.encode_steps)),
        decode_steps=tuple(map(changed, pipeline.decode_steps)),
    )


def times(factors: Sequence[float]) -> Callable[[Any], Any]:
    """Another data set, whose robot moves otherwise."""
    return lambda known: replace(
        known,
        low=tuple(low * factor for low, factor in zip(known.low, factors, strict=True)),
        high=tuple(high * factor for high, factor in zip(known.high, factors, strict=True)),
    )


def shifted(known: Any) -> Any:
    """Another data set, whose robot stands elsewhere."""
    ranges = [high - low for low, high in zip(known.low, known.high, strict=True)]
    low = tuple(low + 2 * width for low, width in zip(known.low, ranges, strict=True))
    return replace(known, low=low, high=tuple(a + 1.5 * b for a, b in zip(low, ranges, strict=True)))


FLIP = steps.TurnImages(Orientation.UPRIGHT, Orientation.OPENGL)
MIRROR = steps.TurnImages(Orientation.UPRIGHT, Orientation.TURNED_180)

PIPELINES: dict[str, tuple[Callable[[Pipeline], Pipeline], str, str]] = {
    "rows reversed": (first(FLIP), "pictures", "top and bottom swapped"),
    "mirrored": (first(MIRROR), "pictures", "left and right swapped"),
    "turned": (first(FLIP, MIRROR), "pictures", "turned by 180 degrees"),
    "gripper sign": (last(steps.ConvertGripper(6, Gripper.PM1_OPEN, Gripper.PM1_CLOSE)), "gripper", "(-1 and 1)"),
    "gripper range": (
        last(steps.ConvertGripper(6, Gripper.PM1_CLOSE, Gripper.ZERO_ONE_CLOSE)), "gripper", "0 to 1 read as -1 to 1",
    ),
    "quaternion": (
        first(steps.ConvertProprioRotation(Rotation.AXIS_ANGLE_ROBOSUITE, Rotation.AXIS_ANGLE)),
        "state",
        "without ConvertProprioRotation",
    ),
    "action statistics": (
        with_normalizer(steps.UnnormalizeActions, times((0.3, 2.0, 0.4, 1, 1, 1, 1))), "action statistics", "",
    ),
    "state statistics": (with_normalizer(steps.NormalizeProprio, shifted), "state statistics", "normalised with"),
    "extra delta": (last(steps.AddState((True,) * 6 + (False,))), "relative to the state", "added twice"),
}  # fmt: skip
"""What is broken -> the pipeline, the cause, and what is said of it."""


def test_a_working_policy_gets_a_clean_bill(policy: LocalPolicy, taught: Taught, stage: Stage) -> None:
    diagnosis = found(policy, taught.demos, stage=stage)
    assert [cause.name for cause in diagnosis.causes] == []
    assert diagnosis.recorded is not None and diagnosis.recorded.error < 0.75
    assert diagnosis.simulated is not None and diagnosis.simulated.error < 1
    assert diagnosis.played is not None and diagnosis.played.executed == diagnosis.played.chunk == 8
    assert diagnosis.chance > 1
    assert diagnosis.used is not None and min(diagnosis.used.shares.values()) > 0.05
    assert not any(each.better for each in diagnosis.recorded.tried)
    assert len(diagnosis.recorded.tried) > 35


@pytest.fixture
def stage() -> Stage:
    return Stage(
        tasks=tuple(suites.task("tabletop", index) for index in TASKS),
        protocol=protocol("handeye-2026"),
        sim=SimConfig(camera_size=SIZE, cameras=("agentview", "wrist")),
        steps=80,
    )


@pytest.mark.parametrize("kind", PIPELINES)
def test_another_pipeline(kind: str, policy: LocalPolicy, taught: Taught) -> None:
    change, cause, said = PIPELINES[kind]
    diagnosis = found(piped(policy, change), taught.demos)
    assert diagnosis.causes, "nothing was found"
    assert diagnosis.causes[0].name == cause
    assert said in diagnosis.causes[0].what


def shrunk(seen: Observation) -> Observation:
    """What the policy is shown is what its training saw and a rim around it."""

    def smaller(pixels: np.ndarray) -> np.ndarray:
        inner = round(SIZE * 0.9**0.5)
        inner -= (SIZE - inner) % 2
        rim = (SIZE - inner) // 2
        small = resize(pixels, height=inner, width=inner, method="bilinear")
        return np.pad(small, ((rim, rim), (rim, rim), (0, 0)), mode="edge")

    return replace(seen, images={name: smaller(pixels) for name, pixels in seen.images.items()})


def images(change: Callable[[str, np.ndarray], np.ndarray]) -> Callable[[Observation], Observation]:
    return lambda seen: replace(
        seen, images={name: np.ascontiguousarray(change(name, pixels)) for name, pixels in seen.images.items()}
    )


def stopped(seen: Observation) -> Observation:
    """Training had a full stop behind each sentence; without it no word is one that it knows."""
    known = seen.prompt.endswith(".")
    return replace(seen, prompt=seen.prompt[:-1] if known else seen.prompt.replace(" ", "_"))


def crossed(actions: np.ndarray, seen: Observation) -> np.ndarray:
    actions[:, [0, 1]] = actions[:, [1, 0]]
    return actions


def shaky(actions: np.ndarray, seen: Observation) -> np.ndarray:
    return actions + np.random.default_rng().normal(0, 0.01, actions.shape)


def constant(actions: np.ndarray, seen: Observation) -> np.ndarray:
    return np.zeros_like(actions)


def endless(actions: np.ndarray, seen: Observation) -> np.ndarray:
    actions[3, 2] = np.nan
    return actions


WRAPPED: dict[str, tuple[dict[str, Any], str, str]] = {
    "blue for red": (
        {"ask": images(lambda name, pixels: pixels[..., ::-1])}, "pictures", "red and blue swapped",
    ),
    "one camera turned": (
        {"ask": images(lambda name, pixels: pixels[::-1, ::-1] if name == "agentview" else pixels)},
        "pictures", "agentview alone: turned",
    ),
    "cameras changed over": (
        {"ask": lambda seen: replace(
            seen, images={"agentview": seen.images["wrist"], "wrist": seen.images["agentview"]}
        )},
        "pictures", "changed over",
    ),
    "no picture": ({"ask": images(lambda name, pixels: 0 * pixels)}, "ignores all pictures", ""),
    "a camera of zeros": (
        {"ask": images(lambda name, pixels: 0 * pixels if name == "wrist" else pixels)},
        "ignores the picture of wrist", "",
    ),
    "no sentence": ({"ask": lambda seen: replace(seen, prompt="No instruction")}, "ignores the sentence", ""),
    "the prompt's form": ({"ask": stopped}, "sentence form", "with a full stop"),
    "axes": ({"read": crossed}, "axes", "x and y of the moves swapped"),
    "noise of its own": ({"read": shaky}, "not the same twice", ""),
    "stuck": ({"read": constant}, "always the same answer", ""),
    "no numbers": ({"read": endless}, "no numbers", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPPED)
def test_another_question_or_answer(kind: str, policy: LocalPolicy, taught: Taught) -> None:
    how, cause, said = WRAPPED[kind]
    diagnosis = found(Broken(policy, **how), taught.demos)
    assert diagnosis.causes, "nothing was found"
    assert diagnosis.causes[0].name == cause
    assert said in diagnosis.causes[0].what


def test_answers_that_depend_on_neighbours(policy: LocalPolicy, taught: Taught) -> None:
    class Crowded(Broken):
        def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
            mean = np.mean([each.proprio for each in observations])
            return [ActionChunk(actions=chunk.actions + 1e-3 * mean) for chunk in self.policy.act(observations)]

    assert found(Crowded(policy), taught.demos).causes[0].name == "depends on its neighbours"


def reweighted(policy: LocalPolicy, change: Callable[[Any], None]) -> LocalPolicy:
    import torch

    other = copy.deepcopy(policy)
    with torch.no_grad():
        change(other._model)
    return other


def test_weights_that_were_never_trained(policy: LocalPolicy, taught: Taught) -> None:
    import torch

    fresh = reweighted(policy, lambda model: model.initialise(torch.Generator().manual_seed(5)))
    assert found(fresh, taught.demos).causes[0].name == "no better than a constant"


def test_a_head_that_was_made_anew(policy: LocalPolicy, taught: Taught) -> None:
    import torch

    anew = reweighted(policy, lambda model: torch.nn.init.normal_(model.act.weight, std=0.05))
    assert found(anew, taught.demos).causes[0].name == "no better than a constant"


def test_the_state_does_not_reach_the_head(policy: LocalPolicy, taught: Taught) -> None:
    def cut(model: Any) -> None:
        sentence = model.config.sentence_width
        model.join.weight[:, -sentence - model.config.proprio_width : -sentence] = 0

    assert found(reweighted(policy, cut), taught.demos).causes[0].name == "ignores the state"


@pytest.fixture
def copied(taught: Taught, tmp_path: Path) -> Path:
    return shutil.copytree(taught.demos, tmp_path / "demos")


def edited(root: Path, change: Callable[[h5py.File], None]) -> Path:
    for path in root.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            change(file)
    return root


def test_demonstrations_without_sentences(policy: LocalPolicy, copied: Path) -> None:
    """As a loader has them that looks in the wrong place."""

    def forget(file: h5py.File) -> None:
        info = file["data"].attrs["problem_info"]
        file["data"].attrs["problem_info"] = json.dumps({**json.loads(info), "language_instruction": "No instruction"})

    causes = found(policy, edited(copied, forget)).causes
    assert causes[0].name == "one sentence for all"
    assert "'No instruction' for all of their 2 tasks" in causes[0].what


def test_rows_that_hold_another_moment(policy: LocalPolicy, copied: Path) -> None:
    """What was seen stands four rows before the action that followed it."""

    def move(file: h5py.File) -> None:
        for demo in file["data"].values():
            demo["actions"][4:] = demo["actions"][...][:-4]

    causes = diagnose(policy, open_source(edited(copied, move)), count=64, sentences=SUITE).causes
    assert causes[0].name == "moment"
    assert "meant for 4 steps later" in causes[0].what


def test_another_suite(policy: LocalPolicy, taught: Taught) -> None:
    causes = diagnose(policy, open_source(taught.demos), count=COUNT, sentences=["open the window"]).causes
    assert causes[0].name == "sentences of the suite"


def test_other_declared_conventions(policy: LocalPolicy, taught: Taught) -> None:
    action = replace(policy.specs.action, gripper=Gripper.ZERO_ONE_OPEN)
    other = copy.copy(policy)
    other.specs = replace(policy.specs, action=action)
    causes = found(other, taught.demos).causes
    assert causes[0].name == "declared conventions"
    assert "gripper" in causes[0].what and "ConvertGripper" in causes[0].fix


def test_a_simulator_that_shows_something_else(policy: LocalPolicy, taught: Taught, copied: Path, stage: Stage) -> None:
    """Demonstrations as the policy was trained on them, which the evaluation's pictures are not: on demonstrations
    alone all is well."""

    def flip(file: h5py.File) -> None:
        for demo in file["data"].values():
            for camera in ("agentview_rgb", "eye_in_hand_rgb"):
                demo["obs"][camera][...] = demo["obs"][camera][...][:, ::-1]

    flipped = piped(policy, first(FLIP))
    demos = edited(copied, flip)
    assert not found(flipped, demos).causes
    causes = found(flipped, demos, stage=stage).causes
    assert causes[0].name == "pictures in the simulator"
    assert "top and bottom swapped" in causes[0].what


def test_settling_with_a_gripper_that_is_not_open(policy: LocalPolicy, taught: Taught, stage: Stage) -> None:
    closed = replace(stage.protocol, settle_action=(0.0,) * 7)
    causes = found(policy, taught.demos, stage=replace(stage, protocol=closed, steps=16)).causes
    assert causes[0].name == "settling"
