"""The socket side: openpi's protocol, health, batches, limits, tokens, TLS, and an end that loses nothing."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from handeye.conventions import image, libero
from handeye.conventions.gripper import Gripper
from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.policy import formats
from handeye.policy.wire import pack, unpack
from handeye.types import Observation

LIMIT = 20.0
Connect = Callable[..., Any]


def get(running: Any, path: str = "/healthz", headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    host, port = running.host_port
    asked = http.client.HTTPConnection(host, port, timeout=LIMIT)
    try:
        asked.request("GET", path, headers=headers or {})
        answer = asked.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Content-Type") or ""
    finally:
        asked.close()


def ask(connection: Any, question: Any) -> Any:
    connection.send(question if isinstance(question, bytes | str) else pack(question))
    reply = connection.recv(timeout=LIMIT)
    return reply if isinstance(reply, str) else unpack(reply)


def openpi_question(index: int, observe: Callable[..., Observation], size: int = 16) -> dict[str, Any]:
    """As openpi's client would send it, in the policy's own size."""
    seen = observe(index, size)
    turned = {key: seen.images[name][:, ::-1] for name, key in formats.OPENPI_IMAGES.items()}
    return {**turned, "observation/state": seen.proprio.astype(np.float64), "prompt": seen.prompt}


# ---- answers ---------------------------------------------------------------------------------------------------------


def test_an_openpi_client_gets_the_local_answer(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    """Images arrive mirrored and are turned back; the seed may be named."""
    client = connected(serving(looker))
    for index in range(4):
        reply = ask(client, openpi_question(index, observe) | {"seed": index})
        assert set(reply) == {"actions", "policy_timing", "server_timing"}
        np.testing.assert_array_equal(reply["actions"], looker.answer(observe(index)))
        assert reply["actions"].dtype == np.float32
        assert ("prev_total_ms" in reply["server_timing"]) == (index > 0)
        assert reply["server_timing"]["infer_ms"] >= reply["policy_timing"]["infer_ms"] >= 0


def test_the_metadata_say_what_is_expected(serving: Any, looker: Any, connected: Connect) -> None:
    client = connected(serving(looker, batch=3), skip=False)
    said = unpack(client.recv(timeout=LIMIT))
    assert Specs.from_json(said["handeye"]["specs"]) == looker.specs
    assert said["handeye"]["batch"] == 3
    keys = said["openpi"]["keys"]
    assert keys["observation/image"]["orientation"] == "TURNED_180"
    assert (keys["observation/image"]["height"], keys["observation/wrist_image"]["camera"]) == (16, "wrist")
    assert keys["observation/state"] == libero.PROPRIO.to_json()
    json.dumps(said)  # plain values only


def test_noise_of_clients_without_seeds(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    """A function of server seed, connection and call: the same in another server, different everywhere else."""

    def seeds(seed: int) -> list[int]:
        looker.seeds.clear()
        running = serving(looker, seed=seed)
        for _ in range(2):
            client = connected(running)
            for _ in range(3):
                ask(client, openpi_question(0, observe))
        return list(looker.seeds)

    first, again, other = seeds(0), seeds(0), seeds(1)
    assert first == again
    assert len(set(first) | set(other)) == 12


def test_other_image_sizes_are_resized_or_refused(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    question = openpi_question(1, observe, size=32) | {"seed": 1}
    seen = observe(1, 32)
    small = {
        name: image.fit(picture[:, ::-1], height=16, width=16, method="bilinear")[:, ::-1]
        for name, picture in seen.images.items()
    }
    reply = ask(connected(serving(looker)), question)
    np.testing.assert_array_equal(reply["actions"], looker.answer(replace(seen, images=small)))
    refused = ask(connected(serving(looker, exact_images=True)), question)
    assert "32x32" in refused and "16x16" in refused


def test_a_policy_that_is_not_for_openpis_clients(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    action = replace(libero.ACTION, gripper=Gripper.ZERO_ONE_OPEN)
    looker.specs = replace(looker.specs, action=action)
    client = connected(serving(looker), skip=False)
    assert unpack(client.recv(timeout=LIMIT))["openpi"]["offered"] is False
    assert "not LIBERO's" in ask(client, openpi_question(0, observe))


def test_what_is_sent_and_not_read_is_said_once(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker)
    client = connected(running)
    for _ in range(3):
        ask(client, openpi_question(0, observe) | {"observation/joints": np.zeros(7)})
    assert sum("observation/joints" in line for line in running.log) == 1


def test_many_observations_in_one_question(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    client = connected(serving(looker, batch=4))
    reply = ask(client, formats.question([observe(index) for index in range(4)]))
    for index, actions in enumerate(reply["chunks"]):
        np.testing.assert_array_equal(actions, looker.answer(observe(index)))
    assert looker.batches == [4]
    assert "1 to 4" in ask(client, formats.question([observe(index) for index in range(5)]))


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"observation/state": None}, "observation/state"),
        ({"observation/state": np.full(8, np.nan)}, "not finite"),
        ({"observation/state": np.zeros(7)}, "8 numbers"),
        ({"observation/image": None}, "observation/image"),
        ({"observation/image": np.zeros((16, 16), np.uint8)}, "uint8 (H, W, 3)"),
        ({"observation/image": np.zeros((0, 16, 3), np.uint8)}, "uint8 (H, W, 3)"),
        ({"observation/wrist_image": np.full((16, 16, 3), 2.0)}, "outside 0 to 1"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_a_bad_question_is_told_why_and_ends(
    change: dict[str, Any], says: str, serving: Any, looker: Any, connected: Connect, observe: Any
) -> None:
    running = serving(looker)
    client, other = connected(running), connected(running)
    question = {k: v for k, v in (openpi_question(0, observe) | change).items() if v is not None}
    assert says in ask(client, question)
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=LIMIT)
    assert closed.value.rcvd.code == 1011
    assert "actions" in ask(other, openpi_question(0, observe)), "nobody else is touched"


@pytest.mark.parametrize("shown", [True, False])
def test_a_policys_error(shown: bool, serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, tracebacks=shown)
    looker.raises = KeyError("secret/path")
    text = ask(connected(running), openpi_question(0, observe))
    assert text.startswith("Traceback (most recent call last):") == ("secret/path" in text) == shown
    assert "KeyError" in text
    assert any("secret/path" in line for line in running.log)
    looker.raises = None
    assert "actions" in ask(connected(running), openpi_question(0, observe))


def test_an_answer_that_takes_too_long(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, answer_seconds=0.3)
    looker.gate.clear()
    assert "no answer within 0.3 s" in ask(connected(running), openpi_question(0, observe))
    looker.gate.set()
    assert "actions" in ask(connected(running), openpi_question(0, observe))


# ---- health and load -------------------------------------------------------------------------------------------------


def test_health_while_the_model_computes(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker)
    looker.gate.clear()
    client = connected(running)
    client.send(pack(openpi_question(0, observe)))
    assert looker.entered.wait(LIMIT)
    for _ in range(5):
        begun = time.monotonic()
        assert get(running) == (200, "OK\n", "text/plain; charset=utf-8")
        assert time.monotonic() - begun < 2.0
    other = connected(running)  # handshakes are answered too
    other.ping().wait(LIMIT)
    looker.gate.set()
    assert "actions" in unpack(client.recv(timeout=LIMIT))


def test_clients_are_answered_together(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, batch=4)
    looker.gate.clear()
    clients = [connected(running) for _ in range(9)]
    for index, client in enumerate(clients):
        client.send(pack(openpi_question(index, observe) | {"seed": index}))
    assert looker.entered.wait(LIMIT)
    deadline = time.monotonic() + LIMIT
    while running.server._batcher.waiting < 9 - looker.batches[0] and time.monotonic() < deadline:
        time.sleep(0.005)
    looker.gate.set()
    for index, client in enumerate(clients):
        reply = unpack(client.recv(timeout=LIMIT))
        np.testing.assert_array_equal(reply["actions"], looker.answer(observe(index)))
    assert max(looker.batches) == 4 and sum(looker.batches) == 9


def test_who_leaves_is_not_computed(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, batch=1)
    looker.gate.clear()
    stays, leaves = connected(running), connected(running)
    stays.send(pack(openpi_question(0, observe)))
    assert looker.entered.wait(LIMIT)
    leaves.send(pack(openpi_question(1, observe)))
    while running.server._batcher.waiting < 1:
        time.sleep(0.005)
    leaves.close()
    while len(running.server._talking) > 1:
        time.sleep(0.005)
    looker.gate.set()
    assert "actions" in unpack(stays.recv(timeout=LIMIT))
    assert "actions" in ask(connected(running), openpi_question(2, observe))
    assert looker.batches == [1, 1]


def test_a_line_of_statistics(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, stats_seconds=0.2)
    client = connected(running)
    for index in range(3):
        ask(client, openpi_question(index, observe))
    ask(client, {"prompt": "no state here"})
    running.stop()
    total = running.log[-1]
    assert "3 answered" in total and "1 errors" in total and "p99" in total and "batch mean 1.0" in total


# ---- limits ----------------------------------------------------------------------------------------------------------


def closes(client: Any, code: int) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=LIMIT)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == code


def test_too_large_a_message(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, message_mb=0.05)
    client, other = connected(running), connected(running)
    client.send(b"\0" * 60_000)
    closes(client, 1009)
    assert "actions" in ask(other, openpi_question(0, observe))


def test_the_idle_are_dropped_and_the_full_house_is_closed(serving: Any, looker: Any, connected: Connect) -> None:
    running = serving(looker, clients=2, idle_seconds=1.0)
    first, second = connected(running), connected(running)
    with pytest.raises(InvalidStatus) as full:
        connected(running)
    assert full.value.response.status_code == 503
    assert get(running)[0] == 200
    closes(first, 1001)
    closes(second, 1001)
    connected(running)


def test_who_does_not_read_is_dropped(serving: Any, looker: Any, observe: Any) -> None:
    """A client that asks and asks and never takes an answer: its socket fills up, nobody else waits."""
    looker.chunk = 9_000  # 250 kB an answer
    running = serving(looker, slow_seconds=0.5)
    host, port = running.host_port
    with socket.create_connection((host, port), timeout=LIMIT) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(
            f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        message = pack(openpi_question(0, observe))
        frame = b"\x82\xfe" + len(message).to_bytes(2, "big") + b"\0\0\0\0" + message
        with pytest.raises(OSError):  # the server hangs up
            for _ in range(400):
                raw.sendall(frame)
                time.sleep(0.02)
    while running.server._talking:
        time.sleep(0.01)
    running.stop()
    assert "1 dropped" in running.log[-1]


def test_half_a_handshake_is_dropped(serving: Any, looker: Any) -> None:
    running = serving(looker, handshake_seconds=0.5)
    with socket.create_connection(running.host_port, timeout=LIMIT) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: ")
        begun = time.monotonic()
        while raw.recv(1000):
            pass
        assert time.monotonic() - begun < 5


def test_a_crowd_at_the_door(serving: Any, looker: Any, connected: Connect) -> None:
    """Sockets are bounded too. Whoever is inside is not touched, and once the crowd is gone there is room again."""
    running = serving(looker, clients=1, handshake_seconds=LIMIT)
    client = connected(running)
    crowd = [socket.create_connection(running.host_port, timeout=LIMIT) for _ in range(160)]
    try:
        for raw in crowd:
            raw.setblocking(False)
        deadline, closed = time.monotonic() + LIMIT, 0
        while closed < 160 - 128 and time.monotonic() < deadline:
            time.sleep(0.05)
            closed = sum(_hung_up(raw) for raw in crowd)
        assert closed == 160 - 128
        client.ping().wait(LIMIT)
    finally:
        for raw in crowd:
            raw.close()
    while len(running.server._connected) > 1:
        time.sleep(0.01)
    assert get(running)[0] == 200


def _hung_up(raw: socket.socket) -> bool:
    try:
        return raw.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_no_browser(serving: Any, looker: Any, connected: Connect) -> None:
    """Any web page could else ask a server on its visitor's machine."""
    with pytest.raises(InvalidStatus) as refused:
        connected(serving(looker), origin="https://example.org")
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("scheme", ["Bearer", "Api-Key"])
def test_a_token(
    scheme: str, serving: Any, looker: Any, connected: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("correct-horse\n")
    running = serving(looker, token_file=tmp_path / "token")
    for headers in ({}, {"Authorization": f"{scheme} wrong-horse"}, {"Authorization": "correct-horse"}):
        with pytest.raises(InvalidStatus) as refused:
            connected(running, additional_headers=headers)
        assert refused.value.response.status_code == 401
    connected(running, additional_headers={"Authorization": f"{scheme} correct-horse"})
    assert get(running)[0] == 200, "health is no secret"
    monkeypatch.setenv("HANDEYE_TOKEN", "short")
    with pytest.raises(UserError, match="8 printable"):
        serving(looker)


def test_tls(serving: Any, looker: Any, connected: Connect, observe: Any, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(cert),
        *subject,
    ]
    subprocess.run(make, check=True, capture_output=True, timeout=60)
    running = serving(looker, tls_cert=cert, tls_key=key)
    assert running.address.startswith("wss://")
    trusting = ssl.create_default_context(cafile=cert)
    assert "actions" in ask(connected(running, ssl=trusting), openpi_question(0, observe))
    with pytest.raises(ssl.SSLCertVerificationError):
        connected(running)
    key.write_text("nonsense")
    with pytest.raises(UserError, match="certificate"):
        serving(looker, tls_cert=cert, tls_key=key)


def test_a_port_that_is_taken(serving: Any, looker: Any) -> None:
    from handeye.serve.config import ServeConfig
    from handeye.serve.server import Server

    taken = serving(looker).host_port[1]
    import asyncio

    async def start() -> None:
        server = Server(looker, ServeConfig(policy="x", port=taken), {}, log=lambda line: None)
        await asyncio.wait_for(server.run(asyncio.Event(), lambda addresses: None), LIMIT)

    with pytest.raises(UserError, match="Cannot listen"):
        asyncio.run(start())


# ---- the end ---------------------------------------------------------------------------------------------------------


def test_stopping_answers_what_was_asked(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, batch=1, drain_seconds=LIMIT)
    looker.gate.clear()
    asking = [connected(running) for _ in range(3)]
    idle = connected(running)
    for index, client in enumerate(asking):
        client.send(pack(openpi_question(index, observe)))
    assert looker.entered.wait(LIMIT)
    while running.server._batcher.waiting < 2:
        time.sleep(0.005)
    with ThreadPoolExecutor() as pool:
        stopping = pool.submit(running.stop)
        closes(idle, 1001)
        with pytest.raises(OSError):
            socket.create_connection(running.host_port, timeout=LIMIT)
        looker.gate.set()
        for client in asking:
            assert "actions" in unpack(client.recv(timeout=LIMIT))
            closes(client, 1001)
        stopping.result(LIMIT)
    assert "3 answered" in running.log[-1]


def test_a_stuck_policy_does_not_keep_the_server(serving: Any, looker: Any, connected: Connect, observe: Any) -> None:
    running = serving(looker, drain_seconds=0.3)
    looker.gate.clear()
    client = connected(running)
    client.send(pack(openpi_question(0, observe)))
    assert looker.entered.wait(LIMIT)
    begun = time.monotonic()
    running.stop()
    assert time.monotonic() - begun < 10
    assert any("cut off" in line for line in running.log) and "stuck" in running.log[-1]
    looker.gate.set()
