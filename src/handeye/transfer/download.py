"""One file over HTTP: goes on where it was cut, is checked before it gets its name, and says what failed.

urllib, so the usual proxy and certificate variables are obeyed.
"""

from __future__ import annotations

import email.utils
import errno
import hashlib
import http.client
import os
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from handeye.errors import UserError

TIMEOUT = 30.0
"""Seconds without a byte before a connection counts as dead."""

LARGEST_ANSWER = 64 << 20
"""Bytes of an answer that is kept in memory. A page of the hub's list, 1000 files, is about 300 kB."""

T = TypeVar("T")
_CHUNK = 1 << 18
_WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}


class TransferError(Exception):
    """The connection or the server failed in a way that another try may mend, `wait` seconds from now or later."""

    def __init__(self, why: str, *, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class RangeError(TransferError):
    """The server does not have the bytes that are missing here."""


class LoginError(UserError):
    """401 or 403: asking for the next file with the same token would only be refused again."""


class AbsentError(UserError):
    """404 or 410: there is no such file."""


class StoppedError(Exception):
    """`Server.stop` was set while this transfer ran or waited. What came so far is kept."""


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
    """How to ask."""

    secret: Mapping[str, str] = field(default_factory=dict)
    """Headers for this server alone: they are left out when a redirection leads to another one."""

    tries: int = 5
    """In a row without a new byte; what came since the last failure starts the count again."""

    pause: float = 0.5
    """Seconds before the second try; doubles with each. A server that says how long to wait is obeyed."""

    longest_wait: float = 300.0
    """Seconds. A server that asks for more than this is an error, which says so."""

    timeout: float = TIMEOUT
    stop: threading.Event = field(default_factory=threading.Event, compare=False)
    """Set it, and every transfer of this server ends as `StoppedError` within a block."""

    def open(self, url: str, *, start: int = 0) -> http.client.HTTPResponse:
        """The answer from byte `start` on; TransferError where another try is worth it, UserError where not."""
        request = urllib.request.Request(url, headers={"User-Agent": "handeye", "Accept-Encoding": "identity"})
        for name, value in self.secret.items():
            request.add_unredirected_header(name, value)
        if start:
            request.add_header("Range", f"bytes={start}-")
        try:
            opener = urllib.request.build_opener(_Redirections(self.secret))  # reads the proxy variables of this moment
            return cast(http.client.HTTPResponse, opener.open(request, timeout=self.timeout))
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refusal(url, error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise TransferError(str(getattr(error, "reason", error)) or type(error).__name__) from None

    def read(self, url: str) -> tuple[bytes, Message]:
        """A small answer (JSON) and its headers."""

        def ask() -> tuple[bytes, Message]:
            with self.open(url) as response:
                content = b"".join(self._blocks(response, LARGEST_ANSWER + 1))
                if len(content) > LARGEST_ANSWER:
                    raise TransferError(f"the answer is longer than {LARGEST_ANSWER >> 20} MiB")
                if response.length:  # what Content-Length promised and did not come
                    raise TransferError(f"the connection was cut after {len(content)} bytes of the answer")
                return content, response.headers

        return self._until_done(url, ask)

    def download(
        self, url: str, path: Path, expected: Expected, *, advance: Callable[[int], None] = lambda count: None
    ) -> None:
        """`path` exists afterwards, whole and checked. What came so far waits beside it for the next try. `advance` is
        told how many bytes more of it are here, less than zero where some had to be thrown away."""
        part = path.with_name(f".{path.name}.part")
        here = most = 0

        def tell(size: int) -> None:
            nonlocal here, most
            advance(size - here)
            here, most = size, max(most, size)

        def ask() -> None:
            if expected.size == 0:
                part.write_bytes(b"")
            self._more(url, part, expected.size, tell)
            if problem := expected.problem(part):
                part.unlink()  # neither a longer nor a different file becomes right by going on
                tell(0)
                raise TransferError(problem)
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._until_done(url, ask, reached=lambda: most)
        except OSError as error:  # of this machine: those of the network are TransferErrors
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(f"{path} cannot be written.", why=str(error), fix="check the folder and the disk") from None

    def _more(self, url: str, part: Path, size: int, tell: Callable[[int], None]) -> None:
        """Append until `part` has `size` bytes."""
        start = part.stat().st_size if part.exists() else 0
        tell(start)
        if start >= size:
            return
        try:
            with self.open(url, start=start) as response:
                goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(
                    f"bytes {start}-"
                )
                with _appended(part) if goes_on else part.open("wb") as file:
                    for block in self._blocks(response, size + 1 - file.tell()):
                        file.write(block)
                        tell(file.tell())
        except RangeError:
            part.unlink()
            tell(0)
            raise
        if (came := part.stat().st_size) < size:
            raise TransferError(f"the connection was cut after {came} of {size} bytes")

    def _blocks(self, response: http.client.HTTPResponse, limit: int) -> Iterator[bytes]:
        """What comes, and never more than `limit` bytes of it, whatever the server sends."""
        while limit > 0:
            if self.stop.is_set():
                raise StoppedError
            try:
                block = response.read1(min(_CHUNK, limit))  # what is there, so that a slow server is seen to be alive
            except (http.client.HTTPException, OSError) as error:
                raise TransferError(str(error) or type(error).__name__) from None
            if not block:
                return
            limit -= len(block)
            yield block

    def _refusal(self, url: str, error: urllib.error.HTTPError) -> Exception:
        if error.code == 416:
            return RangeError("HTTP 416: what came before is longer than what is there")
        why = f"HTTP {error.code} {error.reason}"
        elsewhere = _origin(error.url or url) != _origin(url)
        if error.code in _WORTH_ANOTHER_TRY or (error.code in (401, 403) and elsewhere):
            # Elsewhere: the address that the hub signed has run out; asking the hub gives a new one.
            wait = _seconds_to_wait(error.headers)
            if wait <= self.longest_wait:
                return TransferError(why, wait=wait)
            return UserError(
                f"{url} cannot be downloaded now.",
                why=f"{why}: the server asks to wait for {wait:.0f} s",
                fix="run the same command again then: it goes on from here",
            )
        kind = {401: LoginError, 403: LoginError, 404: AbsentError, 410: AbsentError}.get(error.code, UserError)
        return kind(
            f"{url} cannot be downloaded.",
            why=f"the server says {error.code} {error.reason}",
            fix="set HF_TOKEN if this data set asks for a login (and accept its terms on its page)"
            if kind is LoginError
            else "check the address and the endpoint",
        )

    def _until_done(self, url: str, ask: Callable[[], T], *, reached: Callable[[], int] = lambda: 0) -> T:
        failed = best = 0
        while True:
            try:
                return ask()
            except TransferError as error:
                if reached() > best:
                    failed, best = 0, reached()
                failed += 1
                if failed >= self.tries:
                    raise UserError(
                        f"{url} cannot be downloaded: {failed} tries in a row failed.",
                        why=str(error),
                        fix="check the network (and the proxy variables), then run the same command again: "
                        "it goes on from here",
                    ) from None
                if self.stop.wait(max(self.pause * 2 ** (failed - 1), error.wait)):
                    raise StoppedError from None


class _Redirections(urllib.request.HTTPRedirectHandler):
    """To http and https alone, never from https to http; secrets stay with the server that they are for."""

    def __init__(self, secret: Mapping[str, str]) -> None:
        self.secret = secret

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            raise UserError(
                f"{req.full_url} cannot be downloaded.",
                why=f"it leads from {old.scheme} to {new.scheme}, where nothing keeps the answer from being changed",
                fix="check the address and the endpoint",
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and _origin(newurl) == _origin(req.full_url):  # a data set that got another name
            for name, value in self.secret.items():
                if req.has_header(name.capitalize()):
                    request.add_unredirected_header(name, value)
        return request


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _seconds_to_wait(headers: Message) -> float:
    """Retry-After (seconds or a date), else the hub's RateLimit header (`"resolvers";r=0;t=42`); 0 if neither."""
    said = str(headers.get("Retry-After", "")).strip()
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        pass
    limit = re.search(r";\s*t=(\d{1,9})", str(headers.get("RateLimit", "")))
    return float(limit[1]) if limit else 0.0


def _appended(path: Path) -> IO[bytes]:
    file = path.open("ab")
    file.seek(0, os.SEEK_END)  # else tell() is 0 until the first write
    return file
