"""One task as an environment: a scene, an arm to move in it, a goal, and cameras that work when somebody looks.

A control step is 25 physics substeps, and the reference samples its observation in the middle of one: after the 24th
where an initial state was loaded, after the 25th where it was not. So whoever wants to look says so before the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import mujoco
import numpy as np
from jaxtyping import Float, Float64

from handeye.conventions import proprio as proprio_convention
from handeye.sim import controller, native, observe, versions
from handeye.sim.config import SimConfig
from handeye.sim.controller import ARM, FINGERS, FINGERS_AT_RESET, SUBSTEPS
from handeye.sim.predicates import COMPARISONS, Predicates
from handeye.sim.world import Predicate, Scene
from handeye.types import EpisodeId, Observation, Step

if TYPE_CHECKING:
    from handeye.sim.suites import Task

mujoco.set_mju_user_warning(lambda text: None)  # else MuJoCo writes MUJOCO_LOG.TXT wherever the program was started

States = Float64[np.ndarray, "N D"] | Callable[[int], Float64[np.ndarray, "D"]]
EXPLOSIONS = tuple(int(getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}")) for what in ("QPOS", "QVEL", "QACC"))
"""Warnings after which MuJoCo resets the simulation by itself. They are counted in mjData and told in `Step`."""

_WARM: WeakKeyDictionary[mujoco.MjModel, np.ndarray] = WeakKeyDictionary()
"""Model -> the solver's warm start when a reset has put the arm to rest."""

BURNER = "_burner"
"""A part that can be on and has a site of this ending shows the site while it is on."""


