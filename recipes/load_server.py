"""Many clients at once against a policy server: answers per second, latencies, batches, and that none is lost.

    $ python recipes/load_server.py --clients 64 --questions 20

Every client asks in openpi's form with two images, one question after the other, and compares each answer with the
local policy's. The policy takes a fixed time per batch, as a model on a GPU with room left does. The same load is
played twice in one run: with batches across connections, and with one question at a time, which is what openpi's server
does. Server and clients share the machine.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro
from checksum_policy import Checksum, observation, openpi_form, served
from websockets.asyncio.client import connect

from handeye.console import say, table
from handeye.policy.wire import pack, unpack


async def client(address: str, policy: Checksum, questions: int, number: int, seconds: list[float]) -> None:
    """Raises if an answer is wrong or does not come."""
    chance = random.Random(number)
    seen = [observation(chance, policy.size) for _ in range(2)]
    messages, expected = [pack(openpi_form(one)) for one in seen], [policy.answer(one) for one in seen]
    async with connect(address, compression=None, max_size=None, proxy=None, open_timeout=60) as connection:
        await connection.recv()
        for index in range(questions):
            begun = time.monotonic()
            await connection.send(messages[index % 2])
            reply = unpack(await asyncio.wait_for(connection.recv(), 120))
            seconds.append(time.monotonic() - begun)
            np.testing.assert_array_equal(reply["actions"], expected[index % 2])


async def load(address: str, policy: Checksum, *, clients: int, questions: int) -> tuple[list[float], float]:
    """Latencies of all answers, and seconds from the first question to the last answer."""
    seconds: list[float] = []
    begun = time.monotonic()
    await asyncio.gather(*(client(address, policy, questions, number, seconds) for number in range(clients)))
    return seconds, time.monotonic() - begun


def main(
    clients: int = 64, questions: int = 20, size: int = 224, model_ms: float = 50.0, batches: tuple[int, ...] = (16, 1)
) -> None:
    """`size` pixels of the two cameras, `model_ms` per batch, largest batch one after the other from `batches`."""
    policy, rows, codes = Checksum(size=size), [], []
    with tempfile.TemporaryDirectory() as folder:
        for batch in batches:
            with served(
                Path(folder, f"log{batch}"), "--batch", str(batch), size=size, seconds=model_ms / 1000
            ) as server:
                address = f"ws://{server.host}:{server.port}"
                seconds, took = asyncio.run(load(address, policy, clients=clients, questions=questions))
            p50, p99 = 1000 * np.percentile(seconds, (50, 99))
            lost = clients * questions - len(seconds)
            rows.append([batch, len(seconds), lost, f"{len(seconds) / took:.0f}", f"{p50:.0f}", f"{p99:.0f}"])
            codes.append(server.code or lost)
            say(f"--batch {batch}: the server says: {server.log[-1]}")
    title = f"{clients} clients, {questions} questions each, two {size} x {size} images, {model_ms:g} ms per batch"
    table(title, ["largest batch", "answers", "lost", "answers/s", "p50 ms", "p99 ms"], rows)
    sys.exit(1 if any(codes) else 0)


if __name__ == "__main__":
    tyro.cli(main)
