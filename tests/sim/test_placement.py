"""The sampler on the tabletop's scenes: what it draws, when it gives up, which generator it is given."""

from __future__ import annotations

import itertools
from dataclasses import replace

import mujoco
import numpy as np
import pytest

from handeye.errors import UserError
from handeye.sim import placement, tabletop
from handeye.sim.catalogue import BOOK, HALF_TURN, STANDING, UPRIGHT, Turns
from handeye.sim.placement import DoesNotFitError, Placed, Sampler, place, rng_for
from handeye.sim.world import Part, Scene
from handeye.types import EpisodeId

SCENES = [tabletop.scene(task) for task in tabletop.tasks()]
JOINT_STATES = ("open", "close", "turnon", "turnoff")


class Recorder(np.random.RandomState):
    """A generator that remembers what it was asked for."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.uniforms: list[tuple[float, float]] = []
        self.noises = 0

    def uniform(self, low: float = 0.0, high: float = 1.0, size: None = None) -> float:
        self.uniforms.append((low, high))
        return super().uniform(low, high, size)

    def randn(self, *shape: int) -> np.ndarray:
        self.noises += 1
        return super().randn(*shape)


def fresh(scene: Scene) -> mujoco.MjData:
    for name, array in scene.pristine.items():
        getattr(scene.model, name)[:] = array
    return mujoco.MjData(scene.model)


def placed(scene: Scene, rng: np.random.RandomState, loads: int = 1) -> tuple[np.ndarray, np.ndarray, int]:
    data = fresh(scene)
    loads = place(scene, scene.model, data, rng, loads=loads)
    return data.qpos.copy(), scene.model.body_pos.copy(), loads


def starts(scene: Scene) -> int:
    return sum(predicate[0] in JOINT_STATES for predicate in scene.problem.init)


def identity(**changes: object) -> EpisodeId:
    return replace(EpisodeId(suite="tabletop", task=0, initial_state=None), **changes)


@pytest.mark.parametrize("index", range(len(SCENES)))
def test_every_draw_is_accounted_for(index: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joints first, a copy per load; then two numbers per attempt and one per turn, for each thing."""
    scene, rng, tried = SCENES[index], Recorder(3), []
    collides = placement._collides
    monkeypatch.setattr(placement, "_collides", lambda *a: tried.append(collides(*a)) or tried[-1])
    *_, loads = placed(scene, rng, loads=4)
    turns = sum(len(part.rotation) if part.movable else 1 for part in scene.parts.values())
    assert loads == 4 and rng.noises == 0
    assert len(rng.uniforms) == 4 * starts(scene) + 2 * (len(scene.parts) + sum(tried)) + turns


def test_joint_samplers_pile_up() -> None:
    scene = next(scene for scene in SCENES if starts(scene))
    later, first = np.random.RandomState(5), np.random.RandomState(5)
    later.uniform(size=2 * starts(scene))
    for ours, theirs in zip(placed(scene, later, loads=1), placed(scene, first, loads=3), strict=True):
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("index", range(len(SCENES)))
def test_nothing_overlaps_and_everything_is_drawn(index: int) -> None:
    scene = SCENES[index]
    seen = set()
    for seed in range(10):
        data = fresh(scene)
        mujoco.mj_step1(scene.model, data)
        sampler = Sampler(scene, data, np.random.RandomState(seed))
        sampler.run()
        assert sampler.placed.keys() == scene.parts.keys()
        for one, two in itertools.combinations(sampler.placed.values(), 2):
            if one.part.movable and two.part.movable and abs(one.position[2] - two.position[2]) < 0.01:
                assert np.hypot(*(one.position - two.position)[:2]) > one.part.radius + two.part.radius
        seen.add(b"".join(thing.position.tobytes() for thing in sampler.placed.values()))
    assert len(seen) == 10


def test_what_does_not_fit_is_an_error_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure loads the model once more and draws the arm's noise again, as the reference does for ever."""
    monkeypatch.setattr(placement, "ATTEMPTS", 7)
    scene = SCENES[0]
    spot = ((0.0, 0.0, 0.0, 0.0),)
    regions = {name: replace(region, ranges=spot) for name, region in scene.problem.regions.items()}
    crowded = replace(scene, problem=replace(scene.problem, regions=regions))
    rng = Recorder()
    with pytest.raises(UserError, match="find no place"):
        placed(crowded, rng)
    assert rng.noises == placement.RESTARTS
    assert len(rng.uniforms) >= placement.RESTARTS * 2 * 7


def test_a_second_try_counts_as_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    run, failures = Sampler.run, [2]

    def fails_first(sampler: Sampler) -> None:
        if failures[0]:
            failures[0] -= 1
            raise DoesNotFitError("cube")
        run(sampler)

    monkeypatch.setattr(Sampler, "run", fails_first)
    scene, rng = next(scene for scene in SCENES if starts(scene)), Recorder()
    *_, loads = placed(scene, rng, loads=5)
    assert loads == 7 and rng.noises == 2
    joints = [limits for limits in rng.uniforms if limits == rng.uniforms[0]]
    assert len(joints) >= (5 + 6 + 7) * starts(scene)


