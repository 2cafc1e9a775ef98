"""Malformed, oversized, slow and hostile clients against a policy server, while others use it.

    $ python recipes/fuzz_server.py --cases 6000

Starts a server of its own on the loopback interface, plays the cases (all from one seed) many at once, and keeps asking
beside them: well-behaved clients whose every answer is compared with the local policy's, and /healthz. It ends with
exit code 1 if the server died, an answer was wrong or lost, or a hostile client was not got rid of in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import tyro
from checksum_policy import Checksum, observation, openpi_form, served
from websockets.asyncio.client import connect

from handeye.console import say, table
from handeye.policy import formats
from handeye.policy.wire import pack, unpack

PATIENCE = 15.0
"""Seconds after which a hostile client must have been answered or dropped."""

LIMITS: dict[str, Any] = {
    "message_mb": 1.0,
    "handshake_seconds": 1.5,
    "idle_seconds": 3.0,
    "slow_seconds": 1.0,
    "clients": 96,
    "batch": 16,
}
"""Of the server under test: short enough that thousands of slow clients fit into minutes."""


# ---- bytes of a websocket, made by hand so that they can be wrong ----------------------------------------------------


def handshake(host: str, port: int, **changes: str) -> bytes:
    headers = {
        "Host": f"{host}:{port}",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        "Sec-WebSocket-Version": "13",
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return f"GET / HTTP/1.1\r\n{lines}\r\n".encode()


def frame(
    payload: bytes, *, opcode: int = 2, final: bool = True, mask: bool = True, length: int | None = None
) -> bytes:
    """`length`: what the header claims, if not the truth. Masked with zeros, which leaves the payload as it is."""
    said, masked = len(payload) if length is None else length, 0x80 if mask else 0
    head = bytes([opcode | (0x80 if final else 0)])
    if said < 126:
        head += bytes([masked | said])
    elif said < 2**16:
        head += bytes([masked | 126]) + struct.pack(">H", said)
    else:
        head += bytes([masked | 127]) + struct.pack(">Q", said)
    return head + (b"\0\0\0\0" if mask else b"") + payload


@dataclass
class Target:
    host: str
    port: int

    async def opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    async def talking(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """After a proper handshake and the metadata, with raw bytes from there on."""
        reader, writer = await self.opened()
        writer.write(handshake(self.host, self.port))
        await reader.readuntil(b"\r\n\r\n")
        opcode, metadata = await next_frame(reader)
        assert opcode == 2 and isinstance(unpack(metadata), dict)
        return reader, writer


async def next_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload of what the server sends, pings and pongs left out."""
    while True:
        head = await reader.readexactly(2)
        size = head[1]
        if size == 126:
            [size] = struct.unpack(">H", await reader.readexactly(2))
        elif size == 127:
            [size] = struct.unpack(">Q", await reader.readexactly(8))
        payload = await reader.readexactly(size)
        if head[0] & 0x0F not in (9, 10):
            return head[0] & 0x0F, payload


async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """The server must hang up by itself."""
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass
    finally:
        await hang_up(writer)
    return "dropped"


async def hang_up(writer: asyncio.StreamWriter, *, abruptly: bool = False) -> None:
    if abruptly:  # a reset instead of a good-bye
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def sent(writer: asyncio.StreamWriter, data: bytes) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except ConnectionError:
        pass  # it has hung up already, as it should


# ---- kinds of clients ------------------------------------------------------------------------------------------------

Attack = Callable[[Target, random.Random], Awaitable[str]]


async def http_noise(target: Target, chance: random.Random) -> str:
    """Bytes before any websocket."""
    good = handshake(target.host, target.port)
    choice = chance.randrange(12)
    data = [
        chance.randbytes(chance.randint(1, 3000)) + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(500)) + b"\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        b"GET /no/such/path HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chance.randbytes(500),  # the start of TLS
        handshake(target.host, target.port, Sec_WebSocket_Version="99"),
        handshake(target.host, target.port, Sec_WebSocket_Key="short"),
        handshake(target.host, target.port, Upgrade="", Connection=""),
        handshake(target.host, target.port, Origin="https://example.org"),
        good.replace(b"\r\n", b"\n"),
        bytes(b ^ (1 << chance.randrange(8)) if chance.random() < 0.02 else b for b in good[:-4]) + b"\r\n\r\n",
    ][choice]
    reader, writer = await target.opened()
    await sent(writer, data)
    return await until_closed(reader, writer)


async def half_a_handshake(target: Target, chance: random.Random) -> str:
    """Stops, drips or leaves in the middle of the request."""
    good = handshake(target.host, target.port)
    reader, writer = await target.opened()
    how = chance.choice(("stop", "drip", "leave", "reset", "silence"))
    if how != "silence":
        await sent(writer, good[: chance.randint(1, len(good) - 5)])
    if how in ("leave", "reset"):
        await hang_up(writer, abruptly=how == "reset")
        return "left"
    if how == "drip":
        for byte in good[:20]:
            await sent(writer, bytes([byte]))
            await asyncio.sleep(0.05)
    return await until_closed(reader, writer)


async def bad_frames(target: Target, chance: random.Random) -> str:
    """What no websocket may send."""
    payload = chance.randbytes(chance.randint(0, 200))
    data = chance.choice(
        [
            frame(payload, mask=False),
            frame(payload, opcode=chance.choice([3, 4, 5, 6, 7, 11, 12, 13, 14, 15])),
            bytes([frame(payload)[0] | chance.choice([0x10, 0x20, 0x40])]) + frame(payload)[1:],
            frame(b"p" * 126, opcode=9),
            frame(b"p", opcode=9, final=False),
            frame(payload, opcode=0),
            frame(b"", length=2**63 - 1),
            frame(b"", length=2**64 - 1),
            frame(b"", length=int(LIMITS["message_mb"] * 2**20) + chance.randint(1, 1000)),
            frame(b"\xff\xfe\xfd", opcode=1),
            frame(b"\x03", opcode=8),
            frame(struct.pack(">H", chance.choice([0, 999, 1004, 1005, 1006, 5000])), opcode=8),
            frame(struct.pack(">H", 1000) + b"\xff\xfe", opcode=8),
            frame(payload, final=False) + frame(payload),
            frame(b"x" * 700_000, final=False) + frame(b"x" * 700_000, opcode=0),
            chance.randbytes(500) + b"\xff" * 20,
        ]
    )
    reader, writer = await target.talking()
    await sent(writer, data)
    return await until_closed(reader, writer)


async def slow_frames(target: Target, chance: random.Random) -> str:
    """A message that never ends, a client that never reads, a flood of pings, questions ahead of their answers."""
    question = pack(openpi_form(observation(chance)))
    reader, writer = await target.talking()
    how = chance.choice(("unfinished", "fragments", "pings", "ahead", "deaf", "silent", "closed for writing"))
    if how == "unfinished":
        await sent(writer, frame(question[: chance.randint(0, 9000)], length=len(question)))
    elif how == "fragments":
        await sent(writer, frame(b"", final=False) + frame(b"x", opcode=0, final=False) * 1000)
    elif how == "pings":
        await sent(writer, frame(b"p" * 100, opcode=9) * 300)
    elif how == "ahead":
        await sent(writer, frame(question) * 20)
    elif how == "deaf":
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for _ in range(30):
            await sent(writer, frame(question))
        await asyncio.sleep(0.5)
    elif how == "closed for writing":
        await sent(writer, frame(question))
        writer.write_eof()
    if how in ("ahead", "deaf", "pings", "fragments") and chance.random() < 0.5:
        await hang_up(writer, abruptly=chance.random() < 0.5)
        return "left"
    return await until_closed(reader, writer)


async def leaves_early(target: Target, chance: random.Random) -> str:
    """Asks and is gone before the answer."""
    _, writer = await target.talking()
    await sent(writer, frame(pack(openpi_form(observation(chance)))))
    if chance.random() < 0.5:
        await asyncio.sleep(chance.random() * 0.02)
    await hang_up(writer, abruptly=chance.random() < 0.7)
    return "left"


def array(data: Any, dtype: Any, shape: Any) -> dict[Any, Any]:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


def _spoiled_bytes(chance: random.Random) -> bytes:
    """A message that is damaged or built to hurt."""
    sound = pack(formats.question([observation(chance)]) if chance.random() < 0.5 else openpi_form(observation(chance)))
    flipped = bytearray(sound)
    for _ in range(chance.randint(1, 8)):
        flipped[chance.randrange(min(len(flipped), chance.choice([40, 400, len(flipped)])))] = chance.randrange(256)
    huge = chance.choice([b"\xdd", b"\xdf", b"\xdb", b"\xc6"]) + struct.pack(">I", chance.choice([2**32 - 1, 10**6]))
    return chance.choice(
        [
            bytes(flipped),
            bytes(flipped),
            bytes(flipped),
            sound[: chance.randrange(len(sound))],
            sound + chance.randbytes(5),
            chance.randbytes(chance.randint(0, 4000)),
            b"\x91" * chance.choice([10, 100, 100_000]) + b"\x01",
            b"\x81\xa1a" * 50_000 + b"\x01",
            huge + chance.randbytes(50),
            huge * 20 + b"\0" * 200_000,
            b"\x94" + b"\xdc\x40\x00" * 3 + b"\0" * 60_000,
            bytes(msgpack.packb(msgpack.ExtType(chance.randrange(128), chance.randbytes(20)))),
            b"",
        ]
    )


