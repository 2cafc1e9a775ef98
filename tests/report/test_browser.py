"""The page in a headless Chromium: it loads in silence, fits a phone, plays, sorts, and obeys the keyboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import chromium
import pytest
from chromium import Page
from studies import drawn, write_run

from handeye.protocols.presets import protocol
from handeye.report.config import ReportConfig
from handeye.report.page import GALLERY
from handeye.report.run import run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium on this machine"),
]
WIDE, PHONE = (1280, 900), (390, 844)
PLAYS = "viewer.open && [...viewer.querySelectorAll('video')].every((v) => v.currentTime > 0 && v.videoWidth === 128)"
LONG = "a/very/long/address/of/a/checkpoint/" + "x" * 80


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with chromium.opened() as page:
        yield page


@pytest.fixture
def tab(browser: Page) -> Iterator[Page]:
    """What is said on the console while a test runs fails it."""
    browser.problems.clear()
    browser.asked.clear()
    browser.screen(*WIDE)
    yield browser
    browser.evaluate("0")  # hear what was said last
    assert browser.problems == []


@pytest.fixture
def two(tmp_path: Path, filmed: Callable) -> Path:
    """Two runs with a video of every episode, inside the page."""
    a = filmed(write_run(tmp_path / "a", drawn([0.6, 0.3], 25, seed=0)))
    b = filmed(write_run(tmp_path / "b", drawn([0.9, 0.5], 25, seed=1), policy="b"))
    return run(ReportConfig(runs=(a, b)))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that makes a page wide: four runs, long names, errors, gaps, refusals, published numbers."""
    tmp_path = tmp_path_factory.mktemp("odd")
    long = {"name": LONG, "image_steps": LONG}
    rows = drawn([0.9] * 10, 50, seed=0)
    runs = [
        write_run(tmp_path / name, rows, suite="libero_spatial", policy=name, **changes)
        for name, changes in (("a", {"protocol": protocol("oft-2025").to_json()}), ("b", {"protocol": long}), ("c", {}))
    ]
    rest = [row.replace("-", "!")[:30].ljust(50) for row in rows]
    runs.append(write_run(tmp_path / "d", rest, suite="libero_spatial", policy=LONG, stop_when={"kind": LONG}))
    return run(ReportConfig(runs=tuple(runs)))


def test_it_loads_in_silence_and_asks_for_nothing(tab: Page, two: Path) -> None:
    tab.open(two)
    tab.evaluate("scrollTo(0, document.body.scrollHeight); new Promise((done) => setTimeout(done, 300))")
    assert {address for address in tab.asked if not address.startswith("blob:")} <= {two.as_uri(), "data:,"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["desk", "phone"])
def test_nothing_is_wider_than_the_screen(tab: Page, odd: Path, size: tuple[int, int], dark: bool) -> None:
    tab.screen(*size, dark=dark, phone=size == PHONE)
    tab.open(odd)
    tab.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert tab.evaluate("document.documentElement.scrollWidth") == size[0]
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark


def test_a_cell_opens_its_video_and_the_arrows_go_on(tab: Page, two: Path) -> None:
    tab.open(two)
    tab.evaluate("document.querySelector('button.cell').click()")
    tab.wait(PLAYS)
    assert tab.evaluate("viewer.querySelector('h2').textContent") == "do 0: initial state 0"
    first = tab.evaluate("viewer.querySelector('dl').textContent")
    tab.press("ArrowRight")
    tab.wait(PLAYS)
    assert tab.evaluate("viewer.querySelector('h2').textContent") == "do 0: initial state 1"
    assert tab.evaluate("viewer.querySelector('dl').textContent") != first
    tab.press("Escape")
    tab.wait("!viewer.open && document.activeElement.dataset.id === '0|tabletop/0/init1/episode-0/0'")


def test_one_run_beside_the_other(tab: Page, two: Path) -> None:
    tab.screen(*PHONE, phone=True)
    tab.open(two)
    tab.evaluate("document.querySelector('.pair button.screen').click()")
    tab.wait(f"viewer.querySelectorAll('video').length === 2 && {PLAYS}")
    said = tab.evaluate("viewer.querySelector('.screens').textContent")
    assert "success" in said and "failure" in said and "a: " in said and "b: " in said
    tab.evaluate("viewer.close(); document.querySelector('button.cell').click()")
    tab.evaluate("viewer.querySelector('.others button').click()")
    tab.wait(f"viewer.querySelectorAll('video').length === 2 && {PLAYS}")


def test_the_grid_is_one_stop_for_the_tab_key(tab: Page, two: Path) -> None:
    tab.open(two)
    assert tab.evaluate("[...document.querySelectorAll('button.cell')].filter((c) => c.tabIndex === 0).length") == 1
    tab.evaluate("document.querySelector('button.cell').focus()")
    where = "document.activeElement.dataset.id"
    seen = []
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowUp"):
        tab.press(key)
        seen.append(tab.evaluate(where))
    places = [(id_[0], id_.split("/")[1], id_.split("/")[2]) for id_ in seen]
    assert places == [
        ("0", "0", "init1"),
        ("1", "0", "init1"),
        ("0", "1", "init1"),
        ("0", "1", "init0"),
        ("0", "1", "init0"),
        ("1", "0", "init0"),
    ]
    tab.press("Enter")
    tab.wait("viewer.open")


