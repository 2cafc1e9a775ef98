"""GPUs that are not here: what is said of each, by the same figures as the profiles."""

from __future__ import annotations

from typing import Any

import pytest

from handeye.doctor import attention, gpu, probes
from handeye.doctor.findings import Finding

LARGE = {"openvla": {"act": "bf16 15.3 GB", "train": "lora 16 at once"}}
FITS = {
    "Tesla T4": {"openvla": {"act": "int8 8.8 GB", "train": "qlora 32 at once"}},
    "GTX 1650": {"openvla": {"act": "", "train": ""}},
    "NVIDIA A100-SXM4-80GB": LARGE, "NVIDIA L40S": LARGE, "NVIDIA B200": LARGE,
}  # fmt: skip


def card(name: str, total: float, capability: tuple[int, int], **changes: Any) -> dict[str, Any]:
    device = {"name": name, "capability": list(capability), "total": total * 1e9, "free": total * 1e9, "bf16": True}
    return {"version": "2.13.0", "cuda": "12.8", "devices": [{**device, **changes}], "threads": 2, "architectures": []}


def look(monkeypatch: pytest.MonkeyPatch, answer: Any, driver: str = "") -> dict[str, Finding]:
    """What fits is counted in tests of the profiles."""
    monkeypatch.setattr(probes, "ask", lambda name, *given, **_: FITS[given[0]] if name == "fits" else answer)
    monkeypatch.setattr(gpu, "_driver", lambda: driver)
    return {each.about: each for each in gpu.check()}


def test_a_t4(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, card("Tesla T4", 15.6, (7, 5)))
    assert "15.6" not in found["Tesla T4"].found and "16 GB, capability 7.5" in found["Tesla T4"].found
    assert found["half precision"].verdict == "warn" and "fp16" in found["half precision"].fix
    assert (
        "openvla int8 8.8 GB" in found["acts with"].found and "openvla qlora 32 at once" in found["trains with"].found
    )
    assert "flash-attn" not in found


def test_an_a100(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, card("NVIDIA A100-SXM4-80GB", 85, (8, 0)))
    assert not [each for each in found.values() if each.verdict != "ok"]
    assert "openvla bf16 15.3 GB" in found["acts with"].found


def test_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, card("GTX 1650", 4, (7, 5)))
    assert found["acts with"].verdict == "warn" and "openvla does not fit" in found["acts with"].found
    assert "openvla does not fit" in found["trains with"].found


def test_one_that_somebody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = look(monkeypatch, card("NVIDIA L40S", 46, (8, 9), free=5e9))
    assert found["memory in use"].verdict == "warn" and "41.0 of 46.0 GB" in found["memory in use"].found


def test_one_that_this_torch_has_no_kernels_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = card("NVIDIA B200", 180, (10, 0)) | {"architectures": ["sm_80", "sm_90"]}
    assert look(monkeypatch, answer)["kernels"].verdict == "fail"


def test_a_gpu_and_a_torch_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    none = {"version": "2.13.0+cpu", "cuda": None, "devices": [], "threads": 2}
    found = look(monkeypatch, none, "Tesla T4, 15360 MiB, 550.54")
    assert found["GPU"].verdict == "fail" and "CPU build" in found["GPU"].found
    hidden = look(monkeypatch, {**none, "cuda": "12.8"}, "Tesla T4, 15360 MiB, 550.54")
    assert hidden["GPU"].verdict == "fail" and "CUDA_VISIBLE_DEVICES" in hidden["GPU"].fix
    assert look(monkeypatch, none)["GPU"].verdict == "warn"


def test_attention_that_is_wrong_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = {"math, float32": {"error": 1e-7}, "flash, float16": {"error": 0.3}, "cudnn, float32": {"not": "no"}}
    answer = {"device": "cuda", "backends": backends}
    monkeypatch.setattr(probes, "ask", lambda *_, **__: answer)
    found = {each.about: each for each in attention.check()}
    assert found["flash, float16"].verdict == "fail" and "eager" in found["flash, float16"].fix
    assert found["with padding"].verdict == "ok" and "cudnn" in found["not here"].found


def test_every_way_of_this_machine_is_compared() -> None:
    answer = probes.ask("attention")
    errors = [each["error"] for each in answer["backends"].values() if "error" in each]
    assert errors and max(errors) < 1e-4
