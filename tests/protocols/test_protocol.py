"""Protocols are complete, round-trip, and say what differs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from handeye.errors import UserError
from handeye.protocols.presets import LIBERO_HORIZONS, PROTOCOLS, protocol
from handeye.protocols.protocol import Protocol, diff, differences


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_is_complete_and_survives_json(name: str) -> None:
    made = protocol(name)
    assert made.name == name
    assert {suite: made.horizon(suite) for suite in LIBERO_HORIZONS} == LIBERO_HORIZONS
    assert len(made.settle_action) == 7
    assert Protocol.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_the_facts_of_the_published_ones() -> None:
    facts = {
        name: (p.replan_steps, p.seed, p.stream, p.camera_size) for name, p in ((n, protocol(n)) for n in PROTOCOLS)
    }
    assert facts == {
        "handeye-2026": ("chunk", 0, "episode", "policy"),
        "openvla-2024": (1, 0, "published", 256),
        "oft-2025": (8, 0, "published", 256),
        "openpi-2025": (5, 7, "published", 256),
    }


def test_diff_names_what_differs_and_nothing_else() -> None:
    assert diff(protocol("oft-2025"), protocol("oft-2025")) == []
    assert diff(protocol("openvla-2024"), protocol("oft-2025")) == ["replan_steps: 1 | 8"]
    longer = replace(protocol("oft-2025"), horizons=LIBERO_HORIZONS | {"libero_spatial": 280})
    assert diff(protocol("oft-2025"), longer) == ["horizons.libero_spatial: 220 | 280"]


def test_differences_see_what_only_one_side_has() -> None:
    assert list(differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 2, "d": 3}})) == [
        "a: 1 | (absent)",
        "b.d: (absent) | 3",
    ]


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'oft-2025'"):
        protocol("oft-2024")
    with pytest.raises(UserError, match="nothing about the suite 'tabletop'"):
        protocol("openpi-2025").horizon("tabletop")
