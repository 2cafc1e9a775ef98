"""A policy behind a socket: handeye's own server, or any that speaks openpi's protocol.

openpi's client waits for ever, for a server and for an answer. This one has limits, says what it waits for, and asks
once more when a connection breaks. A server that answers with an error raises here, which ends the run with what is
recorded so far, and never counts as a failure of the policy.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect

from handeye.console import say, warn
from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.policy import formats
from handeye.policy.wire import WireError, pack, unpack
from handeye.types import ActionChunk, EpisodeId, Observation

TOKEN_VARIABLE = "HANDEYE_TOKEN"
MOST_BYTES = 2**26
"""Of an answer."""

SEND_SECONDS = 60
"""A server that takes nothing for so long is lost."""

PAUSE = 1.0
"""Seconds between two attempts to connect."""

COME_AGAIN = (429, 502, 503, 504)
"""HTTP's ways of saying that a server is starting or full."""


class ServerError(RuntimeError):
    """The server could not answer. Its text, a traceback perhaps, is the message."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Seconds."""

    connect: float = 120.0
    """For a server to be there: it may still be loading its weights."""

    answer: float = 600.0
    """For one answer: the first one may compile a model."""


class Remote:
    """Connects when it is made. One question at a time; not for several threads. Pickled, it connects again."""

    def __init__(self, address: str, *, patience: Patience | None = None) -> None:
        """`address`: ws://HOST:PORT or wss://HOST:PORT. The token in $HANDEYE_TOKEN, if any, is sent along. UserError
        if there is no server, it wants another token, or it serves no policy that this program can use."""
        self.address, self._patience = _checked(address), patience or Patience()
        self._connection: ClientConnection | None
        self._connection, self._metadata = self._connect()
        try:
            self._server = _Described(self.address, self._metadata)
        except UserError:
            self._drop()
            raise
        self.specs: Specs = self._server.specs
        """As the server declares them. openpi's declare nothing and are taken for LIBERO's."""

    @property
    def identity(self) -> dict[str, Any]:
        """Which policy answers, as far as the server says so: part of an evaluation's plan. A checkpoint is the same
        one here and there: an evaluation goes on whether it is served or local."""
        about = self._server.about
        if isinstance(about, dict) and "manifest" in about:
            return {name: value for name, value in about.items() if name != "name"}
        digest = hashlib.sha256(self._metadata).hexdigest()
        return {"server": about or "openpi protocol, undeclared", "metadata": digest}

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Servers remember nothing between questions."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        """UserError: no answer in time, or the connection broke twice. ServerError: the server says it failed."""
        if not self._server.ours:
            return [formats.read_openpi_answer(self._ask(formats.openpi_question(seen))) for seen in observations]
        chunks = []
        for some in self._server.portions(observations):
            answered = self._ask(formats.question(some))
            chunks += formats.read_answer(answered, self.specs, count=len(some))
        return chunks

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Remote], tuple[str, Patience]]:
        return _again, (self.address, self._patience)

    def _ask(self, question: dict[str, Any]) -> Any:
        message = pack(question)
        try:
            reply = self._exchange(message)
        except (ConnectionClosed, OSError) as error:
            warn(f"the connection to {self.address} broke ({_in_words(error)}); asking once more")
            try:
                reply = self._exchange(message)
            except (ConnectionClosed, OSError) as again:
                raise UserError(
                    f"The policy server {self.address} was lost.",
                    why=_in_words(again),
                    fix="look at the server's log and start it again, then run the same command: it goes on",
                ) from None
        if isinstance(reply, str):
            self._drop()
            raise ServerError(f"Error in the policy server {self.address}:\n{reply}")
        try:
            return unpack(reply)
        except WireError as error:
            raise ServerError(f"The policy server {self.address} sent what cannot be read: {error}") from None

    def _exchange(self, message: bytes) -> bytes | str:
        """One question, one reply, over a connection that is there or is made. What breaks it leaves none."""
        if self._connection is None:
            self._connection = self._reconnect()
        try:
            self._connection.send(message)
            return self._connection.recv(timeout=self._patience.answer)
        except TimeoutError:
            self._drop()
            raise UserError(
                f"The policy server {self.address} gave no answer within {self._patience.answer:g} s.",
                why="its model is stuck, or slower than that",
                fix="look at the server's log and start it again, then run the same command: it goes on",
            ) from None
        except BaseException:
            self._drop()
            raise

    def _reconnect(self) -> ClientConnection:
        connection, metadata = self._connect()
        if metadata != self._metadata:
            connection.close()
            raise UserError(
                f"The server {self.address} serves another policy than before.",
                why="its metadata changed while it was away",
                fix="serve the same policy again, or evaluate the new one into another --out",
            )
        return connection

    def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            _hang_up(connection)

    def _connect(self) -> tuple[ClientConnection, bytes]:
        """A connection and the metadata that came over it first."""
        deadline, said = time.monotonic() + self._patience.connect, False
        while True:
            left = deadline - time.monotonic()
            try:
                connection = _open(self.address, timeout=max(1.0, min(left, 10.0)))
                try:
                    metadata = connection.recv(timeout=max(1.0, left))
                except BaseException:
                    _hang_up(connection)
                    raise
                break
            except _GIVE_UP as error:
                raise _unreachable(self.address, error) from None
            except (OSError, ConnectionClosed, InvalidHandshake) as error:  # TimeoutError is an OSError
                if (isinstance(error, InvalidStatus) and error.response.status_code not in COME_AGAIN) or left < PAUSE:
                    raise _unreachable(self.address, error) from None
                if not said:
                    say(f"waiting for the policy server {self.address} ({_in_words(error)})")
                    said = True
                time.sleep(PAUSE)
        if isinstance(metadata, str):
            _hang_up(connection)
            raise _no_policy(self.address, f"it began with the text {metadata[:200]!r}")
        return connection, metadata


class _Described:
    """What a server's metadata says."""

    def __init__(self, address: str, message: bytes) -> None:
        try:
            metadata = unpack(message)
        except WireError as error:
            raise _no_policy(address, str(error)) from None
        if not isinstance(metadata, dict):
            raise _no_policy(address, f"its metadata is a {type(metadata).__name__}")
        ours = metadata.get("handeye")
        self.ours, self.specs, self.about = ours is not None, formats.OPENPI_SPECS, None
        if ours is None:
            keys = ", ".join(str(key)[:40] for key in list(metadata)[:8])
            warn(
                f"{address} declares no conventions ({f'only {keys}' if keys else 'its metadata is empty'}): it is "
                "taken for an openpi server with a LIBERO policy"
            )
            return
        if not isinstance(ours, dict) or ours.get("format") != formats.FORMAT:
            raise _no_policy(address, f"it speaks format {ours!r:.80}, this program speaks {formats.FORMAT}")
        self.specs, self.about = Specs.from_json(ours.get("specs")), ours.get("policy")
        limits = [ours.get(name) for name in ("batch", "message_bytes")]
        self._most, self._bytes = (limit if type(limit) is int else 0 for limit in limits)
        if self._most < 1 or self._bytes < 1:
            raise _no_policy(address, "its metadata lacks the limits of a question")

    def portions(self, observations: Sequence[Observation]) -> Iterator[list[Observation]]:
        """Questions that the server takes: not too many observations, not too many bytes."""
        some: list[Observation] = []
        size = 0
        for seen in observations:
            adds = 1024 + len(seen.prompt.encode()) + sum(picture.nbytes + 128 for picture in seen.images.values())
            if some and (len(some) == self._most or size + adds > self._bytes):
                yield some
                some, size = [], 0
            some.append(seen)
            size += adds
        if some:
            yield some


