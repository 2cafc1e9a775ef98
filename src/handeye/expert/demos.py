"""`handeye demos`: a folder of demonstrations in LIBERO's HDF5 layout, one file per task, made by the scripted expert.

    plan.json        what was asked, and the versions that can change a number; written first
    attempts.jsonl   one line per attempt: success, failure or error
    TASK_demo.hdf5   the first `per_task` successes of a task, in the order of their numbers
    manifest.json    every file's digest, counts, conventions and where it all came from; written last

An attempt is a pure function of its number, and a task's next attempt is begun only while those before it cannot
suffice. So the demonstrations are the same for any number of workers, and after a kill.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from handeye import console
from handeye.conventions import libero as conventions
from handeye.conventions.plain import to_plain
from handeye.data.hdf5.read import SUFFIX
from handeye.data.hdf5.write import merge_task_files
from handeye.distributed.crew import Ask, Crew
from handeye.distributed.jobs import Finished
from handeye.errors import UserError
from handeye.expert.config import DemosConfig
from handeye.expert.record import Attempt, Job, Recording, header, recorder
from handeye.protocols import presets
from handeye.protocols.protocol import differences
from handeye.records import append_line, provenance, read_json, read_lines, sha256_file, write_json
from handeye.sim import rendering, suites
from handeye.sim.config import Backend, SimConfig
from handeye.sim.suites import Task

Outcome = str
"""success | failure | error"""


def run(config: DemosConfig) -> Path:
    """Record, assemble, account. Returns the folder."""
    tasks = chosen_tasks(config)
    out = config.folder()
    plan = make_plan(config, tasks)
    check_plan(out, plan)
    if (out / "manifest.json").exists():
        console.say(f"{out} is complete already.")
        report(tasks, Ledger(config, tasks, out))
        return out
    write_json(out / "plan.json", plan)
    console.say(f"demonstrations of {config.suite} -> {out} ({plan['backend']})")
    ledger = Ledger(config, tasks, out)
    recording = make_recording(config, tasks, plan["backend"], out / "parts")
    crew: Crew[Job, Attempt] = Crew(
        make=hand,
        setup=recording,
        workers=config.workers,
        tries=config.tries,
        hang_after=config.hang_after,
        memory=round(config.worker_memory * 1e9),
        things="attempts",
        log="attempts.jsonl",
    )
    wanted = config.per_task * len(tasks)
    with console.progress(config.suite, wanted, done=sum(ledger.kept(task) for task in tasks)) as advance:

        def done(finished: Finished[Job, Attempt]) -> None:
            task = ledger.task(finished.job)
            before = ledger.kept(task)
            ledger.write(finished)
            advance(ledger.kept(task) - before, ledger.note())
            assemble(ledger, recording, task)

        for task in tasks:
            assemble(ledger, recording, task)
        crew.run(ledger.following, done)
    write_json(out / "manifest.json", manifest(plan, ledger, tasks, out))
    shutil.rmtree(recording.parts, ignore_errors=True)
    report(tasks, ledger)
    console.say(f"{sum(ledger.kept(task) for task in tasks)} demonstrations in {out}")
    return out


def hand(recording: Recording, ask: Ask) -> Callable[[Job], Attempt]:
    """For the crew. The expert asks nobody."""
    return recorder(recording)


def chosen_tasks(config: DemosConfig) -> tuple[Task, ...]:
    if not config.tasks:
        return suites.tasks(config.suite)
    return tuple(suites.task(config.suite, index) for index in dict.fromkeys(config.tasks))


def make_recording(config: DemosConfig, tasks: tuple[Task, ...], backend: Backend, parts: Path) -> Recording:
    return Recording(
        tasks=tasks,
        sim=SimConfig(camera_size=config.camera_size, arithmetic=config.arithmetic, backend=backend),
        protocol=presets.protocol(config.protocol),
        start=config.start,
        initial_states=config.initial_states,
        seed=config.seed,
        noise=config.noise,
        speed=config.speed,
        expert=config.expert,
        parts=parts,
    )


def make_plan(config: DemosConfig, tasks: tuple[Task, ...]) -> dict[str, Any]:
    """Everything that can change a demonstration."""
    protocol = presets.protocol(config.protocol)
    protocol.horizon(config.suite)  # an error now rather than in every worker
    if config.start == "stored":
        _check_stored(config, tasks)
    asked = asdict(config)
    for name in (
        "out",
        "workers",
        "tries",
        "hang_after",
        "worker_memory",
        *(() if config.start == "stored" else ("initial_states",)),
    ):
        del asked[name]
    plan = {
        **asked,
        "tasks": [task.name for task in tasks],
        "protocol": protocol.to_json(),
        "backend": rendering.choose(config.backend),
        "packages": provenance(("mujoco", "numpy"))["packages"],
    }
    return json.loads(json.dumps(plan))  # as it is read back: lists, not tuples


def _check_stored(config: DemosConfig, tasks: tuple[Task, ...]) -> None:
    for task in tasks:
        if config.initial_states[1] > (count := suites.initial_state_count(task)):
            raise UserError(
                f"{task.name} has {count} stored initial states, not {config.initial_states[1]}.",
                fix=f"use --initial-states {min(config.initial_states[0], count - 1)} {count}",
            )


def check_plan(out: Path, plan: dict[str, Any]) -> None:
    """A folder belongs to one plan."""
    if not (out / "plan.json").exists():
        if out.exists() and any(out.iterdir()):
            raise UserError(
                f"{out} is not empty and holds no plan.json.",
                why="it was not made by `handeye demos`, so nothing in it may be touched",
                fix="name another folder with --out",
            )
        return
    there = read_json(out / "plan.json", what="the plan of a folder of demonstrations")
    if different := list(differences(there, plan)):
        raise UserError(
            f"{out} holds demonstrations of another plan.",
            why="there | asked for: " + "; ".join(different),
            fix="name another folder with --out, or ask for what that one was begun with",
        )


class Ledger:
    """What came of each attempt so far, and which is next."""

    def __init__(self, config: DemosConfig, tasks: tuple[Task, ...], out: Path) -> None:
        self.per_task, self.most = config.per_task, config.per_task * config.give_up
        self.path, self.tasks = out / "attempts.jsonl", tasks
        self._by_index = {task.index: task for task in tasks}
        self._outcomes: dict[int, dict[int, Outcome]] = {task.index: {} for task in tasks}
        self._running: set[Job] = set()
        for line in read_lines(self.path):
            if line["task"] in self._outcomes:
                self._outcomes[line["task"]][line["number"]] = line["outcome"]
        for task in tasks:
            outcomes = self._outcomes[task.index]
            if not (out / f"{task.name}{SUFFIX}").exists():  # errors are tried again
                self._outcomes[task.index] = {n: outcome for n, outcome in outcomes.items() if outcome != "error"}

    def task(self, job: Job) -> Task:
        return self._by_index[job.task]

    def write(self, finished: Finished[Job, Attempt]) -> None:
        job, result = finished.job, finished.result
        line: dict[str, Any] = {"task": job.task, "number": job.number}
        if result is None:
            line |= {"outcome": "error", "error": finished.error}
        else:
            line |= {"outcome": "success" if result.success else "failure", "steps": result.steps}
        append_line(self.path, line)
        self._outcomes[job.task][job.number] = line["outcome"]
        self._running.discard(job)

    def numbers(self, task: Task) -> list[int]:
        """Of the demonstrations to keep: the first successes."""
        outcomes = self._outcomes[task.index]
        return [number for number in sorted(outcomes) if outcomes[number] == "success"][: self.per_task]

    def kept(self, task: Task) -> int:
        return len(self.numbers(task))

    def counts(self, task: Task) -> Counter[Outcome]:
        return Counter(self._outcomes[task.index].values())

    def finished(self, task: Task) -> bool:
        return self._next(task) is None and not any(job.task == task.index for job in self._running)

    def following(self, last: Job | None) -> Job | None:
        """Of the task that the worker has built already, else of the task that fewest work on."""
        crowd = Counter(job.task for job in self._running)
        tasks = sorted(self.tasks, key=lambda task: (last is None or task.index != last.task, crowd[task.index]))
        for task in tasks:
            if (number := self._next(task)) is not None:
                job = Job(task=task.index, number=number)
                self._running.add(job)
                return job
        return None

    def _next(self, task: Task) -> int | None:
        """None while those that run may suffice, or when the task has used up its attempts."""
        outcomes = self._outcomes[task.index]
        running = {job.number for job in self._running if job.task == task.index}
        if self.kept(task) + len(running) >= self.per_task:
            return None
        number = next(n for n in range(len(outcomes) + len(running) + 1) if n not in outcomes and n not in running)
        return number if number < self.most else None

    def note(self) -> str:
        total = sum((self.counts(task) for task in self.tasks), Counter[Outcome]())
        return f"{total['failure']} failed, {total['error']} errors"


def assemble(ledger: Ledger, recording: Recording, task: Task) -> None:
    """A finished task's file, of all its parts."""
    path = ledger.path.with_name(f"{task.name}{SUFFIX}")
    numbers = ledger.numbers(task)
    if numbers and not path.exists() and ledger.finished(task):
        parts = [recording.part(Job(task=task.index, number=number)) for number in numbers]
        merge_task_files(path, header(task), parts)
        shutil.rmtree(parts[0].parent)