def _spoiled_value(chance: random.Random) -> Any:
    """A question whose parts are wrong."""
    ours = chance.random() < 0.4
    seen = observation(chance)
    asked: dict[Any, Any] = formats.question([seen])["observations"][0] if ours else openpi_form(seen)
    wrong = [
        None, True, 7, -(2**63), 2**64 - 1, 1.5, float("nan"), "text", b"bytes", [], {}, [[[[1]]]], {"a": {"b": []}},
        array(b"\0" * 8, "|O8", [1]), array(b"\0" * 8, "i4,i4", [1]), array(b"", "<f8", [2**31 - 1] * 4),
        array(b"\0" * 7, "<f8", [1]), array(b"\0" * 16, "<c16", [1]), array(b"\0" * 8, "(9,)f8", [1]),
        np.zeros((0, 0, 3), np.uint8), np.zeros((1, 5000, 3), np.uint8), np.zeros((3, 64, 64), np.uint8),
        np.zeros((64, 64, 3), np.int64), np.full((64, 64, 3), np.nan), np.zeros((2,) * 20, bool), np.zeros(8, "U3"),
        np.full(8, np.inf), np.full(8, 1e300), np.zeros((8, 1)), np.array(3.0), np.float16(2), "x" * 200_000,
    ]  # fmt: skip
    for _ in range(chance.randint(1, 2)):
        key = chance.choice(list(asked))
        if chance.random() < 0.2:
            del asked[key]
            asked = asked or {"empty": True}
        else:
            asked[key] = chance.choice(wrong)
    if not ours:
        return asked
    count = chance.choice([1, 1, 1, 2, LIMITS["batch"] + 1])
    return {"handeye": chance.choice([1, 1, 1, 2, None, "1"]), "observations": [asked] * count}


async def bad_messages(target: Target, chance: random.Random) -> str:
    """Proper frames around improper content: an error and the end, or an answer where the damage did no harm."""
    kind = chance.random()
    if kind < 0.1:
        message: bytes | str = chance.choice(["", "hello", "{}", "\0" * 1000, '{"prompt": "json?"}'])
    elif kind < 0.55:
        message = _spoiled_bytes(chance)
    else:
        message = pack(_spoiled_value(chance))
    reader, writer = await target.talking()
    text = isinstance(message, str)
    await sent(writer, frame(message.encode() if isinstance(message, str) else message, opcode=1 if text else 2))
    opcode, reply = await next_frame(reader)
    if opcode == 2:
        answered = unpack(reply)
        assert "actions" in answered or "chunks" in answered, answered
        await hang_up(writer)
        return "answered"
    if opcode == 8 and reply[:2] == struct.pack(">H", 1009):
        assert len(message) > LIMITS["message_mb"] * 2**20
        await hang_up(writer)
        return "too large"
    assert opcode == 1 and reply.decode(), "an error says something"
    opcode, reply = await next_frame(reader)
    assert (opcode, reply[:2]) == (8, struct.pack(">H", 1011)), (opcode, reply)
    await sent(writer, frame(reply, opcode=8))
    await until_closed(reader, writer)
    return "error"


async def odd_but_right(target: Target, chance: random.Random) -> str:
    """Proper questions in unusual clothes must be answered, and correctly."""
    seen = observation(chance)
    message = pack(openpi_form(seen))
    cuts = sorted(chance.sample(range(1, len(message)), chance.randint(1, 20)))
    pieces = [message[a:b] for a, b in zip([0, *cuts], [*cuts, len(message)], strict=True)]
    async with connect(f"ws://{target.host}:{target.port}", compression="deflate", max_size=None, proxy=None) as client:
        await client.recv()
        await client.ping()
        await client.send(pieces)  # in fragments
        answered = unpack(await client.recv())
        np.testing.assert_array_equal(answered["actions"], Checksum().answer(seen))
    return "right"


KINDS: dict[Attack, int] = {
    http_noise: 15,
    half_a_handshake: 10,
    bad_frames: 15,
    slow_frames: 8,
    leaves_early: 7,
    bad_messages: 38,
    odd_but_right: 7,
}
"""With their weights."""


# ---- the storm -------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    results: Counter[str] = field(default_factory=Counter)
    """`kind: result` -> how often."""

    wrong: list[str] = field(default_factory=list)
    answers: int = 0
    """Of the well-behaved, all compared with the local policy's."""

    health: list[float] = field(default_factory=list)
    """Seconds that /healthz took."""


