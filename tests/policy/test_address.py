"""One string names a policy, and a wrong one says what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.policy.address import resolve
from handeye.policy.scripted import Noise, Zero
from handeye.types import Policy


def heavy(address: str) -> Policy:
    """Stands for what needs torch."""
    loaded.append(address)
    return Zero()


loaded: list[str] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    loaded.clear()


def test_names() -> None:
    assert resolve("expert", heavy=heavy) is None
    assert isinstance(resolve("zero", heavy=heavy), Zero)
    assert isinstance(resolve("noise", heavy=heavy), Noise)
    assert not loaded


def test_what_needs_torch_is_handed_on(tmp_path: Path) -> None:
    for address in (str(tmp_path), "lerobot:lerobot/some_policy", "s3://bucket/checkpoint"):
        resolve(address, heavy=heavy)
    assert loaded == [str(tmp_path), "lerobot:lerobot/some_policy", "s3://bucket/checkpoint"]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("nosie", "Did you mean 'noise'"),
        ("no/such/run", "no/such/run"),
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000"),
        ("https://127.0.0.1:8000", "wss://127.0.0.1:8000"),
        ("replay:no/such/set", "no/such/set"),
        ("ws://", "no server's address"),
    ],
)
def test_wrong_ones(address: str, says: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve(address, heavy=heavy)
    assert says in str(refused.value)
    assert not loaded
