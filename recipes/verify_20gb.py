"""Is a set of any size indexed, measured, verified and streamed in the same memory? Makes sets of N gigabytes.

    python recipes/verify_20gb.py FOLDER --gigabytes 2 20 --format rlds

For each size the verbs run as programs of their own, and for each is printed: exit code, seconds, the processor's among
them, the peak memory of its largest process, and the peak of all its processes together (every 0.2 s; what they share
counts for each). The sets are of two 256 x 256 cameras, JPEG (rlds) or raw (hdf5), and no two episodes are the same.
FOLDER must be new, and is deleted in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from handeye.console import size
from handeye.data.bench.synthetic import Maker
from handeye.data.hdf5.writer import Hdf5Writer
from handeye.data.rlds import example, tfrecord
from handeye.data.rlds.describe import VERSION, features_json, info_json
from handeye.data.rlds.features import ACTIONS, FEATURES, INFO
from handeye.data.rlds.write import RldsWriter

LENGTH = 150
"""Steps of an episode: LIBERO's have 162 on average."""

POOL = 40
"""RLDS: episodes whose pictures are encoded; the others have their pictures, and actions that differ a little."""

BATCHES = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[2.0, 20.0])
    parser.add_argument("--format", choices=["hdf5", "rlds"], default="rlds")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    if asked.folder.exists():
        sys.exit(f"{asked.folder} exists already")
    try:
        for gigabytes in asked.gigabytes:
            asked.folder.mkdir(parents=True)
            if shutil.disk_usage(asked.folder).free < (gigabytes + 5) * 1e9:
                sys.exit(f"there is no room for {gigabytes:g} GB and 5 GB to spare")
            root, began = asked.folder / "set", time.monotonic()
            episodes = {"rlds": make_rlds, "hdf5": make_hdf5}[asked.format](root, int(gigabytes * 1e9))
            total = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
            say(f"{asked.format}: {size(total)}, {episodes} episodes, made in {time.monotonic() - began:.0f} s")
            for name, command in commands(root, asked.folder, asked.workers):
                say(name, measure(command, asked.folder))
            shutil.rmtree(asked.folder)
    finally:
        shutil.rmtree(asked.folder, ignore_errors=True)


def commands(root: Path, folder: Path, workers: int) -> Iterator[tuple[str, list[str]]]:
    verb = [sys.executable, "-m", "handeye.cli", "data"]
    yield "index ", [*verb, "index", str(root), "--out", str(folder / "index.jsonl")]
    yield "stats ", [*verb, "stats", str(root)]
    yield "verify", [*verb, "verify", str(root), "--suite", "none", "--workers", str(workers), "--json"]
    yield "stream", [sys.executable, __file__, "stream", str(root)]
    yield "again ", [sys.executable, __file__, "stream", str(root)]


def stream(root: Path) -> None:
    """What training does with such a set before its first batch, and then some batches of 32."""
    from handeye.data.loading.batches import Batches
    from handeye.data.loading.demonstrations import Demonstrations
    from handeye.data.loading.samples import Samples
    from handeye.data.pipeline.pipeline import standard_pipeline

    began = time.monotonic()
    demos = Demonstrations(root)
    demos.digest()
    pipeline = standard_pipeline(demos.specs, demos.statistics(), image_size=224, prompt_length=128)
    batches = Batches(Samples(demos, pipeline, 8, frames="stream"), 32, seed=0)
    batches.next()
    ready = time.monotonic()
    for _ in range(BATCHES):
        batches.next()
    pace = BATCHES * 32 / (time.monotonic() - ready)
    say(f"first batch after {ready - began:.1f} s, then {pace:.0f} samples/s")


def measure(command: list[str], folder: Path) -> str:
    """Of a program and its children. Memory is what they hold or map, not the page cache."""
    environment = {**os.environ, "HANDEYE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    began, over = time.monotonic(), threading.Event()
    largest, together = [0], [0]
    with (folder / "said").open("w+") as said, (folder / "errors").open("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=errors)

        def watch() -> None:
            while not over.wait(0.2):
                found = [held(pid) for pid in family(process.pid)]
                largest[0] = max(largest[0], *(peak for _, peak in found))
                together[0] = max(together[0], sum(now for now, _ in found))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            over.set()
            watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0), errors.seek(0)
        words = summary(said.read() or errors.read())
    seconds, processor = time.monotonic() - began, used.ru_utime + used.ru_stime
    peaks = f"largest process {size(largest[0])}, all together {size(together[0])}"
    return f"exit {process.returncode} {seconds:6.0f} s, {processor:.0f} s of processor; {peaks}; {words}"


def summary(said: str) -> str:
    """Of what a verb printed."""
    try:
        found = json.loads(said)
        return f"{found['verdict']}, {len(found['findings'])} findings"
    except ValueError:
        return said.strip().splitlines()[-1]


def held(pid: int) -> tuple[int, int]:
    """Bytes that a process holds now, and held at most since it began."""
    try:
        rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(rows["VmRSS"].split()[0]) * 1024, int(rows["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # it ended
        return 0, 0


def family(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from family(int(child))


def make_hdf5(root: Path, total: int) -> int:
    """Ten tasks, one file each, as LIBERO's own files lie there: not compressed."""
    maker, writer, tasks = Maker(tasks=10), Hdf5Writer(packed=False), 10
    each = max(1, round(total / (LENGTH * 2 * 256 * 256 * 3 * tasks)))
    for task in range(tasks):
        parts = [root.parent / "parts" / str(number) for number in range(each)]
        for number, part in enumerate(parts):
            writer.encode(maker.make(number * tasks + task, LENGTH), part)
        writer.assemble(parts, root)
        shutil.rmtree(root.parent / "parts")
    return tasks * each


def make_rlds(root: Path, total: int) -> int:
    maker, rng, part = Maker(tasks=10), np.random.default_rng(0), root.parent / "part"
    pool = []
    for number in range(POOL):
        RldsWriter(name="large").encode(maker.make(number, LENGTH), part)
        payload = part.read_bytes()[tfrecord.HEADER : -tfrecord.FOOTER]
        where = example.layout(payload, 0, len(payload))[ACTIONS]
        pool.append((payload, example.floats(payload, where, 7 * LENGTH)))
    part.unlink()
    episodes = max(1, round(total / np.mean([len(payload) for payload, _ in pool])))
    folder, shards, written = root / "large" / VERSION, -(-episodes // POOL), 0
    folder.mkdir(parents=True)
    lengths = [min(POOL, episodes - shard * POOL) for shard in range(shards)]
    for shard, count in enumerate(lengths):
        with (folder / f"large-train.tfrecord-{shard:05d}-of-{shards:05d}").open("wb") as file:
            for payload, actions in pool[:count]:
                noise = rng.normal(0, 1e-3, actions.shape) * (np.arange(len(actions)) % 7 != 6)
                changed = np.clip(actions + noise, -1, 1).astype("<f4")
                record = payload.replace(actions.astype("<f4").tobytes(), changed.tobytes(), 1)
                file.write(tfrecord.framed(record))
                written += len(record)
    (folder / FEATURES).write_text(
        json.dumps(features_json({c: (256, 256) for c in ("agentview", "wrist")}, joints=False))
    )
    (folder / INFO).write_text(json.dumps(info_json("large", lengths, written)))
    return episodes


def say(*words: object) -> None:
    print(*words, flush=True)  # noqa: T201


if __name__ == "__main__":
    if sys.argv[1:2] == ["stream"]:
        stream(Path(sys.argv[2]))
    else:
        main()