def manifest(plan: dict[str, Any], ledger: Ledger, tasks: tuple[Task, ...], out: Path) -> dict[str, Any]:
    """Written last: a folder without it is not complete."""
    rows = []
    for task in tasks:
        path, numbers = out / f"{task.name}{SUFFIX}", ledger.numbers(task)
        counts = ledger.counts(task)
        rows.append(
            {
                "task": task.index,
                "name": task.name,
                "language": task.language,
                "demonstrations": len(numbers),
                "numbers": numbers,
                "attempts": sum(counts.values()),
                "failures": counts["failure"],
                "errors": counts["error"],
                "file": path.name if numbers else None,
                "bytes": path.stat().st_size if numbers else 0,
                "sha256": sha256_file(path) if numbers else None,
            }
        )
    specs = to_plain(conventions.specs(camera_size=plan["camera_size"]))
    return {"kind": "demonstrations", "plan": plan, "specs": specs, "tasks": rows, "provenance": provenance()}


def report(tasks: tuple[Task, ...], ledger: Ledger) -> None:
    rows = []
    for task in tasks:
        counts = ledger.counts(task)
        rows.append([task.name, sum(counts.values()), counts["success"], counts["failure"], counts["error"]])
    console.table("", ["task", "attempts", "successes", "failures", "errors"], rows)
    for task in tasks:
        if (kept := ledger.kept(task)) < ledger.per_task:
            console.warn(f"{task.name}: only {kept} of {ledger.per_task} demonstrations")