def test_a_heading_sorts_and_sorts_back(tab: Page, tmp_path: Path) -> None:
    rows = ["+-----", "++++++", "+++---", "--    "]
    tab.open(run(ReportConfig(runs=(write_run(tmp_path / "a", rows),))))
    column = "[...document.querySelectorAll('table.rates tbody tr')].map((row) => row.cells[2].textContent)"
    assert tab.evaluate(column) == ["1/6", "6/6", "3/6", "0/2"]
    click = "document.querySelectorAll('table.rates thead button')[2].click()"
    tab.evaluate(click)
    assert tab.evaluate(column) == ["0/2", "1/6", "3/6", "6/6"]
    assert tab.evaluate("document.querySelector('[aria-sort]').ariaSort") == "ascending"
    tab.evaluate(click)
    assert tab.evaluate(column) == ["6/6", "3/6", "1/6", "0/2"]
    tab.evaluate("document.querySelectorAll('table.rates thead button')[1].click()")
    tasks = "[...document.querySelectorAll('table.rates tbody tr')].map((row) => row.cells[1].textContent)"
    assert tab.evaluate(tasks) == ["do 0", "do 1", "do 2", "do 3"]


def test_the_gallery_grows_and_can_be_narrowed(tab: Page, two: Path) -> None:
    tab.open(two)
    shown = "[...document.querySelectorAll('#gallery > *')].filter((each) => each.offsetParent).length"
    everything = tab.evaluate("document.querySelectorAll('#gallery > *').length")
    assert tab.evaluate(shown) == 12 < everything
    while not tab.evaluate("document.querySelector('#failures > .more').hidden"):
        tab.evaluate("document.querySelector('#failures > .more').click()")
    assert tab.evaluate(shown) == everything
    tab.evaluate("""const choice = document.querySelector("select[data-by='run']"); choice.value = "1";
        choice.dispatchEvent(new Event("change"))""")
    assert tab.evaluate("""[...document.querySelectorAll('#gallery > *')].filter((e) => e.offsetParent)
        .every((e) => e.dataset.run === "1")""")
    tab.evaluate("document.querySelector('#gallery').scrollIntoView()")
    tab.wait("document.querySelector('#gallery > :not([hidden]) video')?.currentTime > 0.5", seconds=30)
    tab.evaluate("document.querySelector('#gallery > :not([hidden]) button.screen').click()")
    tab.wait(PLAYS)


@pytest.mark.parametrize("way", ["linked", "copied"])
def test_videos_outside_the_page_play(tab: Page, tmp_path: Path, filmed: Callable, way: str) -> None:
    a = filmed(write_run(tmp_path / "a b#1", ["-" * 50]))
    flags = {"embed_mb": 0.0} if way == "linked" else {"assets": tmp_path / "site"}
    tab.open(run(ReportConfig(runs=(a,), **flags)))
    assert len({address for address in tab.asked if address.endswith(".mp4")}) <= GALLERY, "only what is in sight"
    tab.evaluate("document.querySelector('button.cell').click()")
    tab.wait(PLAYS)


def test_a_video_that_is_gone_is_said_to_be(browser: Page, tmp_path: Path, filmed: Callable) -> None:
    a = filmed(write_run(tmp_path / "a", ["+-"]))
    browser.open(run(ReportConfig(runs=(a,), embed_mb=0.0)))
    for path in (a / "videos").iterdir():
        path.unlink()
    browser.evaluate("document.querySelector('button.cell').click()")
    browser.wait("viewer.querySelector('.screens').textContent.includes('not found: videos/')")


def test_no_foreign_script_would_run(browser: Page, two: Path) -> None:
    browser.open(two)
    browser.evaluate("""const foreign = document.createElement("script"); foreign.textContent = "window.foreign = 1";
        document.body.append(foreign)""")
    assert browser.evaluate("window.foreign") is None
    assert browser.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    browser.wait("1")
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_print_unfolds_and_fits(tab: Page, two: Path) -> None:
    tab.screen(760, 1000)
    tab.open(two)
    tab.send("Emulation.setEmulatedMedia", media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.querySelectorAll('details:not([open], .raw)').length") == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 760
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.querySelectorAll('details.run[open]').length") == 0
    tab.send("Emulation.setEmulatedMedia", media="")
    assert tab.pdf().startswith(b"%PDF")


def test_a_link_unfolds_what_it_leads_to(tab: Page, two: Path) -> None:
    tab.open(two)
    tab.evaluate("document.querySelector('a[href=\"#origin1\"]').click()")
    tab.wait("document.getElementById('origin1').open")
