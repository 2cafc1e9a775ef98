from __future__ import annotations

import pytest

from handeye.errors import UserError
from handeye.sim import versions


@pytest.mark.parametrize("version", ["3.2.3", "3.2.7", "3.3.0", "3.3.2", "3.3.2.post1"])
def test_supported(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.metadata, "version", lambda name: version)
    assert versions.require() == {"mujoco": version, "supported": True, "trouble": ""}


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("2.3.7", "never compared"),
        ("3.2.2", "never compared"),
        ("3.3.3", "darker"),
        ("3.3.7", "darker"),
        ("3.4.0", "task 5"),
        ("3.8.1", "task 5"),
        ("4.0.0", "task 5"),
    ],
)
def test_outside_the_range(version: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(versions.metadata, "version", lambda name: version)
    with pytest.raises(UserError) as caught:
        versions.require()
    assert version in caught.value.what and why in caught.value.why and "mujoco==3.3.2" in caught.value.fix
    record = versions.require(allow=True)
    assert (record["mujoco"], record["supported"]) == (version, False) and why in record["trouble"]


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise versions.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(versions.metadata, "version", nothing)
    with pytest.raises(UserError, match="not installed"):
        versions.require()


@pytest.mark.parametrize(
    ("version", "wanted", "within"),
    [
        ("3.3.2", ">=3.2.3,<3.3.3", True),
        ("3.3.2.post1", ">=3.2.3, <3.3.3", True),
        ("3.3.3", ">=3.2.3,<3.3.3", False),
        ("3.2.3", "==3.2.3", True),
        ("3.3.2", "==3.2.3", False),
        ("3.3.0", ">=3.3", True),
        ("3.2.9", ">=3.3", False),
        ("3.3.2", ">3.3.1,<=3.3.2,!=3.3.0", True),
        ("3.10.0", "<3.9", False),
    ],
)
def test_a_protocols_range(
    version: str, wanted: str, within: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(versions.metadata, "version", lambda name: version)
    versions._warn_once.cache_clear()
    if within:
        assert versions.require_range(wanted, of="mine") == ""
        return
    with pytest.raises(UserError, match="not the simulator of the protocol mine") as refused:
        versions.require_range(wanted, of="mine")
    assert f'"mujoco{wanted}"' in refused.value.fix and "--allow-mujoco" in refused.value.fix
    said = versions.require_range(wanted, of="mine", allow=True)
    assert said == f"MuJoCo {version} is outside the range of the protocol mine, {wanted}"
    assert said in capsys.readouterr().err.replace("\n", " ")


def test_no_range() -> None:
    for wanted in ("any", "3.3.2", ">=3.2.3,", "~=3.2"):
        with pytest.raises(UserError, match="names no range"):
            versions.require_range(wanted, of="mine")
