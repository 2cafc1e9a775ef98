"""Questions to libraries that may be missing, broken, or crash the process that imports them: each is asked in a
process of its own, `python -m handeye.doctor.probes NAME`, which answers with one line of JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib import import_module
from typing import Any

MARK = "handeye-probe:"
"""Before the answer: libraries print, too."""


class UnansweredError(Exception):
    """The probe's process died, hung or raised; the message says how."""


def ask(name: str, *arguments: str, timeout: float = 120.0) -> Any:
    command = [sys.executable, "-m", "handeye.doctor.probes", name, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise UnansweredError(f"no answer after {timeout:.0f} s") from None
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(MARK):
            answer = json.loads(line.removeprefix(MARK))
            if "raised" in answer:
                raise UnansweredError(answer["raised"])
            return answer["answer"]
    if done.returncode < 0:
        raise UnansweredError(f"the process was killed by {signal.Signals(-done.returncode).name}")
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "nothing was said")
    raise UnansweredError(f"exit code {done.returncode}: {last[:200]}")


# ---- in the other process --------------------------------------------------------------------------------------------


def torch_and_gpus() -> dict[str, Any]:
    import torch

    devices = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            devices.append(
                {
                    "name": properties.name,
                    "capability": [properties.major, properties.minor],
                    "total": total,
                    "free": free,
                    "bf16": torch.cuda.is_bf16_supported(including_emulation=False),
                }
            )
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": devices,
        "threads": torch.get_num_threads(),
        "architectures": torch.cuda.get_arch_list() if devices else [],
    }


def imports(*names: str) -> dict[str, str]:
    """Name -> what went wrong; "" if nothing did."""
    found = {}
    for name in names:
        try:
            import_module(name)
            found[name] = ""
        except BaseException as error:  # whatever a broken library can raise
            text = str(error).strip().splitlines()
            found[name] = f"{type(error).__name__}: {text[0][:160] if text else ''}"
    return found


def fits(name: str, gib: str, bfloat16: str) -> dict[str, dict[str, str]]:
    """Family -> how it acts and how it learns on such a GPU; "" where it does not fit."""
    from handeye.compute.advice import Gpu, advise
    from handeye.doctor.profiles import USES

    card, found = Gpu(name=name, gib=float(gib), bfloat16=bfloat16 == "True"), {}
    for family in USES:
        advised = advise(family, card)
        act = f"{advised.act.precision} {advised.act.memory.total / 1e9:.1f} GB" if advised.act else ""
        train = next((f"{plan.way} {plan.batch} at once" for plan in advised.train), "")
        found[family] = {"act": act, "train": train}
    return found


def attention() -> dict[str, Any]:
    """Every way in which torch computes attention here, with padding, against a sum in double precision."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtypes = [torch.float32] if device == "cpu" else [torch.float32, torch.float16]
    if device == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        dtypes.append(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 4, 64, 64, generator=generator, dtype=torch.float64) for _ in range(3))
    there = torch.ones(2, 1, 1, 64, dtype=torch.bool)
    there[1, ..., 40:] = False
    exact = ((q @ k.mT / 8).masked_fill(~there, -torch.inf).softmax(-1) @ v).to(device)
    names = {
        "math": SDPBackend.MATH,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
    }
    found: dict[str, Any] = {"device": device, "backends": {}}
    for dtype in dtypes:
        for name, backend in names.items():
            key = f"{name}, {str(dtype).removeprefix('torch.')}"
            try:
                with sdpa_kernel(backend):
                    a, b, c = (x.to(device, dtype) for x in (q, k, v))
                    out = scaled_dot_product_attention(a, b, c, attn_mask=there.to(device))
                found["backends"][key] = {"error": float((out.double() - exact).norm() / exact.norm())}
            except (RuntimeError, ValueError) as error:
                found["backends"][key] = {"not": str(error).splitlines()[0][:120]}
    return found


def simulator() -> list[dict[str, Any]]:
    from handeye.sim.check import probe

    return [asdict(finding) for finding in probe("auto")]


def egl() -> dict[str, Any]:
    """Which GPU EGL would draw with, and how many there are."""
    from handeye.sim.rendering import choice

    found = choice("auto")
    return {"backend": found.backend, "renderer": found.renderer}


PROBES: dict[str, Callable[..., Any]] = {
    "torch": torch_and_gpus,
    "imports": imports,
    "fits": fits,
    "attention": attention,
    "simulator": simulator,
    "egl": egl,
}


def main(arguments: Sequence[str]) -> None:
    try:
        answer = {"answer": PROBES[arguments[0]](*arguments[1:])}
    except BaseException as error:  # the asking process wants a reason, whatever it is
        text = str(error).strip().splitlines()
        answer = {"raised": f"{type(error).__name__}: {text[0][:300] if text else ''}"}
    print(MARK + json.dumps(answer), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1:])
