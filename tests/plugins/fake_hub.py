"""A hub on this machine that can misbehave."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """Serves any data set as the hub does: `url` has the lists and sends those who want a file to `storage`, which is
    another server to whoever compares addresses. `faults[path]` lists what goes wrong with that file's next answers:
    `cut` (half, then the end), `silence` (half, then nothing), `slow`, `500` or `429:SECONDS to wait`, `404`, `short`,
    `long` (lies about the length), `other` (other content), `whole` (ignores Range), `drop` (no answer at all), `ftp`
    (sends the client there)."""

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    pages: int = 1
    revision: str = REVISION
    token: str = ""
    """Without it no file is given out, as with a data set that asks for a login."""

    refused: set[str] = field(default_factory=set)
    """Files that nobody gets, with or without a token."""

    moved: dict[str, str] = field(default_factory=dict)
    """Old names of data sets -> new ones: the hub sends clients on, at the same address."""

    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    storage: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def tree(self, page: int) -> list[dict[str, object]]:
        """Even files are LFS files, as large ones are; odd ones are plain git blobs."""
        entries: list[dict[str, object]] = [{"type": "directory", "path": "scenes", "oid": "0" * 40, "size": 0}]
        for number, (path, content) in enumerate(sorted(self.files.items())):
            if number % self.pages != page:
                continue
            blob = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry = {"type": "file", "path": path, "size": len(content), "oid": blob}
            if number % 2 == 0:
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
                entry["oid"] = "f" * 40
            entries.append(entry)
        return entries

    def downloads(self, path: str) -> list[dict[str, str]]:
        """The headers of every request for a file's bytes."""
        return [headers for asked, headers in [*self.asked] if asked == f"/bytes/{path}"]


def handler_of(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            address = urllib.parse.urlsplit(self.path)  # asked as a proxy, it gets a whole address
            path = urllib.parse.unquote(address.path)
            hub.asked.append((path, dict(self.headers)))
            if old := next((name for name in hub.moved if f"/{name}/" in path), ""):
                self.answer(307, b"", Location=self.path.replace(old, hub.moved[old]))
            elif path.startswith("/api/") and "/revision/" in path:
                asked = path.split("/revision/")[1]
                self.answer(200, json.dumps({"sha": asked if len(asked) == 40 else hub.revision}).encode())
            elif path.startswith("/api/") and "/tree/" in path:
                page = int(urllib.parse.parse_qs(address.query).get("cursor", ["0"])[0])
                following = f'<https://hub.invalid{path}?recursive=true&cursor={page + 1}>; rel="next"'
                self.answer(200, json.dumps(hub.tree(page)).encode(), Link=following if page + 1 < hub.pages else "")
            elif "/resolve/" in path:
                commit, _, file = path.split("/resolve/")[1].partition("/")
                known = not hub.token or self.headers.get("Authorization") == f"Bearer {hub.token}"
                if not known or file in hub.refused:
                    self.answer(403, b"accept the terms first")
                elif len(commit) != 40:
                    self.answer(404, b"a branch may move while its files are fetched")
                else:
                    self.answer(302, b"", Location=f"{hub.storage}/bytes/{urllib.parse.quote(file)}")
            elif path.startswith("/bytes/") and path.removeprefix("/bytes/") in hub.files:
                self.file(path.removeprefix("/bytes/"))
            else:
                self.answer(404, b"no such thing")

        def file(self, path: str) -> None:
            content, faults = hub.files[path], hub.faults.get(path, [])
            fault = faults.pop(0) if faults else ""
            if fault == "drop":
                self.close_connection = True
                return
            if fault[:3].isdigit():
                code, _, wait = fault.partition(":")
                self.answer(int(code), b"trouble", **({"Retry-After": wait} if wait else {}))
                return
            if fault == "ftp":
                self.answer(302, b"", Location="ftp://127.0.0.1/x")
                return
            if fault == "other":
                content = bytes(byte ^ 1 for byte in content)
            start, status = 0, 200
            if "Range" in self.headers and fault != "whole":
                start, status = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")), 206
            body = content[start:]
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            extra = {"short": -(len(body) // 2), "long": 1000}.get(fault, 0)
            self.send_header("Content-Length", str(len(body) + extra))
            self.end_headers()
            if fault == "slow":
                for piece in range(0, len(body), 2000):
                    self.wfile.write(body[piece : piece + 2000])
                    hub.over.wait(0.02)
            else:
                self.wfile.write(body[: len(body) // 2] if fault in ("cut", "short", "silence") else body)
            if fault == "silence":
                hub.over.wait(20)
            if fault == "long":
                self.wfile.write(bytes(1000))
            self.close_connection = True

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


class Quiet(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in the middle is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    for name in [*os.environ]:
        if name.startswith("HF_") or name.lower() in ("http_proxy", "all_proxy", "transformers_offline"):
            monkeypatch.delenv(name)
    monkeypatch.setenv(
        "HF_HOME", str(tmp_path_factory.mktemp("hf"))
    )  # the token of whoever runs the tests is not for this hub
    hub = FakeHub()
    server = Quiet(("127.0.0.1", 0), handler_of(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.storage = f"http://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    try:
        yield hub
    finally:
        hub.over.set()
        server.shutdown()
        thread.join(timeout=10)
        server.server_close()
