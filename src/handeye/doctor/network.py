"""The port to serve on, proxies, and the hub. A machine without a network is no failure: only downloads need one."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

from handeye.doctor.findings import Finding, of

TOPIC = "network"
ok, warn, fail = of(TOPIC)

HUB = "https://huggingface.co"
WAIT = 5.0


def check(*, port: int, offline: bool) -> Iterator[Finding]:
    yield _port(port)
    yield from _proxies()
    if offline:
        yield ok("hub", "not asked (--offline)")
    else:
        yield _hub()


def _port(port: int) -> Finding:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            return warn(
                f"port {port}",
                error.strerror or str(error),
                "`handeye serve` cannot use it",
                f"handeye serve CHECKPOINT --port {port + 1}",
            )
    return ok(f"port {port}", "free")


def _proxies() -> Iterator[Finding]:
    """A proxy that takes local addresses too breaks a policy's socket on this machine."""
    named = {
        n: v
        for n in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
        if (v := os.environ.get(n) or os.environ.get(n.lower()))
    }
    spared = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    if not named:
        yield ok("proxy", "none")
    elif "localhost" not in spared and "127.0.0.1" not in spared:
        yield warn(
            "proxy",
            f"{', '.join(named)}, and NO_PROXY spares no local address",
            "a client on this machine asks the proxy for ws://localhost",
            "export NO_PROXY=localhost,127.0.0.1",
        )
    else:
        yield ok("proxy", f"{', '.join(named)}; local addresses are spared")


def _hub() -> Finding:
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes"):
        return warn("hub", "HF_HUB_OFFLINE is set", "nothing new is downloaded", "unset HF_HUB_OFFLINE")
    where = os.environ.get("HF_ENDPOINT", HUB)
    request = urllib.request.Request(where, method="HEAD", headers={"User-Agent": "handeye"})
    try:
        with urllib.request.urlopen(request, timeout=WAIT) as answer:
            return ok("hub", f"{where} answers ({answer.status})")
    except urllib.error.HTTPError as error:
        return ok("hub", f"{where} answers ({error.code})")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return warn(
            "hub",
            f"{where}: {reason}",
            "checkpoints and demonstrations must be brought by hand",
            "set HTTPS_PROXY or HF_ENDPOINT, or copy files and use `--assets DIR`",
        )
