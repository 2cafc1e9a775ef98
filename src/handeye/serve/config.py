"""What `handeye serve` is configured with. Imports nothing heavy: `--help` reads this."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from handeye.compute.config import Attention, Precision
from handeye.errors import UserError

TOKEN_VARIABLE = "HANDEYE_TOKEN"


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Answer questions over a websocket, for openpi's clients and for `handeye evaluate ws://HOST:PORT`."""

    policy: Annotated[str, Positional, arg(metavar="POLICY")]
    """A checkpoint directory, ours or a published one (with what it leaves open: `DIR#statistics=NAME`), or the folder
    of a finished run; `lerobot:PATH`, `zero` or `noise`."""

    host: str = "127.0.0.1"
    """Where to listen. The default is reached from this machine alone; 0.0.0.0 is every network it is on."""

    port: int = 8000
    """0: any free one; the first line printed says which."""

    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes the first GPU if there is one."""

    attention: Attention = "auto"
    """How a checkpoint computes attention (OpenVLA, OpenVLA-OFT): the first of `flash`, `sdpa` and `eager` that the
    device can do and that agrees with `eager`, or the one named."""

    precision: Precision = "auto"
    """What a checkpoint computes in: as its weights are stored, in another type, or with the language model's weights
    rounded to 8 or 4 bits (`int8`, `nf4`; needs bitsandbytes). What that changes is measured and said."""

    batch: int = 16
    """Observations that are answered together at most, across connections."""

    wait_ms: float = 5.0
    """How long a batch waits for more after its first observation, unless all who are connected have asked."""

    clients: int = 128
    """Connections at most; each has one question under way, so this also bounds what waits for the policy."""

    message_mb: float = 8.0
    """Largest message taken, in MiB. Two 256 x 256 cameras are 0.4."""

    token_file: Path | None = None
    """A file whose content clients must send as `Authorization: Bearer ...`. Else $HANDEYE_TOKEN, if set."""

    tls_cert: Path | None = None
    """Certificate chain (PEM). With it clients use wss:// and https://."""

    tls_key: Path | None = None
    """Its private key (PEM)."""

    tracebacks: bool = True
    """Send the traceback of a policy's error to the client, as openpi's server does. Otherwise only its kind."""

    exact_images: bool = False
    """Refuse images of openpi's clients in another size than the policy was trained on, instead of resizing them."""

    seed: int = 0
    """Of the noise that clients get who name no seed (openpi's), with the connection's number and the call's index."""

    handshake_seconds: float = 10.0
    """A client that has not asked for a websocket by then is dropped."""

    idle_seconds: float = 900.0
    """A client that sends no whole question for so long is dropped."""

    answer_seconds: float = 300.0
    """A question that the policy has not answered by then gets an error."""

    slow_seconds: float = 10.0
    """A client that does not take its answer for so long is dropped."""

    drain_seconds: float = 30.0
    """How long a stop (Ctrl-C, SIGTERM) waits for questions that are under way."""

    stats_seconds: float = 60.0
    """A line of statistics this often, if anything was asked."""

    def __post_init__(self) -> None:
        for flag, value, least in (("batch", self.batch, 1), ("clients", self.clients, 1), ("seed", self.seed, 0)):
            if value < least:
                raise UserError(f"--{flag} {value} is too small.", fix=f"use --{flag} {least} or more")
        if not 0 <= self.port < 65536:
            raise UserError(f"--port {self.port} is not a port.", fix="use 1 to 65535, or 0 for any free one")
        if self.wait_ms < 0:
            raise UserError(f"--wait-ms {self.wait_ms} is not a time.", fix="use 0 or more")
        for flag in ("message_mb", "handshake_seconds", "idle_seconds", "answer_seconds", "slow_seconds"):
            self._positive(flag)
        for flag in ("drain_seconds", "stats_seconds"):
            self._positive(flag)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UserError(
                "TLS needs a certificate and its key.", fix="give both --tls-cert and --tls-key, or neither"
            )

    def _positive(self, flag: str) -> None:
        if getattr(self, flag) <= 0:
            name = "--" + flag.replace("_", "-")
            raise UserError(f"{name} {getattr(self, flag)} is too small.", fix=f"give {name} a number above 0")

    @property
    def message_bytes(self) -> int:
        return int(self.message_mb * 2**20)

    def token(self) -> str | None:
        """What clients must know; None: everybody may ask."""
        where, token = f"${TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE)
        if self.token_file is not None:
            where = str(self.token_file)
            try:
                token = self.token_file.read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(
                    f"The token cannot be read from {where}.", why=str(error), fix="check the path"
                ) from None
        if token is None:
            return None
        if len(token) < 8 or not token.isascii() or not token.isprintable() or " " in token:
            raise UserError(
                f"The token in {where} is not usable.",
                why="it must be at least 8 printable ASCII characters without blanks",
                fix="make one: python -c 'import secrets; print(secrets.token_urlsafe())'",
            )
        return token
