"""One file over HTTP: goes on where it was cut, is checked before it gets its name, and says what failed.

urllib, so the usual proxy and certificate variables are obeyed.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, TypeVar, cast

from handeye.errors import UserError

TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as dead."""

T = TypeVar("T")
_CHUNK = 1 << 18
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


class TransferError(Exception):
    """The connection or the server failed in a way that another try may mend."""


class RangeError(TransferError):
    """The server does not have the bytes that are missing here."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the file must turn out to be. Git's own SHA-1 is what a hub knows of small files."""

    size: int
    sha256: str = ""
    git_sha1: str = ""

    def problem(self, path: Path) -> str:
        """Why the file at `path` is not it; empty if it is."""
        size = path.stat().st_size
        if size != self.size:
            return f"{size} bytes instead of {self.size}"
        hashers = {"sha256": (hashlib.sha256(), self.sha256)} if self.sha256 else {}
        if self.git_sha1:
            hashers["git sha1"] = (hashlib.sha1(f"blob {size}\0".encode()), self.git_sha1)
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                for hasher, _ in hashers.values():
                    hasher.update(block)
        wrong = [name for name, (hasher, wanted) in hashers.items() if hasher.hexdigest() != wanted]
        return f"another {wrong[0]} than announced" if wrong else ""


@dataclass(frozen=True, kw_only=True)
class Server:
    """How to ask. `pause` (seconds) doubles with each try."""

    secret: Mapping[str, str] = field(default_factory=dict)
    """Headers for this server alone: urllib leaves them out when it follows a redirection."""

    tries: int = 5
    pause: float = 0.5
    timeout: float = TIMEOUT

    def open(self, url: str, *, start: int = 0) -> http.client.HTTPResponse:
        """The answer from byte `start` on; TransferError where another try is worth it, UserError where not."""
        request = urllib.request.Request(url, headers={"User-Agent": "handeye", "Accept-Encoding": "identity"})
        for name, value in self.secret.items():
            request.add_unredirected_header(name, value)
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            opener = urllib.request.build_opener()  # a new one reads the proxy variables as they are now
            return cast(http.client.HTTPResponse, opener.open(request, timeout=self.timeout))
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:
                raise RangeError("HTTP 416: what came before is longer than what is there") from None
            if error.code in _WORTH_ANOTHER_TRY:
                raise TransferError(f"HTTP {error.code} {error.reason}") from None
            login = error.code in (401, 403)
            raise UserError(
                f"{url} cannot be downloaded.",
                why=f"the server says {error.code} {error.reason}",
                fix="set HF_TOKEN if this data set asks for a login" if login else "check the address and the endpoint",
            ) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise TransferError(str(getattr(error, "reason", error)) or type(error).__name__) from None

    def read(self, url: str) -> tuple[bytes, Message]:
        """A small answer (JSON) and its headers."""

        def ask() -> tuple[bytes, Message]:
            try:
                with self.open(url) as response:
                    return response.read(), response.headers
            except (http.client.HTTPException, OSError) as error:
                raise TransferError(str(error) or type(error).__name__) from None

        return self._until_done(url, ask)

    def download(self, url: str, path: Path, expected: Expected) -> None:
        """`path` exists afterwards, whole and checked. What came so far waits beside it for the next try."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")

        def ask() -> None:
            if expected.size == 0:
                part.write_bytes(b"")
            self._more(url, part, expected.size)
            if problem := expected.problem(part):
                part.unlink()  # neither a longer nor a different file becomes right by going on
                raise TransferError(problem)
            part.replace(path)

        self._until_done(url, ask)

    def _more(self, url: str, part: Path, size: int) -> None:
        """Append until `part` has `size` bytes."""
        start = part.stat().st_size if part.exists() else 0
        if start >= size:
            return
        try:
            with self.open(url, start=start) as response:
                goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                    f"bytes {start}-"
                )
                with part.open("ab" if goes_on else "wb") as file:
                    _copy(response, file, size + 1)
        except RangeError:
            part.unlink()
            raise
        except OSError as error:
            if error.errno == errno.ENOSPC:  # no server can mend a full disk
                raise
            raise TransferError(str(error) or type(error).__name__) from None
        except http.client.HTTPException as error:
            raise TransferError(str(error) or type(error).__name__) from None
        if (came := part.stat().st_size) < size:
            raise TransferError(f"the connection was cut after {came} of {size} bytes")

    def _until_done(self, url: str, ask: Callable[[], T]) -> T:
        last = ""
        for attempt in range(self.tries):
            if attempt:
                time.sleep(self.pause * 2 ** (attempt - 1))
            try:
                return ask()
            except TransferError as error:
                last = str(error)
        raise UserError(
            f"{url} cannot be downloaded: {self.tries} tries failed.",
            why=last,
            fix="check the network (and the proxy variables), then run the same command again: it goes on from here",
        )


def _copy(source: http.client.HTTPResponse, target: IO[bytes], limit: int) -> None:
    """Never more than `limit` bytes in the file, whatever the server sends."""
    while (room := limit - target.tell()) > 0 and (block := source.read(min(_CHUNK, room))):
        target.write(block)
