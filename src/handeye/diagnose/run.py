"""`handeye diagnose`: ask, look, and say what is likeliest, with the pictures that the policy saw."""

from __future__ import annotations

import json
from dataclasses import replace

from handeye.console import say, table, warn
from handeye.data.source import Source, open_source
from handeye.diagnose import declared, pictures, published
from handeye.diagnose.config import DiagnoseConfig
from handeye.diagnose.diagnosis import Declared, Diagnosis, diagnose
from handeye.diagnose.live import Stage
from handeye.errors import UserError
from handeye.protocols.presets import protocol as preset
from handeye.records import write_json
from handeye.sim import suites
from handeye.sim.config import SimConfig

SHEET = "saw.png"
RESULT = "diagnosis.json"
LISTED = 6
"""Other conventions that are shown."""


def run(config: DiagnoseConfig, policy: Declared | None) -> int:
    """Returns 1 if something was found."""
    if policy is None:
        raise UserError(
            "The expert needs no diagnosis.", why="it sees the simulator's state", fix="name a checkpoint's folder"
        )
    begun = str(getattr(policy, "identity", {}).get("partial", ""))
    if begun and not config.json:
        warn(begun)
    source = open_source(config.dataset)
    sentences = [] if config.suite is None else [task.language for task in suites.tasks(config.suite)]
    stage = None if config.suite is None else _stage(config, policy, source)
    keys = published.statistics(config.policy)
    found = diagnose(policy, source, count=config.questions, stage=stage, sentences=sentences, published=keys)
    rows = [("demonstrations", found.asked.observations), ("simulator", found.shown)]
    shown = [(title, seen) for title, seen in rows if seen]
    pictures.write(config.out / SHEET, shown, policy.specs.image.cameras, declared.pipeline_of(policy))
    about = {"policy": config.policy, "dataset": str(config.dataset), "suite": config.suite}
    result = {**about, **({"partial": begun} if begun else {}), **found.to_json()}
    write_json(config.out / RESULT, result)
    if config.json:
        say(json.dumps(result, indent=2))
    else:
        _tell(config, found)
    return int(bool(found.causes))


def _stage(config: DiagnoseConfig, policy: Declared, source: Source) -> Stage:
    """Tasks whose sentences the demonstrations have; the suite's first ones where none has."""
    assert config.suite is not None
    protocol = preset(config.protocol)
    protocol.scenes()
    protocol.horizon(config.suite)
    known = {ref.prompt for ref in source.episodes}
    everything = suites.tasks(config.suite)
    tasks = [task for task in everything if task.language in known] or list(everything)
    size = protocol.camera_size if protocol.camera_size != "policy" else policy.specs.image.height
    return Stage(
        tasks=tuple(tasks[: config.episodes]),
        protocol=replace(protocol, camera_size=size),
        sim=SimConfig(
            camera_size=size,
            cameras=policy.specs.image.cameras,
            backend=config.backend,
            allow_mujoco=config.allow_mujoco,
        ),
        steps=config.steps,
    )


def _tell(config: DiagnoseConfig, found: Diagnosis) -> None:
    _tell_measured(found)
    if not found.causes:
        say(f"\nNothing is wrong with how {config.policy} is run, as far as this can tell.")
        say("If it fails all the same, it has not learned enough: more demonstrations, more steps, another protocol.")
    for number, cause in enumerate(found.causes, start=1):
        say(f"\n{number}. {cause.name} ({cause.word})\n   {cause.what}\n   fix: {cause.fix}")
    say(f"\nwhat it saw: {config.out / SHEET}; all figures: {config.out / RESULT}")


def _tell_measured(found: Diagnosis) -> None:
    rows: list[list[object]] = [["questions", len(found.asked.questions)]]
    if found.recorded is not None:
        rows.append(["error on demonstrations (1: a constant's)", f"{found.recorded.error:.2f}"])
        rows.append(["error of another question's answer", f"{found.chance:.2f}"])
    if found.simulated is not None:
        rows.append(["error at the expert's states in the simulator", f"{found.simulated.error:.2f}"])
    if found.used is not None:
        rows += [[f"depends on {name} (1: on nothing else)", f"{s:.2f}"] for name, s in found.used.shares.items()]
        if found.used.swapped_error is not None:
            rows.append(["error with another task's sentence", f"{found.used.swapped_error:.2f}"])
    if found.steady is not None:
        rows.append(["asked again; alone and among others", f"{found.steady.again:.1g}; {found.steady.alone:.1g}"])
    if found.played is not None:
        played = found.played.to_json()
        rows.append(["short episodes in the simulator that succeeded", f"{played['successes']}/{played['episodes']}"])
        rows.append(["arm saturated, gripper closed (shares)", f"{played['saturated']}, {played['gripper_closed']}"])
        rows.append(["executes so many actions of each answer", "{} of {}".format(*played["executes"])])
    table("", ["measured", ""], rows)
    if found.recorded is not None:
        best = sorted(found.recorded.tried, key=lambda each: each.error)[:LISTED]
        rows = [[each.candidate.name, f"{each.error:.2f}", "better" if each.better else ""] for each in best]
        table("", ["the best of the other conventions", "error", ""], rows)
