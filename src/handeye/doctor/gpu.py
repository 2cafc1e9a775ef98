"""Which GPU there is, what it can, and what fits into it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from importlib import util
from typing import Any

from handeye.doctor import probes
from handeye.doctor.findings import Finding, of

TOPIC = "gpu"
ok, warn, fail = of(TOPIC)

AMPERE = (8, 0)
"""From here on bfloat16 and flash-attn 2."""

GB = 1e9
PROFILE = "handeye doctor --profile colab-t4 (or vast-l40s, a100) shows the figures"


def check() -> Iterator[Finding]:
    driver = _driver()
    try:
        found = probes.ask("torch")
    except probes.UnansweredError as why:
        yield fail(
            "torch",
            str(why),
            "no model runs; the simulator, demonstrations and reports do",
            "pip install --force-reinstall -c constraints.txt torch",
        )
        if driver:
            yield ok("driver", driver)
        return
    yield ok("torch", f"{found['version']}, {'CUDA ' + found['cuda'] if found['cuda'] else 'a CPU build'}")
    if not found["devices"]:
        yield _none(found, driver)
        return
    if driver:
        yield ok("driver", driver)
    for device in found["devices"]:
        yield from _device(device, found)


def _driver() -> str:
    """What nvidia-smi says, which needs no torch. "" where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else ""


def _none(found: Mapping[str, Any], driver: str) -> Finding:
    if driver and not found["cuda"]:
        return fail(
            "GPU",
            f"{driver}, and torch is a CPU build",
            "everything would run on the CPU, a hundred times slower",
            "pip install torch --index-url of a CUDA build (pytorch.org/get-started)",
        )
    if driver:
        return fail(
            "GPU",
            f"{driver}, and torch does not see it",
            "the driver is older than torch's CUDA, or it is hidden",
            "check CUDA_VISIBLE_DEVICES; install a torch for the driver's CUDA",
        )
    return warn(
        "GPU",
        "none",
        "`tiny` works in minutes; billions of weights take minutes for one answer",
        "handeye doctor --profile cpu",
    )


def _device(device: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Finding]:
    name, capability = device["name"], tuple(device["capability"])
    total, free = device["total"] / GB, device["free"] / GB
    yield ok(name, f"{total:.0f} GB, capability {capability[0]}.{capability[1]}")
    if free < 0.8 * total:
        yield warn(
            "memory in use",
            f"{total - free:.1f} of {total:.1f} GB",
            "less fits than the card has, and speeds are not the card's own",
            "nvidia-smi shows whose it is",
        )
    if capability < AMPERE:
        yield warn(
            "half precision",
            "bfloat16 in software only",
            "bf16 is slower than float32, and flash-attn 2 does not run",
            "use --precision fp16 or 8 bits, and --attention sdpa",
        )
    else:
        yield ok("half precision", "bfloat16")
    architecture = f"sm_{capability[0]}{capability[1]}"
    known = found.get("architectures") or [architecture]
    if not any(each.startswith(f"sm_{capability[0]}") for each in known):
        yield fail(
            "kernels",
            f"this torch has none for {architecture}: {', '.join(known)}",
            "the first operation ends with 'no kernel image'",
            "install a torch built for this GPU",
        )
    if capability >= AMPERE:
        there = util.find_spec("flash_attn") is not None
        yield ok("flash-attn", "installed" if there else "not installed; sdpa gives the same answers, nearly as fast")
    yield from _fits(name, total, capability >= AMPERE)


def _fits(name: str, total: float, bfloat16: bool) -> Iterator[Finding]:
    """From shapes, as `handeye doctor --profile` and compute/advice.py count them."""
    try:
        plans = probes.ask("fits", name, str(total * GB / 2**30), str(bfloat16))
    except probes.UnansweredError as why:
        yield warn("what fits", f"not counted: {why}", "nothing is known about memory", PROFILE)
        return
    act = {family: plan["act"] for family, plan in plans.items()}
    said = ", ".join(f"{family} {plan or 'does not fit'}" for family, plan in act.items())
    if all(act.values()):
        yield ok("acts with", said)
    else:
        yield warn("acts with", said, "the others end with 'out of memory'", PROFILE)
    yield ok("trains with", ", ".join(f"{family} {plan['train'] or 'does not fit'}" for family, plan in plans.items()))
