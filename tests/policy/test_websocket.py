"""The client against a small server that does what openpi's does, and against servers that do worse."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from handeye.conventions import libero
from handeye.errors import UserError
from handeye.policy import formats, websocket
from handeye.policy.websocket import Patience, Remote, ServerError
from handeye.types import ActionChunk, Observation

LIMIT = 20.0
SOON = Patience(connect=10.0, answer=5.0)


# ---- openpi's side, written from its description alone ---------------------------------------------------------------


def openpi_pack(value: Any) -> bytes:
    def default(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return {b"__ndarray__": True, b"data": part.tobytes(), b"dtype": part.dtype.str, b"shape": part.shape}
        return {b"__npgeneric__": True, b"data": part.item(), b"dtype": part.dtype.str}

    return bytes(msgpack.packb(value, default=default))


def openpi_unpack(message: bytes) -> Any:
    def hook(part: dict[Any, Any]) -> Any:
        if b"__ndarray__" in part:
            return np.ndarray(part[b"shape"], np.dtype(part[b"dtype"]), part[b"data"])
        return part

    return msgpack.unpackb(message, object_hook=hook)


class OpenpiServer:
    """Metadata first; infers on the event loop; a traceback as text and 1011 when that raises."""

    def __init__(self, infer: Callable[[dict[str, Any]], dict[str, Any]], metadata: Any = None, port: int = 0) -> None:
        self.infer, self.metadata, self.port = infer, {} if metadata is None else metadata, port
        self.questions: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.connections = 0
        self.drop = 0
        """So many questions are answered by hanging up."""

        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.headers.append(connection.request.headers.get("Authorization"))
        self.connections += 1
        await connection.send(self.metadata if isinstance(self.metadata, bytes | str) else openpi_pack(self.metadata))
        previous = None
        async for message in connection:
            begun = time.monotonic()
            try:
                assert isinstance(message, bytes)
                question = openpi_unpack(message)
                self.questions.append(question)
                if self.drop > 0:
                    self.drop -= 1
                    connection.transport.abort()
                    return
                answer = self.infer(question)
                if isinstance(answer, dict):
                    answer["server_timing"] = {"infer_ms": 1.0} | ({"prev_total_ms": previous} if previous else {})
                await connection.send(openpi_pack(answer))
            except Exception:
                await connection.send(traceback.format_exc())
                await connection.close(1011, "Internal server error. Traceback included in previous frame.")
                return
            previous = 1000 * (time.monotonic() - begun)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await serve(self._handle, "127.0.0.1", self.port, compression=None, max_size=None, close_timeout=0.1)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        await server.wait_closed()

    @property
    def address(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> OpenpiServer:
        self._thread.start()
        assert self._ready.wait(LIMIT)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


def answers(question: dict[str, Any]) -> dict[str, Any]:
    """Ten steps that depend on all that was seen."""
    seen = [float(question[key].mean()) for key in sorted(question) if isinstance(question[key], np.ndarray)]
    return {"actions": np.linspace(-1, 1, 70).reshape(10, 7) * 0.1 + sum(seen) / 1000}


@pytest.fixture
def openpi() -> Iterator[OpenpiServer]:
    with OpenpiServer(answers) as server:
        yield server


def observation(index: int = 0, size: int = 256) -> Observation:
    random = np.random.default_rng(index)
    return Observation(
        images={name: random.integers(0, 256, (size, size, 3), np.uint8) for name in libero.CAMERAS},
        proprio=random.normal(size=8).astype(np.float32),
        prompt=f"open drawer {index}",
        seed=index,
    )


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def raw_server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A TCP server that does to each connection what it is told."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.1)
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                try:
                    connection, _ = listening.accept()
                except TimeoutError:
                    continue
                with connection:
                    connection.settimeout(LIMIT)
                    try:
                        behave(connection)
                        stop.wait(LIMIT)
                    except OSError:
                        pass

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            stop.set()
            thread.join(LIMIT)


def shake_hands(connection: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    connection.sendall(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )


# ---- what is asked and answered --------------------------------------------------------------------------------------


def test_an_openpi_server_is_asked_as_its_own_client_does(openpi: OpenpiServer) -> None:
    with Remote(openpi.address, patience=SOON) as remote:
        assert remote.specs == libero.specs(camera_size=256)
        chunks = remote.act([observation(0), observation(1)])
    assert [len(chunk.actions) for chunk in chunks] == [10, 10]
    for index, (question, chunk) in enumerate(zip(openpi.questions, chunks, strict=True)):
        seen = observation(index)
        assert list(question) == ["observation/image", "observation/wrist_image", "observation/state", "prompt"]
        for key in ("observation/image", "observation/wrist_image"):
            assert (question[key].dtype, question[key].shape) == (np.uint8, (224, 224, 3))
        assert (question["observation/state"].dtype, question["prompt"]) == (np.float64, f"open drawer {index}")
        np.testing.assert_array_equal(question["observation/state"], seen.proprio)
        expected = answers(question)["actions"]
        assert isinstance(chunk, ActionChunk) and chunk.actions.dtype == np.float32
        np.testing.assert_array_equal(chunk.actions, expected.astype(np.float32))
        chunk.actions[0] = 0  # ours to change
    assert openpi.connections == 1


def test_images_are_mirrored_and_nothing_else(openpi: OpenpiServer) -> None:
    """A raw rendering turned by 180 degrees is the upright picture mirrored."""
    seen = observation(0, size=224)
    raw = {name: picture[::-1] for name, picture in seen.images.items()}  # as robosuite renders: bottom row first
    with Remote(openpi.address, patience=SOON) as remote:
        remote.act([seen])
    for name, key in formats.OPENPI_IMAGES.items():
        np.testing.assert_array_equal(openpi.questions[0][key], raw[name][::-1, ::-1])


@pytest.mark.goldens
def test_images_are_resized_as_openpis_client_does(goldens: Path) -> None:
    """The recorded 256 x 256 picture and what openpi's client made of it. It had been turned already."""
    arrays = np.load(goldens / "pi05" / "transforms.npz")
    sizes = {key.split("/")[0]: arrays[key].shape for key in arrays.files if key.endswith("client_pil_u8")}
    fitting = [name for name, shape in sizes.items() if shape == (224, 224, 3)]
    assert fitting
    for name in fitting:
        upright = arrays[f"{name}/in_u8"][:, ::-1]
        seen = Observation(images={"agentview": upright, "wrist": upright}, proprio=np.zeros(8, np.float32), prompt="x")
        for key in formats.OPENPI_IMAGES.values():
            off = np.abs(formats.openpi_question(seen)[key].astype(int) - arrays[f"{name}/client_pil_u8"])
            assert off.max() <= 1 and (off > 0).mean() < 0.05, "another version of Pillow may round the other way"


