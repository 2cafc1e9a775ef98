"""What is advised: for each machine and family, from figures that are shown, with lines that can be typed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from handeye.doctor.config import DoctorConfig
from handeye.doctor.machines import MACHINES
from handeye.doctor.profiles import FAMILIES, advise
from handeye.doctor.run import run
from handeye.protocols.presets import protocol
from handeye.train.presets import PRESETS

FLAGS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_advised_fits(machine: str, family: str) -> None:
    found, have = advise(machine, family), MACHINES[machine]
    room = have.gpu_gb or have.memory
    assert not found.precision or found.act_gb < room
    assert found.precision in ("", *FAMILIES[family].types, "int8", "nf4")
    if found.train:
        assert found.train_gb < room and found.micro * found.accumulate == FAMILIES[family].batch
        assert 0 < found.epoch_h < math.inf
    assert bool(found.precision) == (found.evaluate_h < math.inf)
    assert have.bfloat16 or found.precision != "bf16"


def test_more_memory_is_never_worse() -> None:
    for family in FAMILIES:
        small, large = advise("sciserver-40gb", family), advise("a100", family)
        assert large.micro >= small.micro and large.answer_s <= small.answer_s


def test_figures_agree_with_what_was_published() -> None:
    """OpenVLA: 16 examples take about 72 GB (its README). OFT: 8 take 62 GB, one takes 25 GB (LIBERO.md)."""
    openvla, oft = advise("a100", "openvla"), advise("a100", "openvla_oft")
    assert openvla.micro == 16 and openvla.train_gb == pytest.approx(72, rel=0.1)
    assert oft.micro == 8 and oft.train_gb == pytest.approx(62, rel=0.1)
    assert oft.train_gb - 7 * FAMILIES["openvla_oft"].example_gb == pytest.approx(25, rel=0.15)


def test_the_lines_can_be_typed() -> None:
    verbs = {"train": "## handeye train\n", "evaluate": "## handeye evaluate\n"}
    ready = {of.preset for name, of in FAMILIES.items() if any(preset.startswith(name[:4]) for preset in PRESETS)}
    count = 0
    for machine in MACHINES:
        for family in FAMILIES:
            for line in advise(machine, family).lines:
                words = line.split()
                assert words[0] == "handeye" and verbs[words[1]] in FLAGS
                for flag in re.findall(r"--[a-z-]+", line):
                    assert flag in FLAGS, flag
                if words[1] == "train":
                    assert words[2] in PRESETS or words[2] not in ready, words[2]
                elif "--protocol" in words:
                    protocol(words[words.index("--protocol") + 1])
                count += 1
    assert count > 30


def test_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DoctorConfig(profile="colab-t4")) == 0
    out = capsys.readouterr().out
    assert "Tesla T4" in out and "NVIDIA T4 data sheet" in out and "Estimates, not measurements" in out
    assert "72 GB with 16 examples (openvla README)" in out and "--quantize nf4" in out
    assert run(DoctorConfig(profile="colab-t4", json=True)) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(FAMILIES)
