"""Reference data, found at collection time. A parity test counts what it compares with `record_property(name,
number)`; tests/conftest.py adds the numbers up."""

from __future__ import annotations

import os
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
