"""Pages, read back, of evaluations on the fake simulator and of evaluations that never ran (studies.py)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.evaluate import plan, results, video
from handeye.evaluate.config import EvaluateConfig
from handeye.evaluate.run import run as evaluate
from handeye.film import encode
from handeye.policy.scripted import SCRIPTED
from handeye.report.config import ReportConfig
from handeye.report.run import run

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """What a page holds: its text by section, its cells, and every address it names. Elements must nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.cells: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        self.inside: set[str] = set()
        self.sections: dict[str, str] = defaultdict(str)
        self._open: list[tuple[str, str | None]] = []
        self.source = path.read_text()
        self.feed(self.source)
        assert not self._open, f"never closed: {self._open}"
        found = re.search(r'id="episodes">(.*?)</script>', self.source, re.DOTALL)
        assert found
        self.episodes: dict[str, Any] = json.loads(found[1])

    @property
    def text(self) -> str:
        return self.sections["all"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "button" and "cell" in (named.get("class") or ""):
            self.cells.append(named)
        if tag == "script" and named.get("type") == "text/plain":
            self.inside.add(str(named["id"]))
        self.addresses += [
            address for key in ("src", "href") if (address := named.get(key) or "") and address[0] != "#"
        ]
        if tag not in VOID:
            self._open.append((tag, named.get("id") if tag == "section" else None))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """SVG's."""

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1][0] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in ("script", "style"):
            return
        words = " ".join(data.split())
        for section in ("all", *(id_ for _, id_ in self._open if id_)):
            self.sections[section] = f"{self.sections[section]} {words}".strip()


@pytest.fixture
def page() -> Callable[..., Page]:
    """`page(run, other, margin=0.02)`: what `handeye report` makes of them."""

    def make(*runs: Path, **flags: Any) -> Page:
        return Page(run(ReportConfig(runs=runs, **flags)))

    return make


@pytest.fixture(scope="session")
def film() -> bytes:
    """A video of a second, 128 by 128."""
    return encode([np.full((128, 128, 3), shade, np.uint8) for shade in range(0, 200, 20)], frames_per_second=10)


@pytest.fixture
def filmed(film: bytes) -> Callable[..., Path]:
    """`filmed(run)`: every recorded episode has a video now; or those of the outcomes named."""

    def make(folder: Path, *outcomes: str) -> Path:
        (folder / "videos").mkdir()
        for result in results.read(folder).values():
            if not outcomes or result.outcome in outcomes:
                video.path(folder, result.episode).write_bytes(film)
        return folder

    return make


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[..., Path]:
    """`evaluated("noise", videos="all")`: a run of eight episodes into tmp_path/noise."""

    def make(policy: str, *, name: str = "", **flags: Any) -> Path:
        given: dict[str, Any] = {"tasks": (0, 1), "episodes": 4, "workers": 1} | flags
        config = EvaluateConfig(policy=policy, suite="fake", out=tmp_path / (name or policy), **given)
        return evaluate(config, SCRIPTED[policy]())

    return make


@pytest.fixture
def sessions() -> Callable[..., None]:
    """`sessions(run, line, ...)`: what its sessions.jsonl says."""

    def write(folder: Path, *lines: dict[str, Any]) -> None:
        (folder / plan.SESSIONS).write_text("".join(json.dumps(line) + "\n" for line in lines))

    return write