@pytest.mark.goldens
def test_float_images_are_read_as_openpis_server_does(goldens: Path) -> None:
    arrays = np.load(goldens / "pi05" / "transforms.npz")
    np.testing.assert_array_equal(formats._as_bytes(arrays["libero/all256/in"]), arrays["libero/all256/out"])
    np.testing.assert_array_equal(
        formats._as_bytes(arrays["libero/in/observation/wrist_image_float_chw"]),
        arrays["libero/inputs/image/left_wrist_0_rgb"],
    )


def test_which_policy_it_is(openpi: OpenpiServer, capsys: pytest.CaptureFixture[str]) -> None:
    with Remote(openpi.address, patience=SOON) as remote:
        assert remote.identity["server"] == "openpi protocol, undeclared"
        assert remote.identity["metadata"] == hashlib.sha256(openpi_pack({})).hexdigest()
    assert "declares no conventions" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        {"actions": np.zeros((10, 14))},  # ALOHA's
        {"actions": np.zeros((0, 7))},
        {"actions": np.zeros(7)},
        {"actions": np.array([["a"] * 7])},
        {"actions": [[0.0] * 7]},
        {"chunks": []},
        7,
    ],
)
def test_answers_that_no_libero_robot_can_execute(answer: Any, openpi: OpenpiServer) -> None:
    openpi.infer = lambda question: answer
    with Remote(openpi.address, patience=SOON) as remote, pytest.raises(UserError, match="LIBERO robot"):
        remote.act([observation(0, 32)])


def test_reading_what_cannot_be_read_is_an_error_of_the_server(openpi: OpenpiServer) -> None:
    openpi.infer = lambda question: {"actions": np.zeros((1, 7), "M8[s]").view("V8")}
    with Remote(openpi.address, patience=SOON) as remote, pytest.raises(ServerError, match="dtype"):
        remote.act([observation(0, 32)])


# ---- errors, losses, waiting -----------------------------------------------------------------------------------------


def test_an_error_of_the_server_is_an_error(openpi: OpenpiServer) -> None:
    """Never a failure of the policy; and the next question finds a connection again."""

    def once(question: dict[str, Any]) -> dict[str, Any]:
        openpi.infer = answers
        raise KeyError("observation/joints")

    openpi.infer = once
    with Remote(openpi.address, patience=SOON) as remote:
        with pytest.raises(ServerError, match="KeyError: 'observation/joints'"):
            remote.act([observation(0, 32)])
        assert len(remote.act([observation(1, 32)])[0].actions) == 10
    assert openpi.connections == 2


