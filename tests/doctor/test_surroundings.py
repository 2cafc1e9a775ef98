"""Disks, memory, ports, proxies, the hub, the simulator, and what was named."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handeye.doctor import disk, given, network, probes, simulator

Usage = namedtuple("Usage", "total used free")


def test_little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, verdict in ((100e6, "fail"), (10e9, "warn"), (900e9, "ok")):
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _, free=free: Usage(1e12, 0, free))
        assert disk._room("working folder", Path.cwd(), disk.CHECKPOINT, "m", "f").verdict == verdict


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert str(tmp_path) in disk._room("x", tmp_path / "a" / "b", 1.0, "m", "f").found


def test_dockers_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: Usage(64e6, 0, 64e6))
    found = disk._shared()
    assert found.verdict == "warn" and "--shm-size" in found.fix


def test_few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.resource, "getrlimit", lambda _: (256, 256))
    assert disk._files().fix == "ulimit -n 4096"


def test_this_disk_and_memory() -> None:
    assert {each.about for each in disk.check()} == {
        "HANDEYE_HOME", "working folder", "shared memory", "memory", "open files",
    }  # fmt: skip


def test_a_port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = network._port(port)
    assert found.verdict == "warn" and str(port + 1) in found.fix
    assert network._port(port).verdict == "ok"


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert next(network._proxies()).found == "none"
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    found = next(network._proxies())
    assert found.verdict == "warn" and "NO_PROXY" in found.fix and "3128" not in found.found
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert next(network._proxies()).verdict == "ok"


@pytest.fixture
def hub() -> Iterator[str]:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_hub(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub)
    assert network._hub().verdict == "ok"
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert network._hub().verdict == "warn"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert network._hub().fix == "unset HF_HUB_OFFLINE"
    assert [each.found for each in network.check(port=0, offline=True)][-1] == "not asked (--offline)"


def test_simulators(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(about: str, verdict: str, **changes: str) -> dict[str, str]:
        return {"about": about, "verdict": verdict, "measured": "x", "expected": "y", "fix": "z"} | changes

    answers = {"simulator": [one("MuJoCo", "bad"), one("graphics", "ok"), one("LIBERO's files", "skipped"),
                             one("libero_spatial 5 settles", "bad", fix="")],
               "egl": {"backend": "egl", "renderer": "llvmpipe"}}  # fmt: skip
    monkeypatch.setattr(probes, "ask", lambda name, **_: answers[name])
    monkeypatch.setattr(simulator.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    found = {each.about: each for each in simulator.check()}
    assert found["MuJoCo"].verdict == "fail" and "expected y" in found["MuJoCo"].found
    assert found["LIBERO's files"].verdict == "warn" and found["graphics"].verdict == "ok"
    assert found["libero_spatial 5 settles"].fix == "handeye sim check"
    assert found["draws with"].verdict == "warn"
    monkeypatch.setattr(simulator.shutil, "which", lambda _: None)
    assert {each.about: each for each in simulator.check()}["draws with"].verdict == "ok"


def test_what_draws_here() -> None:
    """`handeye sim check` has tests of its own; this is the way to it, through another process."""
    assert probes.ask("egl")["backend"] in ("egl", "osmesa", "glfw")


def test_what_was_named(tmp_path: Path) -> None:
    (tmp_path / "page.pt").write_text("<!doctype html><title>Sign in</title>")
    absent, page = given.check([tmp_path / "none"], [str(tmp_path / "page.pt")])
    assert absent.verdict == "fail" and "does not exist" in absent.found
    assert page.verdict == "fail" and "a web page ('Sign in')" in page.found and page.fix


@pytest.mark.goldens
def test_sets_that_were_named(goldens: Path) -> None:
    """Some broken and sound ones of the reference data; `handeye inspect`, which looks, is tried on all."""
    root = goldens / "data" / "broken"
    kinds = ("libero_hdf5", "libero_hdf5 folder", "rlds", "lerobot v2.1", "lerobot v3.0", "xvr")
    entries = [e for e in json.loads((root / "MANIFEST.json").read_text())["entries"] if e["format"] in kinds][::4]
    verdicts = {"accept": "ok", "warn": "warn", "reject": "fail"}
    for entry in entries:
        (found,) = given.check([root / entry["path"]], [])
        assert found.verdict == verdicts[entry["expect"]], (entry["path"], entry["what_is_wrong"], found)
    assert len(entries) > 12 and {entry["expect"] for entry in entries} >= {"accept", "reject"}
    (good,) = given.check([goldens / "data" / "lerobot" / "v2.1_pi_image"], [])
    assert good.verdict == "ok" and "3 episodes" in good.found
