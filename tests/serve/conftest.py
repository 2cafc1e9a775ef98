"""A server in a thread of the test, and policies to serve."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import websockets.sync.client

from handeye.conventions import libero
from handeye.conventions.spec import Specs
from handeye.policy.wire import unpack
from handeye.serve.config import ServeConfig
from handeye.serve.server import Server, describe
from handeye.types import ActionChunk, EpisodeId, Observation

LIMIT = 20.0
"""Seconds that anything in these tests may take."""


@dataclass
class Looker:
    """Its answer is a function of everything in the observation. Waits at the gate while that is closed."""

    specs: Specs = field(default_factory=lambda: libero.specs(camera_size=16))
    chunk: int = 5
    seconds: float = 0.0
    batches: list[int] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    seeds: list[int] = field(default_factory=list)
    raises: Exception | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def reset(self, episodes: Sequence[EpisodeId]) -> None: ...

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        self.batches.append(len(observations))
        self.entered.set()
        assert self.gate.wait(LIMIT)
        time.sleep(self.seconds)
        if self.raises is not None:
            raise self.raises
        return [ActionChunk(actions=self.answer(seen)) for seen in observations]

    def answer(self, seen: Observation) -> np.ndarray:
        self.seeds.append(seen.seed)
        weights = {name: np.arange(image.size).reshape(image.shape) % 251 for name, image in seen.images.items()}
        looked = [int((image * weights[name]).sum()) for name, image in sorted(seen.images.items())]
        felt = int.from_bytes(seen.proprio.tobytes()[:4], "little")
        words = sum(seen.prompt.encode())
        random = np.random.default_rng([seen.seed, felt, words, *looked])
        return random.uniform(-1, 1, (self.chunk, 7)).astype(np.float32)


@dataclass
class Running:
    """A server that runs now."""

    address: str
    log: list[str]
    server: Server
    _stop: Callable[[], None]
    _thread: threading.Thread

    @property
    def host_port(self) -> tuple[str, int]:
        host, _, port = self.address.partition("://")[2].rpartition(":")
        return host, int(port)

    def stop(self, timeout: float = LIMIT) -> None:
        self._stop()
        self._thread.join(timeout)
        assert not self._thread.is_alive(), "the server did not stop"


Serving = Callable[..., Running]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """`serving(policy, batch=4, ...)` with ServeConfig's fields, `metadata=` or `clock=`."""
    started: list[Running] = []

    def start(policy: Any, *, metadata: Mapping[str, Any] | None = None, **flags: Any) -> Running:
        clocks = {name: flags.pop(name) for name in ("clock", "policy_clock") if name in flags}
        config = ServeConfig(policy="test", **({"port": 0, "wait_ms": 1.0, "drain_seconds": 5.0} | flags))
        lines: list[str] = []
        said = describe(policy, config, {"name": "test"}) if metadata is None else metadata
        server = Server(policy, config, said, log=lines.append, **clocks)
        started.append(_run(server, lines))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def _run(server: Server, lines: list[str]) -> Running:
    ready = threading.Event()
    found: dict[str, Any] = {}

    async def serve() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        found["stop"] = lambda: loop.call_soon_threadsafe(stop.set)

        def tell(addresses: list[str]) -> None:
            found["addresses"] = addresses
            ready.set()

        await server.run(stop, tell)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(LIMIT), "the server did not start"

    def stop_once() -> None:
        if thread.is_alive():
            found["stop"]()

    return Running(found["addresses"][0], lines, server, stop_once, thread)


@pytest.fixture
def looker() -> Looker:
    return Looker()


@pytest.fixture
def connected() -> Iterator[Callable[..., websockets.sync.client.ClientConnection]]:
    """`connected(running)`: a plain websocket, its metadata already read; closed at the end."""
    made = ExitStack()

    def connect(running: Running, *, skip: bool = True, **options: Any) -> websockets.sync.client.ClientConnection:
        options = {"compression": None, "max_size": None, "proxy": None, "open_timeout": LIMIT} | options
        connection = made.enter_context(websockets.sync.client.connect(running.address, **options))
        connection.close_timeout = 0.2
        if skip:
            assert isinstance(unpack(connection.recv(timeout=LIMIT)), dict)
        return connection

    with made:
        yield connect


def observation(index: int, size: int = 16, cameras: Sequence[str] = libero.CAMERAS) -> Observation:
    random = np.random.default_rng(index)
    return Observation(
        images={name: random.integers(0, 256, (size, size, 3), np.uint8) for name in cameras},
        proprio=random.normal(size=8).astype(np.float32),
        prompt=f"pick up cube {index}",
        seed=index,
    )


@pytest.fixture
def observe() -> Callable[..., Observation]:
    return observation


@pytest.fixture(scope="session")
def recipes() -> Path:
    return Path(__file__).parents[2] / "recipes"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """An untrained `tiny` that looks through both cameras at 64 x 64."""
    import torch  # here: most tests of this folder do without

    from handeye.checkpoints.manifest import Manifest
    from handeye.checkpoints.save import save
    from handeye.conventions.plain import to_plain
    from handeye.data.pipeline.pipeline import standard_pipeline
    from handeye.data.statistics import measure
    from handeye.models.tiny import Config, Model

    model = Model(
        Config(image_size=32, channels=(4, 8, 8), keypoints=4, overview=8, width=16, layers=1, sentence_width=8)
    )
    model.initialise(torch.Generator().manual_seed(0))
    random = np.random.default_rng(0)
    statistics = measure([(random.uniform(-0.5, 0.5, (50, 7)), random.normal(size=(50, 8)))])
    specs = libero.specs(camera_size=64)
    manifest = Manifest(
        family="tiny",
        config=to_plain(model.config),
        files={},
        tensors=0,
        specs=specs,
        pipeline=standard_pipeline(specs, statistics, image_size=32, prompt_length=64),
        statistics=statistics,
        merged=False,
        step=1,
        provenance={},
    )
    save(tmp_path / "run" / "final", manifest, model.state_dict())
    return tmp_path / "run" / "final"
