"""What to use on a kind of machine, for each family: what fits, what it is made of, about how long it takes, and the
lines to type. Estimates: each figure they start from is here, with its source, and printed beside them.

    memory of an answer     weights in their precision x 1.2
    memory of training      weights, adapters and their optimizer, + what each example of a batch keeps
    time of an answer       2 x weights x tokens / (speed x 0.4), + passes that only read: weights / (bandwidth x 0.7)
    time of a step          8 x weights x tokens x batch / (speed x 0.35): forward, backward, and forward once more
                            where activations are computed again
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from handeye.console import say
from handeye.doctor.machines import MACHINES, Machine

USE, READ, TRAIN = 0.4, 0.7, 0.35
"""Shares of a GPU's best that large transformers reach: multiplying for one answer, reading weights, training. Assumed;
training's is what public reports of transformers of this size lie around."""

ROOM = 1.2
STEPS = 220
"""Of an episode: LIBERO-Spatial's horizon, which failures use up (openvla run_libero_eval.py:174)."""

PHYSICS, DRAW = 0.008, 0.09
"""Seconds of one core: a control step, and two pictures of 256 x 256 in software. Together 155 ms for eight steps and
one look (docs/evaluation.md). A GPU draws faster; that is not counted."""

EPISODES = 500
FRAMES = 52_970
"""Steps of LIBERO-Spatial's demonstrations without no-ops (lerobot/libero_spatial_image)."""

BYTES = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "int8": 1.0, "nf4": 0.52}
"""Per weight. nf4: half a byte, and scales that are quantised themselves (Dettmers et al. 2023)."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Billions of weights as `handeye inspect` counts them."""

    weights: float
    quantised: float
    """Of them in the Linear layers that --precision int8 and nf4 reach (compute/precision.py)."""

    tokens: int
    """Read for one answer."""

    passes: int
    """That read weights and hardly multiply: further action tokens, steps of denoising."""

    per_pass: float
    """Billions of weights that such a pass reads."""

    replan: int
    """Actions executed of an answer, by the protocol of its published numbers."""

    example_gb: float
    """That one training example keeps, with LoRA in bfloat16."""

    example_source: str
    adapters_gb: float
    """LoRA of rank 32, its gradients and its optimizer."""

    batch: int
    """Of the published run."""

    protocol: str
    preset: str
    types: tuple[str, ...] = ("bf16", "fp16", "fp32")
    """That it acts in (its model's own `types`)."""

    step_s: float | None = None
    """Of training, measured, where it does not depend on a GPU."""