async def storm(host: str, port: int, *, cases: int, seed: int, at_once: int = 32, witnesses: int = 4) -> Outcome:
    """Plays the cases, a number at once, beside well-behaved clients and a health check that must notice nothing."""
    target, outcome, over = Target(host, port), Outcome(), asyncio.Event()
    watching = [asyncio.create_task(_witness(target, outcome, over, number)) for number in range(witnesses)]
    watching.append(asyncio.create_task(_health(target, outcome, over)))
    numbers = iter(range(cases))

    async def play() -> None:
        for number in numbers:
            chance = random.Random(f"{seed}/{number}")
            [attack] = chance.choices(list(KINDS), list(KINDS.values()))
            name = attack.__name__
            try:
                result = await asyncio.wait_for(attack(target, chance), PATIENCE)
            except Exception as error:
                result = "WRONG"
                outcome.wrong.append(f"case {number}, {name}: {type(error).__name__}: {error}"[:500])
            outcome.results[f"{name}: {result}"] += 1

    await asyncio.gather(*(play() for _ in range(at_once)))
    over.set()
    await asyncio.wait_for(asyncio.gather(*watching), PATIENCE)
    return outcome


async def _witness(target: Target, outcome: Outcome, over: asyncio.Event, number: int) -> None:
    chance, policy = random.Random(number), Checksum()
    try:
        async with connect(f"ws://{target.host}:{target.port}", compression=None, max_size=None, proxy=None) as client:
            await client.recv()
            while not over.is_set():
                seen = [observation(chance) for _ in range(chance.randint(1, 3))]
                await client.send(pack(formats.question(seen)))
                reply = unpack(await asyncio.wait_for(client.recv(), PATIENCE))
                for got, expected in zip(reply["chunks"], policy.act(seen), strict=True):
                    np.testing.assert_array_equal(got, expected.actions)
                outcome.answers += 1
                await asyncio.sleep(0.01)
    except Exception as error:
        outcome.wrong.append(f"a well-behaved client: {type(error).__name__}: {error}"[:500])


async def _health(target: Target, outcome: Outcome, over: asyncio.Event) -> None:
    while not over.is_set():
        begun = time.monotonic()
        try:
            reader, writer = await target.opened()
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            await hang_up(writer)
            assert b" 200 " in answer and answer.endswith(b"OK\n"), answer
        except Exception as error:
            outcome.wrong.append(f"/healthz: {type(error).__name__}: {error}"[:500])
        outcome.health.append(time.monotonic() - begun)
        await asyncio.sleep(0.05)


# ---- as a program ----------------------------------------------------------------------------------------------------


def flags(limits: dict[str, Any]) -> list[str]:
    return [word for name, value in limits.items() for word in ("--" + name.replace("_", "-"), str(value))]


def memory(pid: int) -> float:
    """MB resident."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def main(cases: int = 6000, seed: int = 0, at_once: int = 32) -> None:
    """Play `cases`, all made from `seed`, `at_once` at the same time."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # our own clients write to sockets that were closed
    with tempfile.TemporaryDirectory() as folder, served(Path(folder, "log"), *flags(LIMITS)) as server:
        before, begun = memory(server.pid), time.monotonic()
        outcome = asyncio.run(storm(server.host, server.port, cases=cases, seed=seed, at_once=at_once))
        took, after = time.monotonic() - begun, memory(server.pid)
        descriptors = len(list(Path(f"/proc/{server.pid}/fd").iterdir()))
    table("", ["clients", "cases"], [[name, count] for name, count in sorted(outcome.results.items())])
    p50, p99, slowest = 1000 * np.percentile(outcome.health, (50, 99, 100))
    tracebacks = sum("Traceback" in line for line in server.log)
    say(f"{sum(outcome.results.values())} cases in {took:.0f} s; server's memory {before:.0f} -> {after:.0f} MB")
    say(f"{outcome.answers} answers to well-behaved clients, all compared; {descriptors} descriptors open at the end")
    say(f"/healthz {len(outcome.health)} times: p50 {p50:.1f}, p99 {p99:.1f}, slowest {slowest:.1f} ms")
    say(f"the server logged {len(server.log)} lines, {tracebacks} tracebacks, and last: {server.log[-1]}")
    say(f"wrong: {len(outcome.wrong)}; exit code after SIGTERM: {server.code}")
    for line in outcome.wrong[:20]:
        say(f"  {line}")
    sys.exit(1 if outcome.wrong or tracebacks or server.code else 0)


if __name__ == "__main__":
    tyro.cli(main)
