"""One client from its first message to its last: metadata, then one answer per question, as openpi's server does it
(openpi serving/websocket_policy_server.py at 15a9616; recorded in the reference data `pi05/wire`)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.policy import formats
from handeye.policy.wire import WireError, pack, unpack
from handeye.serve.batcher import Answer, Batcher
from handeye.serve.config import ServeConfig
from handeye.serve.traffic import Traffic
from handeye.types import Observation

ERROR_CODE = 1011
ERROR_REASON = "Internal server error. Traceback included in previous frame."
AWAY_CODE = 1001
MOST_TEXT = 20_000
"""Characters of an error, from its end: a traceback says the most there."""


@dataclass(kw_only=True)
class Desk:
    """What all conversations of a server share."""

    config: ServeConfig
    specs: Specs
    metadata: bytes
    batcher: Batcher
    stop: asyncio.Event
    log: Callable[[str], None]
    clock: Callable[[], float]
    """Of the timings in answers: read when a question is awaited, before and after the policy, and after sending."""

    traffic: Traffic = field(default_factory=Traffic)


class Conversation:
    def __init__(self, connection: ServerConnection, number: int, desk: Desk) -> None:
        """`number`: counts the conversations of this server, from 0."""
        self._connection, self._number, self._desk, self._config = connection, number, desk, desk.config
        self._calls = 0
        self._unread: set[Any] = set()

    async def run(self) -> None:
        """Until the client leaves, is dropped, gets an error, or the server stops."""
        try:
            await self._send(self._desk.metadata)
            previous: float | None = None
            while True:
                begun = self._desk.clock()
                message = await self._next()
                if message is None or not await self._serve(message, previous):
                    return
                previous = self._desk.clock() - begun
        except ConnectionClosed:
            pass
        except TimeoutError:
            self._desk.traffic.dropped += 1
            hang_up(self._connection)

    async def _next(self) -> bytes | str | None:
        """The next message; None after a good-bye, because the client is idle or the server stops."""
        receiving = asyncio.ensure_future(self._connection.recv())
        stopping = asyncio.ensure_future(self._desk.stop.wait())
        try:
            await asyncio.wait(
                (receiving, stopping), timeout=self._config.idle_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if receiving.done():
                return receiving.result()
        finally:
            stopping.cancel()
            if not receiving.done():
                receiving.cancel()
        if self._desk.stop.is_set():
            await self._connection.close(AWAY_CODE, "the server is shutting down")
            return None
        self._desk.traffic.dropped += 1
        await self._connection.close(AWAY_CODE, f"no question for {self._config.idle_seconds:g} s")
        return None

    async def _serve(self, message: bytes | str, previous: float | None) -> bool:
        """Answer one question. False: it ended in an error, which ends the conversation too."""
        arrived = asyncio.get_running_loop().time()
        try:
            observations, ours = await asyncio.to_thread(self._read, message)
            begun = self._desk.clock()
            answers = await self._ask(observations)
            seconds = self._desk.clock() - begun
            chunks = [answer.chunk for answer in answers]
            reply = formats.answer(chunks) if ours else formats.openpi_answer(chunks[0])
            reply["policy_timing"] = {"infer_ms": max(answer.seconds for answer in answers) * 1000}
            reply["server_timing"] = {"infer_ms": seconds * 1000}
            if previous is not None:
                reply["server_timing"]["prev_total_ms"] = previous * 1000
            packed = pack(reply)
        except (ConnectionClosed, asyncio.CancelledError):
            raise
        except Exception as error:
            await self._fail(error)
            return False
        await self._send(packed)
        self._calls += 1
        self._desk.traffic.add(
            observations=len(observations),
            batch=max(answer.batch for answer in answers),
            seconds=asyncio.get_running_loop().time() - arrived,
        )
        return True

    def _read(self, message: bytes | str) -> tuple[list[Observation], bool]:
        """The observations of a question, and whether it is of our own form. Runs beside the event loop: pictures may
        have to be resized."""
        asked = unpack(message)
        if not isinstance(asked, dict):
            raise WireError(f"a question is a map, this is a {type(asked).__name__}")
        if "handeye" in asked:
            return formats.read_question(asked, self._desk.specs, most=self._config.batch), True
        if obstacle := formats.openpi_obstacle(self._desk.specs):
            raise UserError(
                "This policy cannot be used by openpi's LIBERO clients.",
                why=obstacle,
                fix="ask with `handeye evaluate ws://...`",
            )
        seen = formats.read_openpi_question(
            asked, self._desk.specs, seed=self._noise(), exact=self._config.exact_images
        )
        self._tell_what_is_not_read(asked)
        return [seen], False

    def _noise(self) -> int:
        """The seed for a client that names none: of the server's seed, this connection and this call alone."""
        text = f"{self._config.seed}|connection {self._number}|call {self._calls}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")

    def _tell_what_is_not_read(self, asked: dict[Any, Any]) -> None:
        known = {*formats.OPENPI_IMAGES.values(), formats.OPENPI_STATE, formats.OPENPI_PROMPT, formats.SEED}
        if new := {str(key)[:40] for key in asked if key not in known} - self._unread:
            self._unread |= new
            self._desk.log(f"client {self._number} sends what this policy does not read: {', '.join(sorted(new)[:8])}")

    async def _ask(self, observations: list[Observation]) -> list[Answer]:
        """UserError if the policy takes too long; ConnectionClosed if the client does not wait."""
        futures = [asyncio.wrap_future(future) for future in self._desk.batcher.ask(observations)]
        gone = asyncio.ensure_future(self._connection.wait_closed())
        together = asyncio.gather(*futures, return_exceptions=True)
        try:
            await asyncio.wait(
                (together, gone), timeout=self._config.answer_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if not together.done():
                if gone.done():
                    raise self._connection.protocol.close_exc
                raise UserError(
                    f"The policy gave no answer within {self._config.answer_seconds:g} s.",
                    why=f"{self._desk.batcher.waiting} others wait too",
                    fix="ask again later, or start the server with a longer --answer-seconds",
                )
        finally:
            gone.cancel()
            if not together.done():
                together.cancel()  # what has not begun is never computed
        answers: list[Answer] = []
        for result in together.result():
            if isinstance(result, BaseException):
                raise result
            answers.append(result)
        return answers

    async def _fail(self, error: Exception) -> None:
        """The error as text, then the end, as openpi does it. What the client got wrong needs no traceback."""
        self._desk.traffic.errors += 1
        shown = "".join(traceback.format_exception(error))
        if isinstance(error, UserError | WireError):
            text = f"{type(error).__name__}: {error}"
            self._desk.log(f"client {self._number}: {str(error).splitlines()[0][:300]}")
        else:
            text = shown if self._config.tracebacks else f"{type(error).__name__} (the server's log says more)"
            self._desk.log(f"client {self._number}: {shown}")
        await self._send(text[-MOST_TEXT:])
        await self._connection.close(ERROR_CODE, ERROR_REASON)

    async def _send(self, message: bytes | str) -> None:
        """TimeoutError if the client does not take it."""
        await asyncio.wait_for(self._connection.send(message), self._config.slow_seconds)


def hang_up(connection: ServerConnection) -> None:
    """Now, without a good-bye."""
    with contextlib.suppress(AttributeError):  # asyncio's transport, if it has just closed by itself
        connection.transport.abort()