FAMILIES: Mapping[str, Family] = {
    "tiny": Family(
        weights=0.0009, quantised=0.0, tokens=1, passes=0, per_pass=0.0, replan=8, example_gb=0.01,
        example_source="measured; 15,000 steps of training take under an hour on two cores", adapters_gb=0.0, batch=32,
        protocol="", preset="tiny_libero_spatial", types=("fp32",), step_s=0.24,
    ),
    "openvla": Family(
        weights=7.54, quantised=6.48, tokens=281, passes=6, per_pass=7.54, replan=1, example_gb=3.3,
        example_source="72 GB with 16 examples (openvla README), less weights and adapters", adapters_gb=1.8,
        batch=128, protocol="openvla-2024", preset="openvla_libero_spatial",
    ),
    "openvla_oft": Family(
        weights=7.65, quantised=6.48, tokens=600, passes=0, per_pass=0.0, replan=8, example_gb=5.3,
        example_source="62 GB with 8 examples, 25 GB with one (openvla-oft LIBERO.md)", adapters_gb=1.8, batch=64,
        protocol="oft-2025", preset="oft_libero_spatial",
    ),
    "pi05": Family(
        weights=3.62, quantised=0.0, tokens=712, passes=10, per_pass=0.43, replan=5, example_gb=2.0,
        example_source="22.5 GB for LoRA (openpi README), less weights; assumed for several examples", adapters_gb=1.0,
        batch=32, protocol="openpi-2025", preset="pi05_libero_lora", types=("bf16", "fp32"),
    ),
    "vggt_vla": Family(
        weights=1.54, quantised=0.0, tokens=599, passes=0, per_pass=0.0, replan=10, example_gb=2.5,
        example_source="34 bytes x tokens x width x blocks (Korthikanti et al. 2022), twice for DINOv2 and VGGT",
        adapters_gb=1.0, batch=32, protocol="openpi-2025", preset="vggt_vla_libero_spatial", types=("fp32",),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Of one family on one machine. What does not fit is empty."""

    family: str
    precision: str
    """While acting."""

    attention: str
    act_gb: float
    answer_s: float
    evaluate_h: float
    """500 episodes of 220 steps, simulator and model side by side."""

    workers: int
    rows: int
    train: str
    """`bf16 LoRA`, `nf4 LoRA`, or "" if not even one example fits."""

    micro: int
    """Examples in memory at once."""

    accumulate: int
    train_gb: float
    epoch_h: float
    """Each step of LIBERO-Spatial's demonstrations once."""

    lines: tuple[str, ...]
    why: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def advise(name: str, family: str) -> Advice:
    machine, of = MACHINES[name], FAMILIES[family]
    precision, act_gb = acting(machine, of)
    answer = _answer(machine, of, precision) if precision else math.inf
    questions = STEPS / of.replan
    simulator = EPISODES * (STEPS * PHYSICS + questions * DRAW) / machine.cores
    method, micro, train_gb = training(machine, of)
    accumulate = max(1, of.batch // micro) if micro else 0
    step = of.step_s or 8 * of.weights * 1e9 * of.tokens * of.batch / (_speed(machine, "bf16") * TRAIN)
    return Advice(
        family=family,
        precision=precision,
        attention="sdpa" if not machine.bfloat16 else "auto",
        act_gb=act_gb,
        answer_s=answer,
        evaluate_h=max(simulator, EPISODES * questions * answer) / 3600 if precision else math.inf,
        workers=machine.cores,
        rows=4 if machine.gpu_gb > 2 * act_gb else 1,
        train=method,
        micro=micro,
        accumulate=accumulate,
        train_gb=train_gb,
        epoch_h=FRAMES / of.batch * step / 3600 if micro else math.inf,
        lines=_lines(machine, of, family, precision, method, accumulate),
        why=(
            f"{of.weights:g} billion weights, {of.tokens} tokens a question, {of.passes} passes after that",
            f"an example in training: {of.example_gb:g} GB ({of.example_source})",
        ),
    )


def _gb(of: Family, precision: str) -> float:
    """Of the weights."""
    if precision in ("int8", "nf4"):
        return of.quantised * BYTES[precision] + (of.weights - of.quantised) * 2
    return of.weights * BYTES[precision]


def acting(machine: Machine, of: Family) -> tuple[str, float]:
    """The most exact precision that fits, and its memory."""
    room = machine.gpu_gb or machine.memory
    half = "bf16" if machine.bfloat16 else "fp16"
    choices = [kind for kind in ("fp32",) if half not in of.types or not machine.gpu_gb] or [half]
    choices += ["int8", "nf4"] if of.quantised and machine.gpu_gb else []
    for precision in choices:
        if (need := _gb(of, precision) * ROOM) < room:
            return precision, need
    return "", _gb(of, choices[-1]) * ROOM


def _speed(machine: Machine, precision: str) -> float:
    """Numbers a second. What has no bfloat16 computes it in single precision."""
    single = precision == "fp32" or (precision == "bf16" and not machine.bfloat16)
    return (machine.single if single else machine.tflops) * 1e12


def _answer(machine: Machine, of: Family, precision: str) -> float:
    multiply = 2 * of.weights * 1e9 * of.tokens / (_speed(machine, precision) * USE)
    share = _gb(of, precision) / of.weights
    return multiply + of.passes * of.per_pass * share / (machine.bandwidth * READ)


def training(machine: Machine, of: Family) -> tuple[str, int, float]:
    """How, with how many examples at once, and the memory that takes."""
    if of.step_s is not None:
        return "full, fp32", of.batch, max(1.0, of.batch * of.example_gb)
    if machine.gpu_gb == 0:
        return "", 0, of.weights * 4 * 4
    for method, precision in (("bf16 LoRA", "bf16"), ("nf4 LoRA", "nf4")):
        if precision == "nf4" and not of.quantised:
            continue
        base = _gb(of, precision) + of.adapters_gb
        room = machine.gpu_gb * 0.95 - base
        if (examples := int(room / of.example_gb)) >= 1:
            micro = min(of.batch, 2 ** int(math.log2(examples)))
            return method, micro, base + micro * of.example_gb
    return "", 0, _gb(of, "nf4" if of.quantised else "bf16") + of.adapters_gb + of.example_gb


def _lines(machine: Machine, of: Family, family: str, precision: str, method: str, accumulate: int) -> tuple[str, ...]:
    lines = []
    if method and family != "tiny":
        quantised = " --quantize nf4" if method.startswith("nf4") else ""
        loaders = f" --loader-workers {min(8, machine.cores - 1)}" if machine.cores > 2 else ""
        rank = "" if of.preset.endswith("_lora") else " --lora-rank 32"
        lines.append(
            f"handeye train {of.preset} --precision bf16{rank} --checkpointing --accumulate {accumulate}"
            f"{quantised}{loaders}"
        )
    elif method:
        lines.append(f"handeye train {of.preset}")
    if precision:
        how = f" --precision {precision}" if family != "tiny" else ""
        how += " --attention sdpa" if family.startswith("openvla") and not machine.bfloat16 else ""
        how += f" --protocol {of.protocol}" if of.protocol else ""
        where = "CHECKPOINT" if family != "tiny" else "runs/tiny_libero_spatial"
        lines.append(f"handeye evaluate {where} --suite libero_spatial --workers {machine.cores}{how}")
    return tuple(lines)


# ---- on the screen ---------------------------------------------------------------------------------------------------


def show(name: str) -> None:
    machine = MACHINES[name]
    say(f"{name}: {machine.about}")
    if machine.gpu_gb:
        half = "bfloat16" if machine.bfloat16 else "no bfloat16: float16"
        say(f"  {machine.gpu_gb:g} GB usable, {machine.tflops:g} TFLOPS, {machine.bandwidth:g} GB/s, {half}")
    say(f"  {machine.cores} cores, {machine.memory:g} GB ({machine.source})")
    for family in FAMILIES:
        _show(advise(name, family))
    say()
    say(f"Estimates, not measurements: {USE:.0%} of the GPU's speed in an answer, {TRAIN:.0%} in training,")
    say(
        f"{READ:.0%} of its bandwidth; {EPISODES} episodes of {STEPS} steps, {PHYSICS * 1e3:g} ms of a core for a step,"
    )
    say(f"{DRAW * 1e3:g} ms for two pictures drawn in software; an epoch is {FRAMES:,} steps.")


def _show(advice: Advice) -> None:
    say()
    say(advice.family)
    if advice.precision:
        say(f"  act    {advice.precision}, attention {advice.attention}, {advice.act_gb:.1f} GB, rows {advice.rows}")
        answer, evaluate = f"{advice.answer_s * 1e3:.0f} ms an answer", _hours(advice.evaluate_h)
        say(f"         {answer}, {EPISODES} episodes in {evaluate} with {advice.workers} workers")
    else:
        say(f"  act    does not fit: {advice.act_gb:.1f} GB")
    if advice.train:
        batch = f"{advice.micro} at once x {advice.accumulate}"
        say(f"  train  {advice.train}, {advice.train_gb:.0f} GB, batch {batch}, an epoch in {_hours(advice.epoch_h)}")
    else:
        say(f"  train  does not fit: {advice.train_gb:.0f} GB for one example")
    for line in advice.why:
        say(f"  from   {line}")
    for line in advice.lines:
        say(f"  type   {line}")


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return "under a minute"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.0f} hours"
