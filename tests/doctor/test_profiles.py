"""What is advised: for each machine and family, from figures that are shown, with lines that can be typed."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest

import handeye.compute
from handeye.compute.advice import GPUS, count, stacks
from handeye.doctor.config import DoctorConfig
from handeye.doctor.machines import MACHINES
from handeye.doctor.probes import fits
from handeye.doctor.profiles import USES, advise, weights
from handeye.doctor.run import run
from handeye.errors import UserError
from handeye.protocols.presets import protocol
from handeye.train.presets import PRESETS

FLAGS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("family", USES)
def test_what_is_advised_fits(machine: str, family: str) -> None:
    found, have = advise(machine, family), MACHINES[machine]
    room = have.gib * 1.074 or have.memory
    assert not found.precision or found.act_gb < room
    assert bool(found.precision) == (found.evaluate_h < math.inf)
    if found.train:
        assert found.train_gb < room and 0 < found.epoch_h < math.inf
        preset = PRESETS[USES[family].presets[found.train]].make()
        assert found.micro * found.accumulate == preset.batch
    assert have.bfloat16 or found.precision != "bf16"
    assert found.why and (found.lines or not have.gib)


def test_more_memory_is_never_worse() -> None:
    for family in USES:
        small, large = advise("sciserver-40gb", family), advise("a100", family)
        assert large.answer_s <= small.answer_s and bool(large.train) >= bool(small.train)


def test_figures_agree_with_what_was_published() -> None:
    """On 80 GB OpenVLA takes 16 examples (its README), OFT 8 in 62 GB (LIBERO.md); two cores are of use to `tiny`."""
    openvla, oft = advise("a100", "openvla"), advise("a100", "openvla_oft")
    assert (openvla.train, openvla.micro) == ("lora", 16)
    assert oft.micro == 8 and oft.train_gb == pytest.approx(62, rel=0.1)
    assert advise("colab-t4", "vggt_vla").train == "lora"
    assert [family for family in USES if advise("cpu", family).lines] == ["tiny"]


def test_what_fits_is_counted_by_the_same_figures() -> None:
    found = fits("a card", "80.0", "True")
    assert set(found) == set(USES)
    assert found["openvla"]["act"] == f"bf16 {advise('a100', 'openvla').act_gb:.1f} GB"
    assert found["openvla"]["train"] == f"lora {advise('a100', 'openvla').micro} at once"


def test_weights_are_those_of_the_models() -> None:
    """Blocks hold nearly all of a model: what times are computed from is what memory is counted from."""
    for family in ("openvla", "openvla_oft", "pi05"):
        blocks = sum(map(weights, stacks(family)))
        assert 0.8 < blocks / count(family).total < 1.01, family


def test_the_lines_can_be_typed() -> None:
    verbs = {"train": "## handeye train\n", "evaluate": "## handeye evaluate\n"}
    seen = 0
    for machine in MACHINES:
        for family in USES:
            for line in advise(machine, family).lines:
                words = line.split()
                assert words[0] == "handeye" and verbs[words[1]] in FLAGS
                for flag in re.findall(r"--[a-z-]+", line):
                    assert flag in FLAGS, flag
                if words[1] == "train":
                    assert words[2] in PRESETS
                elif "--protocol" in words:
                    protocol(words[words.index("--protocol") + 1])
                seen += 1
    assert seen > 30


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "handeye.compute.advice", None)
    monkeypatch.delattr(handeye.compute, "advice", raising=False)
    with pytest.raises(UserError, match="cannot be counted"):
        advise("a100", "openvla")


def test_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(DoctorConfig(profile="colab-t4")) == 0
    out = capsys.readouterr().out
    assert "Tesla T4" in out and "NVIDIA T4 data sheet" in out and "estimates, not measurements" in out
    assert "304 tokens x 32 blocks of 4096" in out and "--quantize nf4" in out
    assert "acts in float16" in out and "training has no float16 here" in out
    assert run(DoctorConfig(profile="colab-t4", json=True)) == 0
    assert set(json.loads(capsys.readouterr().out)) == set(USES)


def test_a_line_is_the_run_that_the_figures_are_of() -> None:
    for machine in MACHINES:
        for family in USES:
            found = advise(machine, family)
            if not found.train:
                continue
            again = PRESETS[USES[family].presets[found.train]].make().checkpointing
            line = next(line for line in found.lines if line.startswith("handeye train"))
            asked = "--no-checkpointing" not in line and (again or "--checkpointing" in line)
            assert asked == found.checkpointing, line


def test_every_class_of_gpu_has_a_profile() -> None:
    for card in GPUS.values():
        assert any(abs(machine.gib - card.gib) <= 3 for machine in MACHINES.values()), card.name


def test_a_profile_checks_nothing_and_takes_nothing_to_check() -> None:
    for flags in ({"data": (Path("/nonexist"),)}, {"topics": ("gpu",)}, {"offline": True}, {"port": 9}):
        with pytest.raises(UserError, match=f"goes without --{next(iter(flags))}"):
            DoctorConfig(profile="a100", **flags)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="would not be looked at"):
        DoctorConfig(topics=("gpu",), data=(Path("/nonexist"),))
    DoctorConfig(topics=("gpu", "given"), data=(Path("/nonexist"),))
