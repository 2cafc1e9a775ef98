"""What an evaluation is, settled before its first episode and written first. A directory belongs to one plan."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, runtime_checkable
from typing import Protocol as Interface

from handeye.conventions import libero
from handeye.conventions.spec import Specs, require_same
from handeye.errors import UserError
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.sequential import Rule, order
from handeye.evaluate.surroundings import surroundings
from handeye.evaluate.video import CAMERA
from handeye.protocols.presets import protocol as preset
from handeye.protocols.protocol import Protocol, differences
from handeye.records import provenance, read_json, sha256_json, write_json
from handeye.sim import suites
from handeye.sim.config import SimConfig
from handeye.sim.suites import Task
from handeye.types import EpisodeId, Policy

PLAN = "plan.json"
SESSIONS = "sessions.jsonl"
FORMAT = "handeye-evaluation-2"
VIDEO_SIZE = 256
"""Pixels of a video where nobody else says how large images are: the baselines and the expert."""


@runtime_checkable
class DeclaredPolicy(Policy, Interface):
    """A policy that says what its numbers mean."""

    @property
    def specs(self) -> Specs: ...


@runtime_checkable
class Identified(Interface):
    """A policy that says which one it is, beyond its address: what can change its answers."""

    @property
    def identity(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which episodes of what, and everything that can change how they end."""

    suite: str
    tasks: tuple[Task, ...]
    initial_states: tuple[int, ...]
    protocol: Protocol
    """With the seed and the camera size that this run uses."""

    address: str
    """The policy as it was named."""

    policy: Mapping[str, Any]
    """What it is, as far as it says so (`Identified`), else how it was named; and its specs."""

    cameras: tuple[str, ...] | None
    """What the policy looks through; None: it does not look at all (the expert)."""

    sim: SimConfig
    simulator: Mapping[str, Any]
    """What simulates and, if the policy looks, what draws."""

    surroundings: Mapping[str, Any]
    """Of the simulator, as a worker must find them."""

    versions: Mapping[str, Any]
    rule: Rule | None = None
    """When to stop early."""

    part: tuple[int, int] = (1, 1)
    """Which part of the plan this run does, and of how many. No part of its identity."""

    @property
    def episodes(self) -> tuple[EpisodeId, ...]:
        return episodes(self.identity())

    def identity(self) -> dict[str, Any]:
        """Everything that can change an outcome, and nothing else: not the workers, the videos or the folder."""
        return {
            "format": FORMAT,
            "suite": self.suite,
            "tasks": [{"index": task.index, "name": task.name, "language": task.language} for task in self.tasks],
            "initial_states": list(self.initial_states),
            "protocol": self.protocol.to_json(),
            "policy": dict(self.policy),
            "simulator": dict(self.simulator),
            "versions": dict(self.versions),
            **({} if self.rule is None else {"stop_when": self.rule.to_json()}),
        }

    @property
    def own(self) -> tuple[EpisodeId, ...]:
        """The episodes of this part, in the order in which they are best begun."""
        number, count = self.part
        ordered = self.episodes if self.rule is None else tuple(order(self.episodes))
        return ordered[number - 1 :: count]

    @property
    def default_folder(self) -> Path:
        """Named after what is evaluated: the same command finds it again, another one does not."""
        where = "-".join(Path(self.address).resolve().parts[-2:])  # runs/NAME/final: `final` alone names nothing
        words = [where if self.policy.get("manifest") else self.address]
        words += [self.suite, self.protocol.name, sha256_json(self.identity())[:8]]
        words += [] if self.part == (1, 1) else ["part-{}-of-{}".format(*self.part)]
        return Path("runs") / ("eval-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(words)))

    def claim(self, out: Path) -> None:
        """Write the plan into a new directory, or make sure that the one there is this one."""
        identity = self.identity()
        if not (out / PLAN).exists():
            write_json(out / PLAN, {"identity": identity, "address": self.address, "part": list(self.part)})
            return
        there = tuple(read_json(out / PLAN, what="the run's plan").get("part", (1, 1)))
        if there != self.part and not list(differences(read_identity(out)[0], identity)):
            raise UserError(
                f"{out} is part {there[0]} of {there[1]} of this evaluation, not {self.part[0]} of {self.part[1]}.",
                fix="choose another --out, or leave it out; `handeye merge-runs` puts parts together",
            )
        if differing := list(differences(read_identity(out)[0], identity)):
            raise UserError(
                f"{out} belongs to another evaluation.",
                why="there | asked for now: " + "; ".join(differing),
                fix="choose another --out, or leave it out: the default is named after what is evaluated",
            )


def read_identity(out: Path) -> tuple[Mapping[str, Any], str]:
    """What a directory's plan says, and how its policy was named."""
    written = read_json(out / PLAN, what="the run's plan")
    try:
        identity, address = written["identity"], str(written["address"])
        if identity["format"] != FORMAT:
            raise ValueError(f"its format is {identity['format']!r}, this program reads {FORMAT!r}")
        episodes(identity)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{out / PLAN} is not an evaluation's plan.",
            why=f"{type(error).__name__}: {error}",
            fix="it was edited or written by another version: restore it, or evaluate again",
        ) from None
    return identity, address


