"""The wire format against recorded messages of openpi's own client and server, byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handeye.policy.wire import pack, unpack

pytestmark = pytest.mark.goldens
EXCHANGES = ("1_metadata", "2_request", "3_response_first", "4_response_second", "5_bad_request")


@pytest.fixture(scope="module")
def wire(goldens: Path) -> Path:
    return goldens / "pi05" / "wire"


@pytest.fixture(scope="module")
def described(wire: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((wire / "wire.json").read_text())
    return loaded


def described_as(value: Any) -> Any:
    """A decoded value in the way in which wire.json describes it."""
    if isinstance(value, np.ndarray):
        numbers = value.dtype.kind in "biuf"
        return {
            "ndarray": True,
            "dtype": value.dtype.str,
            "shape": list(value.shape),
            "sha256": hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest(),
            "first": [float(v) if numbers else str(v) for v in value.reshape(-1)[:4]],
            "writeable_after_decode": value.flags.writeable,
        }
    if isinstance(value, np.generic):
        return {"npgeneric": True, "dtype": value.dtype.str, "value": value.item()}
    if isinstance(value, dict):
        return {key: described_as(part) for key, part in value.items()}
    if isinstance(value, list):
        return [described_as(part) for part in value]
    return value


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchanges(name: str, wire: Path, described: dict[str, Any]) -> None:
    message = (wire / f"{name}.bin").read_bytes()
    assert hashlib.sha256(message).hexdigest() == described[name]["sha256"]
    value = unpack(message)
    assert described_as(value) == described[name]["decoded"]
    assert pack(value) == message


def test_every_single_value(wire: Path, described: dict[str, Any]) -> None:
    files = sorted(wire.glob("value_*.bin"))
    single = described["single_values"]
    assert len(files) == len(single) >= 12
    for file in files:
        message, about = file.read_bytes(), single[file.stem.removeprefix("value_")]
        assert message.hex() == about["bytes_hex"]
        value = unpack(message)
        assert described_as(value) == about["decoded"], file.name
        assert pack(value) == message, file.name


def test_arrays_are_equal(wire: Path) -> None:
    arrays = np.load(wire / "decoded_arrays.npz")
    names = {"request": "2_request", "response": "3_response_first"}
    assert len(arrays.files) >= 4
    for name in arrays.files:
        side, _, key = name.partition("/")
        found = unpack((wire / f"{names[side]}.bin").read_bytes())[key]
        assert found.dtype == arrays[name].dtype
        np.testing.assert_array_equal(found, arrays[name])
        with pytest.raises(ValueError, match="read-only"):
            found[...] = 0


def test_what_openpi_refuses_to_send(described: dict[str, Any]) -> None:
    values = {"complex": np.zeros(2, complex), "object": np.array([None]), "void": np.zeros(2, "V2")}
    assert values.keys() == described["refused_when_packing"].keys()
    for name, value in values.items():
        with pytest.raises(ValueError) as refused:
            pack({"x": value})
        assert f"ValueError: {refused.value}" == described["refused_when_packing"][name]


def test_a_transposed_array_travels_in_c_order(wire: Path) -> None:
    value = unpack((wire / "value_non_contiguous.bin").read_bytes())
    turned = np.asfortranarray(value)
    assert not turned.flags.c_contiguous
    assert pack(turned) == (wire / "value_non_contiguous.bin").read_bytes()
