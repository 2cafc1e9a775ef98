"""Protocols are complete, each constant with its source; they round-trip, say what differs, and do not guess."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from handeye.errors import UserError
from handeye.protocols.presets import LIBERO_HORIZONS, PROTOCOLS, described, protocol
from handeye.protocols.protocol import Protocol, diff, differences
from handeye.protocols.show import as_file

RUNNABLE = [name for name in PROTOCOLS if name != "libero-2023"]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_is_complete_and_survives_json(name: str) -> None:
    made = described(name)
    assert made.name == name and made.about
    assert set(LIBERO_HORIZONS) <= set(made.horizons)
    again = Protocol.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made, "what a plan holds"
    whole = Protocol.from_json(json.loads(json.dumps(as_file(made))))
    assert (whole, whole.about, whole.sources) == (made, made.about, made.sources), "what a file holds"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_constant_has_a_source_and_every_source_a_constant(name: str) -> None:
    made = described(name)
    constants = list(made.constants())
    assert len(constants) >= 15
    for constant, _, source in constants:
        assert len(source) > 10, constant
    names = {constant for constant, _, _ in constants}
    for source in made.sources:
        assert any(constant == source or constant.startswith(f"{source}.") for constant in names), source


def test_the_facts_of_the_published_ones() -> None:
    facts = {
        name: (p.replan_steps, p.seed, p.stream, p.camera_size, p.initial_states, p.settle_steps)
        for name, p in ((n, described(n)) for n in PROTOCOLS)
    }
    assert facts == {
        "handeye-2026": ("chunk", 0, "episode", "policy", 50, 10),
        "openvla-2024": (1, 0, "published", 256, 50, 10),
        "oft-2025": (8, 0, "published", 256, 50, 10),
        "openpi-2025": (5, 7, "published", 256, 50, 10),
        "lerobot-0.6": (10, 1000, "reseeded", 360, 10, 10),
        "libero-2023": (1, "unknown", "unknown", 128, 20, 5),
    }
    horizons = {name: [described(name).horizons[suite] for suite in LIBERO_HORIZONS] for name in PROTOCOLS}
    assert horizons.pop("lerobot-0.6") == [280, 280, 300, 520, 400]
    assert horizons.pop("libero-2023") == [600] * 5
    assert all(steps == [220, 280, 300, 520, 400] for steps in horizons.values())
    assert described("libero-2023").settle_action == (0.0,) * 7
    assert {described(name).settle_action for name in RUNNABLE} == {(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)}


def test_what_nobody_knows_is_not_run() -> None:
    assert described("libero-2023").unknown == ("stream", "seed")
    with pytest.raises(UserError, match="stream and seed unknown") as refused:
        protocol("libero-2023")
    assert "unseeded generator" in refused.value.why and "--protocol mine.json" in refused.value.fix
    for name in RUNNABLE:
        assert protocol(name).scenes() == (protocol(name).stream, protocol(name).seed)


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


def test_a_protocol_of_your_own(tmp_path: Path) -> None:
    """The way out of libero-2023: what is unknown is said, under another name."""
    file = tmp_path / "mine.json"
    value = as_file(described("libero-2023")) | {"name": "libero-2023-our-scenes", "stream": "episode", "seed": 0}
    file.write_text(json.dumps(value))
    mine = protocol(str(file))
    assert diff(mine, described("libero-2023")) == ["seed: 0 | unknown", "stream: episode | unknown"]
    assert mine.scenes() == ("episode", 0)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "oft-2025"}, "keeps its name"),
        ({"stream": "random"}, "stream is 'random'"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
        ({"settle_action": [0, 1]}, "7 numbers"),
        ({"settle_action": [0, 0, 0, 0, 0, 0, float("nan")]}, "7 numbers"),
        ({"horizons": {"libero_goal": 0}}, "horizons.libero_goal is 0"),
        ({"horizons": [1]}, "horizons"),
        ({"replan_steps": 2.5}, "replan_steps is 2.5"),
        ({"success": "all_steps"}, "success"),
        ({"typo": 3}, "typo"),
        ({"simulator": ""}, "simulator"),
        ({"sources": 3}, "sources"),
        ({"sources": {"seed": 3}}, "sources.seed is 3"),
        ({"settle_action": "seven"}, "7 numbers"),
    ],
)
def test_a_bad_file_is_told_what_is_wrong(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(as_file(protocol("openpi-2025")) | {"name": "mine"} | change))
    with pytest.raises(UserError, match=complaint):
        protocol(str(file))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        protocol(str(tmp_path / "mine.json"))
    for content in ("[1]", "{}", "not json"):
        (tmp_path / "mine.json").write_text(content)
        with pytest.raises(UserError, match=r"mine\.json"):
            protocol(str(tmp_path / "mine.json"))
