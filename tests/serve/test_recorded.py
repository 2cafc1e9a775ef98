"""The recorded exchange of openpi's own client and server: ours sends the same bytes, in the same order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.policy.wire import unpack
from handeye.types import ActionChunk, EpisodeId, Observation

pytestmark = pytest.mark.goldens
LIMIT = 20.0


@dataclass
class Recorded:
    """Gives the recorded answer to everything."""

    specs: Specs
    actions: np.ndarray

    def reset(self, episodes: Sequence[EpisodeId]) -> None: ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        return [ActionChunk(actions=self.actions) for _ in observations]


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that is so much later each time it is read, as the one in the recording was."""
    return (seconds * reading for reading in itertools.count()).__next__


def taking(seconds: float) -> Callable[[], float]:
    """A clock by which whatever lies between two readings took so long."""
    return itertools.cycle((0.0, seconds)).__next__


def test_the_recorded_exchange(goldens: Path, serving: Any, connected: Any) -> None:
    folder = goldens / "pi05" / "wire"
    about = json.loads((folder / "wire.json").read_text())
    message = {path.stem[2:]: path.read_bytes() for path in folder.glob("[1-9]_*.bin")}
    assert len(message) == 6
    first, second = unpack(message["response_first"]), unpack(message["response_second"])
    height, width, _ = unpack(message["request"])["observation/image"].shape
    specs = libero.specs(camera_size=height)
    policy = Recorded(replace(specs, image=replace(specs.image, width=width)), np.array(first["actions"]))
    running = serving(
        policy,
        metadata=unpack(message["metadata"]),
        clock=ticking(first["server_timing"]["infer_ms"] / 1000),
        policy_clock=taking(first["policy_timing"]["infer_ms"] / 1000),
    )
    assert second["server_timing"]["prev_total_ms"] == 3 * first["server_timing"]["infer_ms"], "4 readings a question"

    client = connected(running, skip=False)
    assert client.recv(timeout=LIMIT) == message["metadata"]
    for answer in ("response_first", "response_second"):
        client.send(message["request"])
        assert client.recv(timeout=LIMIT) == message[answer]
    client.send(message["bad_request"])
    text = client.recv(timeout=LIMIT)
    assert isinstance(text, str) and about["6_error"]["frame"] == "text"
    assert "observation/" in text and "missing" in text
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=LIMIT)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (about["7_close"]["code"], about["7_close"]["reason"])


def test_health_as_recorded(goldens: Path, serving: Any, looker: Any) -> None:
    import http.client

    said = json.loads((goldens / "pi05" / "wire" / "wire.json").read_text())["healthz"]
    asked = http.client.HTTPConnection(*serving(looker).host_port, timeout=LIMIT)
    try:
        asked.request("GET", said["request"].split()[1])
        answer = asked.getresponse()
        assert answer.status == said["status"]
        assert answer.read().decode() == said["body"]
        assert answer.getheader("Content-Type") == said["content_type"]
    finally:
        asked.close()
