"""The socket side of a served policy: who may connect, how many, and how it ends. The policy works in a thread of its
own, so handshakes, pings and `/healthz` are answered while it computes."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Protocol, runtime_checkable

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.policy import formats
from handeye.policy.wire import pack
from handeye.serve.batcher import Batcher
from handeye.serve.config import ServeConfig
from handeye.serve.conversation import Conversation, Desk, hang_up
from handeye.serve.traffic import Traffic
from handeye.types import Policy

CLOSE_SECONDS = 5.0
"""A client may take so long to say good-bye."""

PING_SECONDS = 20.0
"""A client whose machine is gone, or that stops in the middle of a message, is noticed after at most twice this."""

AT_THE_DOOR = 128
"""Connections beyond `--clients` that may be shaking hands or asking for /healthz at one moment."""

LOGGED = 20
"""Lines about clients' errors between two lines of statistics; the rest is only counted."""


@runtime_checkable
class Served(Policy, Protocol):
    """What a server needs: a policy that says what its numbers mean. It is never reset: every question stands alone."""

    @property
    def specs(self) -> Specs: ...


def describe(policy: Served, config: ServeConfig, about: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a served policy. `about`: which policy it is, so that a client notices another one."""
    return {
        "handeye": {
            "format": formats.FORMAT,
            "policy": dict(about),
            "specs": policy.specs.to_json(),
            "batch": config.batch,
            "message_bytes": config.message_bytes,
        },
        "openpi": formats.openpi_declaration(policy.specs, exact=config.exact_images),
    }


class Server:
    """Serves one policy until it is told to stop."""

    def __init__(
        self,
        policy: Served,
        config: ServeConfig,
        metadata: Mapping[str, Any],
        *,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        policy_clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`metadata` is sent to each client first, as it is. `log` gets lines for the operator. UserError: the token or
        the certificate cannot be used."""
        self._config, self._log, self._token = config, log, config.token()
        self._ssl = _tls(config)
        self._talking: set[ServerConnection] = set()
        self._connected: set[ServerConnection] = set()
        self._count = self._logged = 0
        self._total = Traffic()
        self._begun = self._since = time.monotonic()
        self._metadata, self._clock = pack(dict(metadata)), clock
        self._specs = policy.specs
        self._batcher = Batcher(
            policy.act,
            batch=config.batch,
            wait=config.wait_ms / 1000,
            askers=lambda: len(self._talking),
            clock=policy_clock,
        )

    async def run(self, stop: asyncio.Event, ready: Callable[[list[str]], None]) -> None:
        """Listen, call `ready` with the addresses, serve; after `stop` finish what is under way. UserError: the address
        cannot be had."""
        self._desk = Desk(
            config=self._config,
            specs=self._specs,
            metadata=self._metadata,
            batcher=self._batcher,
            stop=stop,
            log=self._note,
            clock=self._clock,
        )
        more: dict[str, Any] = {"ssl_handshake_timeout": self._config.handshake_seconds} if self._ssl else {}
        try:
            listening = await serve(
                self._converse,
                self._config.host,
                self._config.port,
                process_request=self._admit,
                create_connection=self._connect,  # type: ignore[arg-type]  # a function that makes one
                origins=[None],  # no browser: any page could otherwise ask a server on its visitor's machine
                compression=None,
                max_size=self._config.message_bytes,
                max_queue=1,  # one question at a time: who sends ahead waits in their own socket
                open_timeout=self._config.handshake_seconds,
                close_timeout=CLOSE_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                logger=_silent(),
                ssl=self._ssl,
                backlog=max(128, self._config.clients),
                **more,
            )
        except OSError as error:
            raise UserError(
                f"Cannot listen on {self._config.host} port {self._config.port}.",
                why=str(error),
                fix="choose another --port (0 takes any free one) or --host",
            ) from None
        scheme = "wss" if self._ssl else "ws"
        ready([_address(scheme, *socket.getsockname()[:2]) for socket in listening.sockets])
        self._begun = self._since = time.monotonic()
        telling = asyncio.ensure_future(self._tell())
        try:
            await stop.wait()
        finally:
            telling.cancel()
            listening.close(close_connections=False)
            await self._drain(listening.wait_closed)
            self._add_up()
            done = await asyncio.to_thread(self._batcher.close, 1.0)
            self._log(
                self._line(self._total, time.monotonic() - self._begun) + ("" if done else "; the policy is stuck")
            )

    async def _drain(self, closed: Callable[[], Any]) -> None:
        for connection in self._connected - self._talking:  # they have asked nothing yet
            hang_up(connection)
        waiting = asyncio.ensure_future(closed())
        await asyncio.wait((waiting,), timeout=self._config.drain_seconds)
        if left := [connection for connection in self._connected if not waiting.done()]:
            self._log(f"{len(left)} clients were cut off: no answer within --drain-seconds")
            for connection in left:
                hang_up(connection)
        await asyncio.wait((waiting,), timeout=CLOSE_SECONDS)
        waiting.cancel()

    async def _converse(self, connection: ServerConnection) -> None:
        number, self._count = self._count, self._count + 1
        self._talking.add(connection)
        try:
            await Conversation(connection, number, self._desk).run()
        except Exception as error:  # a bug of ours: it costs this client, nobody else
            self._note(f"client {number}: {type(error).__name__}: {error}")
            raise
        finally:
            self._talking.discard(connection)

    def _connect(self, *arguments: Any, **named: Any) -> ServerConnection:
        return _Counted(self._connected, self._config.clients + AT_THE_DOOR, *arguments, **named)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """None: welcome. Health is everybody's to know, as with openpi's server."""
        if request.path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        status = None
        if self._token is not None and not _knows(request, self._token):
            status, why = HTTPStatus.UNAUTHORIZED, "Send the server's token: Authorization: Bearer TOKEN\n"
        elif len(self._talking) >= self._config.clients:
            status, why = HTTPStatus.SERVICE_UNAVAILABLE, f"There are {len(self._talking)} clients already.\n"
        if status is None:
            return None
        self._desk.traffic.refused += 1
        return connection.respond(status, why)

    def _note(self, line: str) -> None:
        """For the operator, but no flood: a hostile client may cause as many lines as it likes."""
        self._logged += 1
        if self._logged <= LOGGED:
            self._log(line)
        elif self._logged == LOGGED + 1:
            self._log("more lines like these are only counted until the next statistics")

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(self._config.stats_seconds)
            if self._desk.traffic.busy:
                self._log(self._line(self._desk.traffic, time.monotonic() - self._since))
            self._add_up()

    def _add_up(self) -> None:
        """Begin a new stretch of statistics."""
        self._total.include(self._desk.traffic)
        self._desk.traffic, self._logged, self._since = Traffic(), 0, time.monotonic()

    def _line(self, traffic: Traffic, seconds: float) -> str:
        return traffic.line(clients=len(self._talking), waiting=self._batcher.waiting, seconds=seconds)


class _Counted(ServerConnection):
    """A connection that is closed at once if there are too many: sockets are as scarce as memory."""

    def __init__(self, all_: set[ServerConnection], most: int, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._all, self._most = all_, most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._all.add(self)
        if len(self._all) > self._most:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.discard(self)
        super().connection_lost(exc)


def _knows(request: Request, token: str) -> bool:
    """`Bearer` is the web's word, `Api-Key` that of openpi's client. Compared in constant time."""
    for sent in request.headers.get_all("Authorization"):
        scheme, _, value = sent.partition(" ")
        if scheme.lower() in ("bearer", "api-key") and hmac.compare_digest(value.strip().encode(), token.encode()):
            return True
    return False


def _tls(config: ServeConfig) -> ssl.SSLContext | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise UserError(
            f"{config.tls_cert} and {config.tls_key} are not a certificate and its key.",
            why=str(error),
            fix="give the PEM file of the chain to --tls-cert and that of its private key to --tls-key",
        ) from None
    return context


def _address(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _silent() -> logging.Logger:
    """websockets would log a traceback for every scan of the port."""
    logger = logging.getLogger("handeye.serve.websockets")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.CRITICAL + 1)
    return logger