_GIVE_UP = (InvalidURI, ssl.SSLCertVerificationError)
"""What another attempt cannot mend."""


def _open(address: str, *, timeout: float) -> ClientConnection:
    token = os.environ.get(TOKEN_VARIABLE)
    opening = connect(
        address,
        compression=None,
        max_size=MOST_BYTES,
        open_timeout=timeout,
        close_timeout=2.0,
        ping_interval=None,  # openpi's server cannot answer while its model computes; time limits do this work
        additional_headers={"Authorization": f"Bearer {token}"} if token else None,
    )
    connection = ExitStack().enter_context(opening)  # websockets 17 wants a context; ours lives until it is closed
    limit = struct.pack("ll", SEND_SECONDS, 0)  # `send` itself knows no limit
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    return connection


def _hang_up(connection: ClientConnection) -> None:
    """Without waiting for a good-bye: the other end may be stuck."""
    connection.close_timeout = 0.1
    connection.close()


def _checked(address: str) -> str:
    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"{address} is no server's address.", fix="give ws://HOST:PORT, such as ws://127.0.0.1:8000")
    if parts.username or parts.password:
        raise UserError(
            "A server's address holds no secrets.",
            why="it is written into every plan and page",
            fix=f"put the server's token into ${TOKEN_VARIABLE}",
        )
    return address


def _unreachable(address: str, error: Exception) -> UserError:
    status = error.response.status_code if isinstance(error, InvalidStatus) else None
    if status in (401, 403):
        return UserError(
            f"The policy server {address} wants another token.",
            why=_in_words(error),
            fix=f"put its token into ${TOKEN_VARIABLE}",
        )
    return UserError(
        f"There is no policy server at {address}.",
        why=_in_words(error),
        fix="start it (`handeye serve CHECKPOINT`), and check host, port and ws:// or wss://",
    )


def _no_policy(address: str, why: str) -> UserError:
    return UserError(
        f"{address} is not a policy server that this program can use.",
        why=why,
        fix="check the address; openpi's servers and `handeye serve` of this version are understood",
    )


def _in_words(error: BaseException) -> str:
    if isinstance(error, InvalidStatus):
        body = (error.response.body or b"").decode(errors="replace").strip()[:200]
        return f"HTTP {error.response.status_code} {body}".strip()
    if isinstance(error, InvalidMessage):
        return f"it does not speak HTTP: {error}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _again(address: str, patience: Patience) -> Remote:
    return Remote(address, patience=patience)