def test_a_lost_connection_is_tried_once_more(openpi: OpenpiServer, capsys: pytest.CaptureFixture[str]) -> None:
    with Remote(openpi.address, patience=SOON) as remote:
        openpi.drop = 1
        assert len(remote.act([observation(0, 32)])[0].actions) == 10
        assert "asking once more" in capsys.readouterr().err
        assert len(openpi.questions) == 2
        openpi.drop = 2
        with pytest.raises(UserError, match="was lost"):
            remote.act([observation(0, 32)])
        assert len(remote.act([observation(0, 32)])[0].actions) == 10, "and it can be asked again"


def test_a_slow_answer_ends_in_time(openpi: OpenpiServer) -> None:
    release = threading.Event()

    def slow(question: dict[str, Any]) -> dict[str, Any]:
        release.wait(LIMIT)
        return answers(question)

    openpi.infer = slow
    with Remote(openpi.address, patience=Patience(connect=5.0, answer=0.3)) as remote:
        begun = time.monotonic()
        with pytest.raises(UserError, match=r"no answer within 0\.3 s"):
            remote.act([observation(0, 32)])
        assert time.monotonic() - begun < 3
        release.set()


def test_a_server_that_starts_late_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    made: list[Remote] = []
    waiting = threading.Thread(target=lambda: made.append(Remote(f"ws://127.0.0.1:{port}", patience=SOON)))
    waiting.start()
    time.sleep(0.3)
    with OpenpiServer(answers, port=port):
        waiting.join(LIMIT)
        assert made
        made[0].close()
    assert "waiting for the policy server" in capsys.readouterr().out


def test_no_server_is_one_clear_error() -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match="no policy server"):
        Remote(f"ws://127.0.0.1:{free_port()}", patience=Patience(connect=0.3))
    assert time.monotonic() - begun < 5


def test_another_policy_behind_the_same_address(openpi: OpenpiServer) -> None:
    with Remote(openpi.address, patience=SOON) as remote:
        openpi.metadata, openpi.drop = {"name": "another"}, 1
        with pytest.raises(UserError, match="another policy"):
            remote.act([observation(0, 32)])


@pytest.mark.parametrize("metadata", ["hello", b"\xc1", openpi_pack([1, 2]), openpi_pack({"handeye": {"format": 99}})])
def test_no_policy_server(metadata: Any) -> None:
    with OpenpiServer(answers, metadata=metadata) as server, pytest.raises(UserError, match="not a policy server"):
        Remote(server.address, patience=SOON)


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone", b"220 mail ready\r\n", b""]
)
def test_another_kind_of_server(said: bytes) -> None:
    """A web server, a mail server, one that says nothing."""

    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(said)
        if said:
            connection.shutdown(socket.SHUT_WR)

    with raw_server(behave) as address, pytest.raises(UserError, match="no policy server"):
        Remote(address, patience=Patience(connect=0.5))


def test_metadata_that_never_come() -> None:
    with raw_server(shake_hands) as address, pytest.raises(UserError, match="no policy server"):
        Remote(address, patience=Patience(connect=0.5))


def test_a_server_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shakes hands, says who it is and then reads no more: a large question would wait for ever."""
    monkeypatch.setattr(websocket, "SEND_SECONDS", 1)

    def behave(connection: socket.socket) -> None:
        shake_hands(connection)
        connection.sendall(b"\x82\x01\x80")

    with raw_server(behave) as address:
        remote = Remote(address, patience=Patience(connect=1.0, answer=LIMIT))
        begun = time.monotonic()
        monkeypatch.setattr(formats, "OPENPI_SIZE", 2000)  # 24 MB: more than the sockets' buffers hold
        with pytest.raises(UserError, match=r"was lost|no policy server"):
            remote.act([observation(0, 32)])
        assert time.monotonic() - begun < 15
        remote.close()


# ---- addresses and processes -----------------------------------------------------------------------------------------


def test_the_token_is_sent(openpi: OpenpiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDEYE_TOKEN", "correct-horse")
    Remote(openpi.address, patience=SOON).close()
    assert openpi.headers == ["Bearer correct-horse"]


@pytest.mark.parametrize("address", ["ws://", "ws://host:99999", "ws://user:hunter2@127.0.0.1:1", "http://x"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UserError) as refused:
        Remote(address, patience=SOON)
    assert "hunter2" not in str(refused.value)


def test_it_travels_to_another_process(openpi: OpenpiServer) -> None:
    with Remote(openpi.address, patience=SOON) as here, pickle.loads(pickle.dumps(here)) as there:
        assert there.specs == here.specs
        np.testing.assert_array_equal(
            there.act([observation(0, 32)])[0].actions, here.act([observation(0, 32)])[0].actions
        )
