"""On a Ray cluster of two nodes: the records of one machine, whatever is lost on the way, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.results import EPISODES

pytest.importorskip("ray", reason="Ray is an optional extra: pip install 'handeye[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PROGRAM = Path(__file__).parents[1] / "distributed" / "ray_cluster.py"
LIMIT = 150.0
"""Seconds for anything here."""

Evaluate = Callable[..., Path]


@dataclass
class RunningCluster:
    process: subprocess.Popen[str]
    address: str
    faults: Path

    def lose_a_node(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("lose\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "lost\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Everything that is started here carries a mark, and whoever carries it is gone at the end."""
    mark = f"HANDEYE_TEST_MARK={uuid.uuid4().hex}"
    name, _, value = mark.partition("=")
    faults = tmp_path_factory.mktemp("faults")
    yield {**os.environ, name: value, "HANDEYE_FAKE_FAULTS": str(faults), "RAY_USAGE_STATS_ENABLED": "0"}
    deadline = time.monotonic() + 20
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for process in left:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert not left, "Ray's processes outlive the cluster"


def marked(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


@pytest.fixture
def cluster(environment: dict[str, str], tmp_path: Path) -> Iterator[RunningCluster]:
    with (tmp_path / "cluster.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            assert process.stdin is not None and process.stdout is not None
            line = process.stdout.readline()
            while line and not line.startswith("address "):
                line = process.stdout.readline()
            assert line, (tmp_path / "cluster.log").read_text()[-2000:]
            yield RunningCluster(process, line.split()[1], Path(environment["HANDEYE_FAKE_FAULTS"]))
        finally:
            with suppress(OSError):
                process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
            process.stdout.close()  # type: ignore[union-attr]


def start(environment: dict[str, str], address: str, out: Path, *flags: str) -> subprocess.Popen[str]:
    words = ["evaluate", "noise", "--suite", "fake", "--episodes", "50", "--workers", "3", "--ray", address]
    return subprocess.Popen(
        [sys.executable, "-m", "handeye.cli", *words, "--out", str(out), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def end(process: subprocess.Popen[str]) -> str:
    try:
        said, _ = process.communicate(timeout=LIMIT)
        return said
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def count(out: Path) -> int:
    return (out / EPISODES).read_bytes().count(b"\n") if (out / EPISODES).exists() else 0


def wait_for(episodes: int, out: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + LIMIT
    while count(out) < episodes and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    assert count(out) >= episodes, process.stdout.read() if process.poll() is not None else "too slow"  # type: ignore[union-attr]


def lines(out: Path) -> list[dict[str, Any]]:
    return results.comparable(results.read(out).values())


def test_a_lost_node_a_killed_driver_and_faulty_workers_do_not_reach_a_record(
    cluster: RunningCluster, environment: dict[str, str], evaluate: Evaluate, tmp_path: Path
) -> None:
    out = tmp_path / "cluster"
    for fault in ("0-7.kill", "0-12.raise", "0-20.hang"):
        (cluster.faults / fault).touch()
    first = start(environment, cluster.address, out, "--hang-after", "3", "--policies", "2", "--attempts", "9")
    try:
        wait_for(30, out, first)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    finally:
        end(first)
    kept = count(out)
    second = start(environment, cluster.address, out, "--hang-after", "3", "--attempts", "9", "--videos", "failures")
    try:
        wait_for(kept + 20, out, second)
        cluster.lose_a_node()
    finally:
        said = end(second)
    assert second.returncode == 0, said
    whole = evaluate("whole", "noise", tasks=(), episodes=50)
    assert lines(out) == lines(whole)
    assert len(lines(out)) == count(out) == 200, "no finished episode was run again"
    assert not list(cluster.faults.iterdir()), "every fault happened"
    found = results.read(out).values()
    assert max(result.timing["tries"] for result in found) > 1
    filmed = {path.stem for path in (out / "videos").iterdir()}
    assert len(filmed) > 10, "videos come home from wherever they were made"


def test_an_error_on_the_cluster_is_told_as_at_home(
    cluster: RunningCluster, environment: dict[str, str], tmp_path: Path
) -> None:
    (cluster.faults / "1-0.raise.always").touch()
    try:
        out = tmp_path / "broken"
        process = start(environment, cluster.address, out, "--tasks", "1", "--attempts", "2")
        said = end(process)
    finally:
        (cluster.faults / "1-0.raise.always").unlink()
    assert process.returncode == 2, said
    assert "1 of 50 episodes ended in an error" in said
    broken = results.read(out)["fake/1/init0/episode-0/0"]
    assert broken.outcome == "error" and broken.timing["tries"] == 2
    assert broken.error and "a fault that was asked for" in broken.error


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "ray://127.0.0.1:10001"])
def test_where_there_is_no_cluster(address: str) -> None:
    from handeye.distributed.cluster import connected

    with pytest.raises(UserError, match=f"no Ray cluster at {address}"), connected(address):
        pytest.fail("connected")
