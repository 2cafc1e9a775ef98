"""Evaluations whose workers and parents are killed at random points, compared with one that nobody touched.

    python recipes/kill_evaluation.py --rounds 20 [--suite tabletop] [--seed 0] [--out runs/killed]

Each round draws a number of workers (1, 2, 4), a batch size (1, 8) and when to kill what: workers by SIGKILL now and
then, the whole program by SIGKILL a few times, each time started again with another number of workers. In the end the
records must be those of one worker asked one by one, to the last bit of every action. A policy with weights answers
(untrained `tiny`, four rows at a time), so the batches matter. The short version is in tests/evaluate.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from handeye.checkpoints.save import save
from handeye.console import say
from handeye.evaluate import results
from handeye.serve.untrained import checkpoint

PARENT_KILLS = 3
LIMIT = 1800.0
"""Seconds for one start of the program."""


def main() -> int:
    arguments = parse()
    out = arguments.out
    policy = out / "policy"
    if not policy.exists():
        made = checkpoint(camera_size=64)
        save(policy, made.manifest, made.model.state_dict())
    rng = random.Random(arguments.seed)
    episodes = arguments.episodes * len(arguments.tasks)
    wanted = out / "untouched"
    subprocess.run(command(arguments, policy, wanted, workers=1, batch=1), check=True, timeout=LIMIT)
    bad = killed_workers = killed_parents = 0
    for number in range(arguments.rounds):
        folder = out / f"round{number}"
        for kill in [*sorted(rng.sample(range(1, episodes), PARENT_KILLS)), None]:
            workers, batch = rng.choice((1, 2, 4)), rng.choice((1, 8))
            started = command(arguments, policy, folder, workers=workers, batch=batch)
            killed_workers += watched(started, folder, kill, rng, arguments.every)
            killed_parents += kill is not None
        same = records(folder) == records(wanted)
        bad += not same
        word = "same records" if same else "DIFFERENT RECORDS"
        say(f"round {number}: {word}, {killed_workers} workers and {killed_parents} parents killed so far")
    return 1 if bad else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--suite", default="tabletop")
    parser.add_argument("--tasks", type=int, nargs="+", default=[0, 8])
    parser.add_argument("--episodes", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between two kills of a worker, about")
    parser.add_argument("--out", type=Path, default=Path("runs/killed"))
    return parser.parse_args()


def command(arguments: argparse.Namespace, policy: Path, out: Path, *, workers: int, batch: int) -> list[str]:
    words = ["evaluate", str(policy), "--suite", arguments.suite, "--episodes", str(arguments.episodes), "--rows", "4"]
    words += ["--tasks", *map(str, arguments.tasks), "--workers", str(workers), "--batch", str(batch)]
    words += ["--attempts", "1000", "--out", str(out)]
    return [sys.executable, "-m", "handeye.cli", *words]


def watched(words: list[str], out: Path, kill: int | None, rng: random.Random, every: float) -> int:
    """Run it; kill workers now and then, and the program when so many episodes are there. How many workers died."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    killed, deadline = 0, time.monotonic() + LIMIT
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{out} takes too long")
            if kill is not None and count(out) >= kill:
                process.kill()
                process.wait()
                break
            time.sleep(0.02)
            if rng.random() < 0.02 / every and (workers := children(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(workers), signal.SIGKILL)
                    killed += 1
        if kill is None and process.returncode != 0:
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return killed


def children(parent: int) -> list[int]:
    """Its workers: spawned processes, not Python's resource tracker."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_child = int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and b"spawn_main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def count(out: Path) -> int:
    file = out / results.EPISODES
    return file.read_bytes().count(b"\n") if file.exists() else 0


def records(out: Path) -> list[dict[str, object]]:
    return results.comparable(results.read(out).values())


if __name__ == "__main__":
    sys.exit(main())