def episodes(identity: Mapping[str, Any]) -> tuple[EpisodeId, ...]:
    """Every episode of a plan, in the order of tasks and initial states."""
    protocol = identity["protocol"]
    return tuple(
        EpisodeId(
            suite=identity["suite"],
            task=task["index"],
            initial_state=state,
            stream=protocol["stream"],
            seed=protocol["seed"],
        )
        for task in identity["tasks"]
        for state in identity["initial_states"]
    )


def make(config: EvaluateConfig, policy: DeclaredPolicy | None) -> Plan:
    """Everything is looked up and compared here, before a directory is made or a simulator started."""
    tasks = _tasks(config)
    states = _initial_states(config, tasks)
    protocol = preset(config.protocol)
    protocol.horizon(config.suite)
    cameras = None if policy is None else policy.specs.image.cameras
    size = _camera_size(protocol, policy)
    protocol = replace(
        protocol,
        seed=protocol.seed if config.seed is None else config.seed,
        camera_size=size if cameras else protocol.camera_size,
    )
    _check_specs(config, policy, size)
    rule = None if config.stop_when is None else Rule.parse(config.stop_when)
    filmed = () if config.videos == "none" else (CAMERA,)
    rendered = tuple(dict.fromkeys((*(cameras or ()), *filmed)))
    sim = SimConfig(
        camera_size=size,
        cameras=rendered,
        arithmetic=config.arithmetic,
        backend=config.backend,
        allow_mujoco=config.allow_mujoco,
    )
    around = surroundings(config.suite, sim)
    sim = replace(sim, backend=around["drawing"].get("backend", config.backend))
    described = _describe(config.policy, policy)
    origin = provenance(("numpy", "mujoco", "torch") if described.get("manifest") else ("numpy", "mujoco"))
    return Plan(
        suite=config.suite,
        tasks=tasks,
        initial_states=states,
        protocol=protocol,
        address=config.policy,
        policy=described,
        cameras=cameras,
        sim=sim,
        simulator={
            **_physics(config, protocol, around["physics"]),
            "arithmetic": config.arithmetic,
            "cameras": list(cameras or ()),
            **(around["drawing"] if cameras else {}),  # a video alone changes no outcome
        },
        surroundings=around,
        versions={"handeye": origin["handeye"], **origin["packages"]},
        rule=rule,
        part=config.part(),
    )


def _physics(config: EvaluateConfig, protocol: Protocol, found: Mapping[str, Any]) -> dict[str, Any]:
    """What simulates, and all that is wrong with it: here, and under this protocol. The fake suite has nothing."""
    if not found:
        return {}
    from handeye.sim import versions

    other = versions.require_range(protocol.simulator, of=protocol.name, allow=config.allow_mujoco)
    return {**found, "trouble": "; ".join(filter(None, [found["trouble"], other]))}


def _tasks(config: EvaluateConfig) -> tuple[Task, ...]:
    known = suites.tasks(config.suite)
    if not config.tasks:
        return known
    if len(set(config.tasks)) < len(config.tasks):
        raise UserError("--tasks names a task twice.", fix="name each task once")
    return tuple(suites.task(config.suite, index) for index in config.tasks)


def _initial_states(config: EvaluateConfig, tasks: tuple[Task, ...]) -> tuple[int, ...]:
    there = min(suites.initial_state_count(task) for task in tasks)
    first, end = config.state_range()
    if end is None:
        end = min(preset(config.protocol).initial_states, there)
    if end > there:
        raise UserError(
            f"There is no initial state {end - 1} for every task asked for.",
            why=f"{config.suite} has {there} per task, 0 to {there - 1}",
            fix="ask for fewer with --episodes or --initial-states",
        )
    return tuple(range(first, end))


def _camera_size(protocol: Protocol, policy: DeclaredPolicy | None) -> int:
    if protocol.camera_size != "policy":
        return protocol.camera_size
    if policy is None or not policy.specs.image.cameras:
        return VIDEO_SIZE
    return policy.specs.image.height


def _check_specs(config: EvaluateConfig, policy: DeclaredPolicy | None, size: int) -> None:
    """What the policy means by its numbers is what the simulator means by them. Every suite speaks LIBERO's."""
    if policy is None:
        return
    here, there = f"the policy {config.policy}", f"the simulator of {config.suite} under {config.protocol}"
    wanted, simulator = policy.specs, libero.specs(camera_size=size)
    require_same(wanted.action, simulator.action, here=here, there=there)
    require_same(wanted.proprio, simulator.proprio, here=here, there=there)
    if wanted.image.cameras:
        seen = simulator.image.only(wanted.image.cameras, here=there)
        require_same(wanted.image, seen, here=here, there=there)


def _describe(address: str, policy: DeclaredPolicy | None) -> dict[str, Any]:
    specs = None if policy is None else policy.specs.to_json()
    if isinstance(policy, Identified):
        known = dict(policy.identity)  # a checkpoint's digest says all; an address is the least that a server has
        return {**({} if "manifest" in known else {"name": address}), **known, "specs": specs}
    return {"name": address, "specs": specs}