@pytest.mark.parametrize(
    ("rotation", "wanted"),
    [
        (HALF_TURN, (0, 0, 0, 1)),
        (UPRIGHT, (0.7071067811865475, 0, 0, 0.7071067811865476)),
        (STANDING, (0.5, 0.5, 0.5, 0.5)),
    ],
)
def test_turns_are_the_references(rotation: Turns, wanted: tuple[float, ...]) -> None:
    turn = Sampler(SCENES[0], fresh(SCENES[0]), np.random.RandomState(0))._turned(part(rotation))
    np.testing.assert_allclose(turn, wanted, atol=1e-7)
    if len(rotation) == 2:
        np.testing.assert_array_equal(turn, turn.astype(np.float32))  # rounded, as there


def test_a_turn_between_limits() -> None:
    sampler = Sampler(SCENES[0], fresh(SCENES[0]), np.random.RandomState(0))
    angles = [2 * np.arcsin(sampler._turned(part(BOOK))[0]) for _ in range(200)]
    assert -np.pi / 2 <= min(angles) < -1.5 and -0.85 < max(angles) <= -np.pi / 4


def part(rotation: Turns) -> Part:
    return Part(name="p", category="c", movable=True, body="p_main", rotation=rotation)


def test_collision_is_of_upright_cylinders() -> None:
    """Radii 0.025 each; heights overlap while the upper one's bottom is not above the lower one's top."""
    other = Placed(part=part(HALF_TURN), position=np.zeros(3), quaternion=np.array([1.0, 0, 0, 0]))
    for position, collides in (
        ((0.05, 0, 0), True), ((0.0501, 0, 0), False), ((0, 0, 0.1), True), ((0, 0, 0.1001), False),
    ):  # fmt: skip
        assert placement._collides(part(HALF_TURN), np.array(position, float), other) is collides


def test_rotation_through_single_precision() -> None:
    angle = 0.3
    turn = placement._turn(np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)]))
    wanted = [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    error = np.abs(turn - wanted).max()
    assert 0 < error < 1e-6


# ---- the two streams ------------------------------------------------------------------------------------------------


def test_the_episode_stream_is_the_identitys_own() -> None:
    scene = SCENES[0]
    results = []
    for episode in (identity(seed=1), identity(seed=2), identity(seed=1)):
        rng, loads = rng_for(episode, scene, scene.model, fresh(scene))
        results.append(placed(scene, rng, loads)[0])
        assert loads == placement.FIRST_LOADS
    np.testing.assert_array_equal(results[0], results[2])
    assert not np.array_equal(results[0], results[1])


def test_the_published_stream_goes_through_the_earlier_resets() -> None:
    for scene in (SCENES[0], next(scene for scene in SCENES if starts(scene))):
        sequence, loads = np.random.RandomState(4), placement.FIRST_LOADS
        for number in range(4):
            sequence.randn(7)
            wanted = placed(scene, sequence, loads)
            rng, found = rng_for(
                identity(stream="published", initial_state=number, seed=4), scene, scene.model, fresh(scene)
            )
            rng.randn(7)
            assert found == loads
            for ours, theirs in zip(placed(scene, rng, found)[:2], wanted[:2], strict=True):
                np.testing.assert_array_equal(ours, theirs)
            loads = wanted[2] + 1


def test_the_reseeded_stream_is_a_reset_right_after_seeding() -> None:
    """Of an environment that was made (one load), reset once (two) and is reset now (three): LeRobot's, in one batch.
    Nothing that ran before matters, and where nothing starts open or switched on, neither does the number of loads."""
    for scene in (SCENES[0], next(scene for scene in SCENES if starts(scene))):
        for number in (7, 0, 3):
            theirs = np.random.RandomState(1000 + number)
            theirs.randn(7)
            wanted = placed(scene, theirs, 3)
            episode = identity(stream="reseeded", initial_state=number, seed=1000)
            rng, loads = rng_for(episode, scene, scene.model, fresh(scene))
            rng.randn(7)
            assert loads == 3
            for ours, wanted_array in zip(placed(scene, rng, loads)[:2], wanted[:2], strict=True):
                np.testing.assert_array_equal(ours, wanted_array)


@pytest.mark.parametrize("stream", ["published", "reseeded"])
def test_streams_that_are_numbered_have_no_sampled_episodes(stream: str) -> None:
    with pytest.raises(UserError, match=f"{stream} scene stream has no sampled episodes"):
        rng_for(identity(stream=stream), SCENES[0], SCENES[0].model, fresh(SCENES[0]))