class TaskEnv:
    """For insiders (expert, tests) beyond the protocol Env: model, data, scene, truths, state, restore, proprio.

    The scene's model is shared. Before it simulates or renders, an environment writes its own fixture poses and site
    colours into it, so several environments of one scene may take turns, in one thread.
    """

    def __init__(self, task: Task, scene: Scene, config: SimConfig, initial_states: States | None = None) -> None:
        versions.require(allow=config.allow_mujoco)
        self.task, self.scene, self.config = task, scene, config
        self.model, self.data = scene.model, mujoco.MjData(scene.model)
        self._initial_states = initial_states
        self._own = {name: array.copy() for name, array in scene.pristine.items()}
        self._views = {name: getattr(self.model, name) for name in self._own}
        self._arm = controller.Arm(self.model, scene.init_qpos)
        self._stepper = native.stepper(self.model, self.data, self._arm, config.arithmetic)
        predicates = Predicates(scene, self.data)
        self._goal = predicates.bind_all(scene.problem.goal)
        self._hand = self.model.body(controller.HAND).id
        self._marks = _hidden_sites(scene)
        self._burners = _burners(scene)
        self._cameras = observe.cameras(self.model, config.camera_size, config.backend) if config.cameras else None
        self._forced = 0
        self._seen: tuple[dict[str, np.ndarray], Float[np.ndarray, "16"]] | None = None
        self._unseen = False  # the current state is a sampling moment that nobody has looked at yet
        self._scene_hash = ""

    def reset(self, episode: EpisodeId) -> None:
        from handeye.sim import placement

        if (episode.suite, episode.task) != (self.task.suite, self.task.index):
            raise ValueError(f"{episode.key} is no episode of {self.task.suite}/{self.task.index}")
        row = None if episode.initial_state is None else self._initial_state(episode.initial_state)
        rng, loads = placement.rng_for(episode, self.scene, self.model, self.data)
        self.place(rng, loads)
        if row is not None:
            self.set_state(row)

    def place(self, rng: np.random.RandomState, loads: int) -> None:
        """The reference's reset: arm at rest, everything else where the generator puts it. The calls of mj_forward are
        counted: each refines the solver's warm start, which reaches the last bits of what follows."""
        from handeye.sim import placement

        self._restore_model()
        model, data = self.model, self.data
        rng.randn(7)  # noise on the arm's pose, multiplied by zero
        if model not in _WARM:
            _WARM[model] = self._warm_start()
        mujoco.mj_resetData(model, data)
        data.qpos[ARM] = self.scene.init_qpos
        data.qacc_warmstart[:] = _WARM[model]
        for stage in (mujoco.mj_kinematics, mujoco.mj_comPos, mujoco.mj_crb):  # what making the controller reads
            stage(model, data)
        self._stepper.start()
        data.qpos[FINGERS] = FINGERS_AT_RESET
        placement.place(self.scene, model, data, rng, loads=loads)
        for name in ("body_pos", "body_quat"):
            self._own[name][:] = self._views[name]
        mujoco.mj_forward(model, data)
        colours = self._own["site_rgba"]
        colours[self._marks, 3] = -np.abs(colours[self._marks, 3])
        self._forced = 1
        self._sampled_now()
        self._hash_scene()

    def stand(self, fixtures: Mapping[str, tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "4"]]]) -> None:
        """Put fixtures where a recording had them: body -> position, quaternion (w, x, y, z). After `place`, before
        `set_state`. Bodies that are no fixture of this scene are left alone."""
        own = {part.body for part in self.scene.parts.values() if not part.movable}
        for name in own & fixtures.keys():
            body = self.model.body(name).id
            self._own["body_pos"][body], self._own["body_quat"][body] = fixtures[name]

    def set_state(self, row: Float64[np.ndarray, "D"]) -> None:
        """Load time, qpos, qvel, as the reference's set_init_state: the controller keeps its goal."""
        self._load(row)
        self._light_burners()
        self._forced += 1
        self._sampled_now()
        self._hash_scene()

    def step(self, action: Float[np.ndarray, "A"], *, look: bool = False) -> Step:
        command = np.asarray(action, np.float64)
        if command.shape != (7,) or not np.isfinite(command).all():
            raise ValueError(f"an action is 7 finite numbers, not {action!r}")
        if not self._forced:
            raise RuntimeError("step before the first reset")
        self._enter()
        self._seen, self._unseen = None, False
        moment = SUBSTEPS + 1 - self._forced
        if look:
            self._stepper.run(command, 1, moment)
            self._look()
            self._stepper.run(command, moment + 1, SUBSTEPS)
        else:
            self._stepper.run(command, 1, SUBSTEPS)
        success = self.success()
        self._light_burners()
        return Step(reward=float(success), success=success, unstable=self._exploded())

    def observe(self, *, seed: int = 0) -> Observation:
        images, felt = self._last_look()
        return Observation(
            images=images,
            proprio=proprio_convention.from_observation(felt[0:3], felt[3:7], felt[7:9]),
            prompt=self.task.language,
            seed=seed,
        )

    def proprio(self) -> Float64[np.ndarray, "16"]:
        """At the last sampling moment: grip site 3, hand quaternion x, y, z, w, fingers 2, arm joints 7."""
        return self._last_look()[1]

    def success(self) -> bool:
        """Whether the goal holds now; every part of it is asked, as in the reference."""
        return all([test() for test in self._goal.values()])

    def truths(self) -> dict[Predicate, bool]:
        """Every part of the goal and whether it holds now."""
        return {predicate: test() for predicate, test in self._goal.items()}

    def state(self) -> Float64[np.ndarray, "D"]:
        """Time, qpos, qvel."""
        return np.concatenate([[self.data.time], self.data.qpos, self.data.qvel])

    def restore(self, state: Float64[np.ndarray, "D"]) -> None:
        """Back to a state of this episode. Unlike `set_state` it is nobody's observation: when the next steps are
        sampled does not change."""
        self._load(state)
        self._light_burners()
        self._sampled_now()

    def hashes(self) -> dict[str, str]:
        return {"model": self.scene.digest, "scene": self._scene_hash}

    def close(self) -> None:
        self._cameras = None  # the context goes with its last holder

    def arithmetic(self) -> str:
        """How the control step is computed here, for the record of a result."""
        return self._stepper.name

    def _warm_start(self) -> Float64[np.ndarray, "V"]:
        """What the reference's first four solves of a reset leave, the same for every episode. Everything in the scene
        stands in one place then, with thousands of contacts, so they take longer than four control steps."""
        model, data = self.model, self.data
        mujoco.mj_resetData(model, data)
        mujoco.mj_forward(model, data)  # once after compiling, once for its renderer
        mujoco.mj_forward(model, data)
        data.qpos[ARM] = self.scene.init_qpos
        mujoco.mj_forward(model, data)  # its controller, made and then told the rest pose
        mujoco.mj_forward(model, data)
        return data.qacc_warmstart.copy()

    def _restore_model(self) -> None:
        for name, array in self.scene.pristine.items():
            self._own[name][:] = array
        self._enter()

    def _exploded(self) -> bool:
        """Since the last time this was asked."""
        counters = [self.data.warning[kind] for kind in EXPLOSIONS]
        exploded = any(counter.number for counter in counters)
        for counter in counters:
            counter.number = 0
        return exploded

    def _enter(self) -> None:
        for name, array in self._own.items():
            self._views[name][:] = array

    def _load(self, row: Float64[np.ndarray, "D"]) -> None:
        model, data = self.model, self.data
        if row.shape != (1 + model.nq + model.nv,):
            raise ValueError(f"a state of this scene has {1 + model.nq + model.nv} numbers, not {row.shape}")
        self._enter()
        data.time, data.qpos[:], data.qvel[:] = row[0], row[1 : 1 + model.nq], row[1 + model.nq :]
        mujoco.mj_forward(model, data)

    def _initial_state(self, index: int) -> Float64[np.ndarray, "D"]:
        if self._initial_states is None:
            raise ValueError(f"{self.task.suite}/{self.task.index} has no stored initial states")
        if callable(self._initial_states):
            return self._initial_states(index)
        if not 0 <= index < len(self._initial_states):
            raise ValueError(f"initial state {index} of {len(self._initial_states)}")
        return self._initial_states[index]

    def _sampled_now(self) -> None:
        """A forced observation: what is there now is what `observe` shows, drawn if and when it is called."""
        self._seen, self._unseen = None, True

    def _hash_scene(self) -> None:
        digest = hashlib.sha256()
        for part in (self._own["body_pos"], self._own["body_quat"], self.state()):
            digest.update(np.ascontiguousarray(part).tobytes())
        self._scene_hash = digest.hexdigest()

    def _last_look(self) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "16"]]:
        if self._seen is None:
            if not self._unseen:
                raise RuntimeError("nobody announced this look: call step(action, look=True) before observe")
            self._enter()
            self._look()
        assert self._seen is not None
        return self._seen

    def _look(self) -> None:
        images = {name: self._cameras.render(self.data, name) for name in self.config.cameras} if self._cameras else {}
        self._seen = images, observe.proprioception(self.data, self._arm.site, self._hand)

    def _light_burners(self) -> None:
        """After the state is judged, so a change is first seen in the next observation."""
        for site, joint, test in self._burners:
            # Toggled as alpha := 1 - alpha by the reference, whose hidden sites are at -1.
            self._own["site_rgba"][site, 3] = 2.0 if test(self.data.qpos[joint]) else -1.0


def _hidden_sites(scene: Scene) -> np.ndarray:
    """The sites of robot, objects and fixtures: markers that no camera shows. Those of the arena stay as they are."""
    model = scene.model
    roots = {model.body(part.body).id for part in scene.parts.values()} | {model.body("robot0_base").id}
    owners = np.zeros(model.nbody, bool)
    for body in range(1, model.nbody):
        owners[body] = body in roots or owners[model.body_parentid[body]]
    return np.flatnonzero(owners[model.site_bodyid] & (scene.pristine["site_rgba"][:, 3] > 0))


def _burners(scene: Scene) -> list[tuple[int, int, Callable[[float], bool]]]:
    found: list[tuple[int, int, Callable[[float], bool]]] = []
    for name, part in scene.parts.items():
        site = mujoco.mj_name2id(scene.model, mujoco.mjtObj.mjOBJ_SITE, name + BURNER)
        rule = part.articulation.is_on if part.articulation else None
        if site >= 0 and rule is not None:
            joint = int(scene.model.joint(part.joints[0]).qposadr[0])
            found.append((site, joint, partial(_holds, rule)))
    return found


def _holds(rule: tuple[str, float], value: float) -> bool:
    return bool(COMPARISONS[rule[0]](value, rule[1]))
