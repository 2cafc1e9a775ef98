from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from handeye.data.loading.ahead import Ahead
from handeye.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))  # spawned processes import it too
import makers


@contextmanager
def hired(workers: int, room: int = 1 << 20) -> Iterator[Ahead]:
    ahead = Ahead(makers.work, workers, room=room)
    try:
        yield ahead
    finally:
        ahead.close()


def test_things_come_in_order_from_everybody() -> None:
    with hired(2, room=5000) as ahead:
        for size in (10_000, 3):  # the first does not fit into the room
            ahead.ask(("make", size))
        sizes, who = [], set()
        for size in (4097, 5, 6, 7):
            made = ahead.next()
            ahead.ask(("make", size))
            sizes.append(len(made["large"]))
            who.add(int(made["who"]))
            np.testing.assert_array_equal(made["large"], np.arange(sizes[-1], dtype=np.uint8))
            made["large"][:] = 0  # it is the caller's
        assert sizes == [10_000, 3, 4097, 5] and len(who) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in who)


def test_errors_come_in_their_turn_as_they_were(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with hired(2) as ahead:
        ahead.ask(("refuse", 0))
        ahead.ask(("make", 1))
        with pytest.raises(UserError) as caught:
            ahead.next()
        assert (caught.value.what, caught.value.why, caught.value.fix) == ("the data is broken", "a test", "mend it")
        ahead.ask(("fail", 0))
        ahead.next()
        with pytest.raises(RuntimeError, match=r"ZeroDivisionError: of a test"):
            ahead.next()
        ahead.ask(("die once", tmp_path / "note"))
        first = ahead.next()
        assert "lost (it was killed by SIGKILL" in capfd.readouterr().err
        ahead.ask(("die", 0))
        with pytest.raises(UserError, match=r"lost 3 times over the same batch.\n.*SIGKILL"):
            ahead.next()
        assert first["large"].tolist() == [0]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_nobody_outlives_the_parent(end: signal.Signals) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
import makers
from handeye.data.loading.ahead import Ahead
ahead = Ahead(makers.work, 2, room=1000)
for _ in range(2):
    ahead.ask(("make", 1))
print(*(int(ahead.next()["who"]) for _ in range(2)), flush=True)
ahead.ask(("hang", 0))
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        pids = process.stdout.readline().split()
        os.kill(process.pid, end)
        process.wait(20)
        deadline = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in pids):
            assert time.monotonic() < deadline, pids
            time.sleep(0.05)
        assert len(pids) == 2
    finally:
        process.kill()
        process.communicate(timeout=20)
