"""Reference data, found at collection time, and a line at the end that says how much of it was compared.

A parity test counts what it compares with `record_property(name, number)`; the numbers of all tests, from all
processes, are added up by name.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

GOLDENS = Path(os.environ.get("HANDEYE_GOLDENS") or Path(__file__).parents[3] / "shared" / "goldens") / "sim"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`golden_task`: every task of the simulator's reference data, by its files' common name."""
    if "golden_task" in metafunc.fixturenames:
        names = sorted(path.name.removesuffix(".xml.gz") for path in GOLDENS.glob("*.xml.gz"))
        metafunc.parametrize("golden_task", names)  # none: pytest reports one skipped test


@pytest.fixture(scope="session")
def sim_goldens() -> Path:
    return GOLDENS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    totals: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if isinstance(value, int):
                totals[name] += value
    if totals:
        terminalreporter.section("compared with the reference")
        for name, value in totals.items():
            terminalreporter.line(f"{value:>9} {name}")
