"""What `handeye protocols` prints: complete, and the JSON of it can be run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from handeye.cli import main
from handeye.errors import UserError
from handeye.protocols.presets import PROTOCOLS, protocol
from handeye.protocols.show import find


def test_the_list_has_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocols", "list"])
    out = capsys.readouterr().out
    assert all(name in out for name in PROTOCOLS) and "cannot be run" in out
    main(["protocols", "list", "--json"])
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"]: entry["runnable"] for entry in listed} == {n: n != "libero-2023" for n in PROTOCOLS}


def test_show_prints_each_constant_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocols", "show", "lerobot-0.6"])
    out = capsys.readouterr().out
    for name, _, source in protocol("lerobot-0.6").constants():
        assert f"\n{name}: " in out and source in out


def test_what_show_prints_as_json_is_a_protocol_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["protocols", "show", "openpi-2025", "--json"])
    file = tmp_path / "mine.json"
    file.write_text(capsys.readouterr().out)
    assert protocol(str(file)) == protocol("openpi-2025")


def test_diff(capsys: pytest.CaptureFixture[str]) -> None:
    main(["protocols", "diff", "openvla-2024", "oft-2025"])
    out = capsys.readouterr().out
    assert out.startswith("replan_steps: 1 | 8\n") and "num_open_loop_steps" in out
    main(["protocols", "diff", "openvla-2024", "lerobot-0.6", "--suite", "libero_goal", "--json"])
    found = json.loads(capsys.readouterr().out)["differences"]
    assert "horizons.libero_spatial" not in [line["constant"] for line in found]
    assert all(line["source_of_one"] and line["source_of_other"] for line in found)
    main(["protocols", "diff", "oft-2025", "oft-2025"])
    assert "are the same" in capsys.readouterr().out
    with pytest.raises(UserError, match="nothing about the suite"):
        find_and_diff("handeye-2026", "oft-2025", "tabletop")


def find_and_diff(one: str, other: str, suite: str) -> None:
    from handeye.protocols.show import differing

    differing(find(one), find(other), suite=suite)


def test_a_runs_directory_is_a_protocol_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.json").write_text(
        json.dumps({"identity": {"protocol": protocol("oft-2025").to_json() | {"seed": 3}}})
    )
    main(["protocols", "diff", "oft-2025", str(tmp_path)])
    out = capsys.readouterr().out
    assert out.startswith("seed: 0 | 3\n") and "set by this run" in out
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(UserError, match="holds no protocol"):
        find(str(tmp_path))
