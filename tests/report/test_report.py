"""The page says what the records say, needs nothing from outside, and works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from handeye.errors import UserError
from handeye.evaluate import results
from handeye.evaluate.plan import PLAN
from handeye.evaluate.results import EPISODES
from handeye.report.config import ReportConfig
from handeye.report.run import run

Evaluated = Callable[..., Path]


class Page(HTMLParser):
    """What a page holds: its text, cells and every address it names."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.cells: list[dict[str, Any]] = []
        self.addresses: list[str] = []
        self.text = ""
        self.source = path.read_text()
        self.feed(self.source)
        found = re.search(r'id="episodes">(.*?)</script>', self.source, re.DOTALL)
        assert found
        self.episodes: dict[str, Any] = json.loads(found[1])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if tag == "button" and "cell" in (named["class"] or ""):
            self.cells.append(named)
        self.addresses += [named[key] or "" for key in ("src", "href") if key in named]

    def handle_data(self, data: str) -> None:
        self.text += " ".join(data.split()) + " "


def page(*runs: Path, **flags: Any) -> Page:
    return Page(run(ReportConfig(runs=runs, **flags)))


def test_the_page_says_what_the_records_say(evaluated: Evaluated) -> None:
    out = evaluated("noise", videos="failures")
    found, shown = results.read(out), page(out)
    assert len(shown.cells) == len(shown.episodes) == 8
    for cell in shown.cells:
        result = found[cell["data-id"].split("|")[1]]
        assert f"cell {result.outcome}" in cell["class"]
        assert shown.episodes[cell["data-id"]]["steps"] == result.steps
        assert bool(shown.episodes[cell["data-id"]]["video"]) == (result.outcome == "failure")
    successes = sum(result.outcome == "success" for result in found.values())
    assert f"{successes} of 8 episodes succeeded" in shown.text
    assert f"{100 * successes / 8:.1f}" in shown.text
    for fact in ("handeye-2026, version 1", "move the point to the red square", "3.2.3", "40 steps", "pytest"):
        assert fact in shown.text, fact


def test_it_is_self_contained(evaluated: Evaluated) -> None:
    shown = page(evaluated("noise", videos="all"))
    assert set(shown.addresses) <= {"data:,"}, "nothing is loaded from anywhere"
    assert "http" not in shown.source.replace("http://www.w3.org", "")
    assert all(len(episode["video"]["data"]) > 1000 for episode in shown.episodes.values())


def test_videos_past_the_limit_are_linked_with_a_word(evaluated: Evaluated, tmp_path: Path) -> None:
    out = evaluated("noise", videos="all")
    sizes = sorted(path.stat().st_size for path in (out / "videos").iterdir())
    shown = page(out, out=tmp_path / "pages" / "page.html", embed_mb=sum(sizes[:3]) / 1e6)
    linked = [episode["video"]["href"] for episode in shown.episodes.values() if "href" in episode["video"]]
    assert 0 < len(linked) < 8
    assert all((tmp_path / "pages" / link).resolve().is_file() for link in linked)
    assert f"the other {len(linked)} are linked" in shown.text


def test_side_by_side_under_one_protocol(evaluated: Evaluated) -> None:
    shown = page(evaluated("noise"), evaluated("zero"))
    assert len(shown.cells) == 16
    assert "0 of 8 episodes succeeded" in shown.text
    assert "not evaluated alike" not in shown.text


def test_a_difference_in_the_plans_is_said_first(evaluated: Evaluated) -> None:
    shown = page(evaluated("noise"), evaluated("noise", name="other", seed=4))
    assert "were not evaluated alike" in shown.text
    assert "protocol.seed: 0 | 4" in shown.text
    assert shown.text.index("not evaluated alike") < shown.text.index("Every episode")
    assert "noise (other)" in shown.text, "two runs of one policy have two names"


def test_errors_stand_apart(evaluated: Evaluated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDEYE_FAKE_FAULTS", str(tmp_path))
    (tmp_path / "1-2.raise.always").touch()
    shown = page(evaluated("noise", attempts=1, allow_errors=True))
    assert "of 7 episodes succeeded" in shown.text
    assert "1 episode ended in an error and is not in the rate" in shown.text
    assert "RuntimeError: a fault that was asked for" in shown.text
    assert sum("cell error" in cell["class"] for cell in shown.cells) == 1


def test_an_unfinished_run_says_so(evaluated: Evaluated) -> None:
    out = evaluated("noise")
    lines = (out / EPISODES).read_bytes().splitlines(keepends=True)
    (out / EPISODES).write_bytes(b"".join(lines[:5]))
    shown = page(out)
    assert "Not finished: 3 of 8 planned episodes are missing." in shown.text
    assert sum("disabled" in cell for cell in shown.cells) == 3
    (out / EPISODES).unlink()
    assert "no rate yet" in page(out).text


def test_text_of_others_is_text(evaluated: Evaluated) -> None:
    """A task's sentence or a traceback may hold anything; none of it becomes markup or script."""
    out = evaluated("noise", videos="none")
    nasty = "</script><script>alert(1)</script><img src=x>"
    plan = json.loads((out / PLAN).read_text())
    plan["identity"]["tasks"][0]["language"] = nasty
    (out / PLAN).write_text(json.dumps(plan))
    line = json.loads((out / EPISODES).read_text().splitlines()[0])
    line |= {"outcome": "error", "error": nasty}
    rest = (out / EPISODES).read_text().splitlines(keepends=True)[1:]
    (out / EPISODES).write_text(json.dumps(line) + "\n" + "".join(rest))
    shown = page(out)
    assert nasty not in shown.source
    assert nasty in shown.text
    assert set(shown.addresses) == {"data:,"}


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing", None, "is not an evaluation"),
        ("other", {"identity": {"format": "x"}, "address": ""}, "is not an evaluation's plan"),
        ("other", {"loss": 3}, "is not an evaluation's plan"),
        ("other", [], "is not an evaluation's plan"),
    ],
)
def test_what_is_not_an_evaluation(name: str, content: Any, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).mkdir()
        (tmp_path / name / PLAN).write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        run(ReportConfig(runs=(tmp_path / name,)))


def test_no_run_at_all() -> None:
    with pytest.raises(UserError, match="No evaluation was named"):
        ReportConfig(runs=())


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--enable-logging=stderr"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=4000"),
]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser_the_video_plays(evaluated: Evaluated, tmp_path: Path) -> None:
    """Clicks the first film and waits for its picture; the page reports through its title."""
    path = run(ReportConfig(runs=(evaluated("noise", videos="all"),)))
    probe = """<script>
      document.querySelector("button.cell.filmed").click();
      const say = () => { document.title = `${dialog.open} ${video.readyState} ${video.videoWidth} ${video.error}`; };
      setInterval(say, 50);
    </script></body>"""
    probed = tmp_path / "probe.html"
    probed.write_text(path.read_text().replace("</body>", probe))
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", probed.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "<title>true 4 256 null</title>" in done.stdout, done.stdout[:300] + done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr
