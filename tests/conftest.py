"""What every test runs under: fixed seeds, one thread per process, and the reference data, where there is any.

Reference data: $HANDEYE_GOLDENS, else ../shared/goldens beside the checkout. LIBERO's scene files:
$HANDEYE_LIBERO_ASSETS, else ../shared/libero/assets. Task files and robot meshes are fetched once, through the
package index in use, into $HANDEYE_HOME, else .cache/ of the checkout.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]
GOLDENS = Path(os.environ.get("HANDEYE_GOLDENS") or REPOSITORY.parent / "shared" / "goldens")
ASSETS = Path(os.environ.get("HANDEYE_LIBERO_ASSETS") or REPOSITORY.parent / "shared" / "libero" / "assets")

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two test processes on two cores: more threads only fight


def pytest_configure(config: pytest.Config) -> None:
    """Runs in the controlling process before workers start, so the fetch happens once."""
    if not ASSETS.is_dir():
        return
    os.environ["HANDEYE_LIBERO_ASSETS"] = str(ASSETS)
    os.environ.setdefault("HANDEYE_HOME", str(REPOSITORY / ".cache"))
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    from handeye.errors import UserError
    from handeye.sim.assets import fetch
    from handeye.sim.config import FetchConfig

    try:
        fetch(FetchConfig())
    except UserError as error:
        os.environ["HANDEYE_TEST_NO_LIBERO"] = str(error)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need what this machine lacks are skipped with the reason."""
    lacking = {}
    if not GOLDENS.is_dir():
        lacking["goldens"] = f"no reference data at {GOLDENS} ($HANDEYE_GOLDENS)"
    if not ASSETS.is_dir():
        lacking["libero"] = f"no LIBERO scene files at {ASSETS} ($HANDEYE_LIBERO_ASSETS)"
    elif why := os.environ.get("HANDEYE_TEST_NO_LIBERO"):
        lacking["libero"] = f"LIBERO's task files could not be fetched: {why}"
    for item in items:
        for mark, reason in lacking.items():
            if item.get_closest_marker(mark):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The reference data's root; use with `@pytest.mark.goldens`."""
    return GOLDENS


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HANDEYE_HOME, for tests of what fetches and caches write."""
    monkeypatch.setenv("HANDEYE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much of the reference data was compared, by name, in all tests of all processes."""
    totals: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if isinstance(value, int):
                totals[name] += value
    if totals:
        terminalreporter.section("compared with the reference")
        for name, value in totals.items():
            terminalreporter.line(f"{value:>9} {name}")
