"""`handeye serve` as a process: it says where it listens, answers, and ends when it is told to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from handeye.cli import main
from handeye.policy.scripted import Noise
from handeye.policy.websocket import Patience, Remote
from handeye.types import Observation

LIMIT = 60.0
SEEN = Observation(images={}, proprio=np.zeros(8, np.float32), prompt="x", seed=3)


@contextmanager
def served(*flags: str, policy: str = "noise") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    environment = {k: v for k, v in os.environ.items() if k != "HANDEYE_TOKEN"} | {"PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", "handeye.cli", "serve", policy, "--port", "0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"ws://127\.0\.0\.1:\d+", line)
        assert found, line + process.stdout.read()
        yield process, found.group()
    finally:
        process.kill()
        process.wait(LIMIT)
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with served() as (process, address), Remote(address, patience=Patience(connect=20.0)) as remote:
        np.testing.assert_array_equal(remote.act([SEEN])[0].actions, Noise().act([SEEN])[0].actions)
        process.send_signal(number)
        said, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 0, said
        assert number.name in said and "1 answered" in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["expert"], "cannot be served"),
        (["no/such/checkpoint"], "no/such/checkpoint"),
        (["zero", "--batch", "0"], "--batch"),
        (["zero", "--port", "70000"], "--port"),
        (["zero", "--idle-seconds", "0"], "--idle-seconds"),
        (["zero", "--tls-cert", "x.pem"], "--tls-key"),
        (["zero", "--token-file", "no/such/file"], "no/such/file"),
        (["zero", "--host", "192.0.2.1", "--port", "0"], "Cannot listen"),
    ],
)
def test_wrong_input(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["serve", *words])
    assert stop.value.code == 2
    assert says in capsys.readouterr().err
