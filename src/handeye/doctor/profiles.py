"""What to use on a kind of machine, for each family: what fits, about how long it takes, and the lines to type.

Memory is counted from shapes (compute/advice.py). Times are estimates from figures that are printed beside them:

    an answer   multiplications / (the GPU's speed x 0.4), and for passes that only read, weights / (bandwidth x 0.7)
    a step      3 times an answer's multiplications for every weight, 2 for adapters alone, once more where activations
                are computed again; / (speed x 0.35)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from handeye.console import say
from handeye.doctor.machines import MACHINES, Machine
from handeye.errors import UserError

if TYPE_CHECKING:
    from handeye.compute.advice import Plan, Stack
    from handeye.train.config import TrainConfig

USE, READ, TRAIN = 0.4, 0.7, 0.35
"""Shares of a GPU's best that large transformers reach: multiplying for one answer, reading weights, training. Assumed;
training's is what public reports of transformers of this size lie around."""

STEPS = 220
"""Of an episode: LIBERO-Spatial's horizon, which failures use up (openvla run_libero_eval.py:174)."""

PHYSICS, DRAW = 0.008, 0.09
"""Seconds of one core: a control step, and two pictures of 256 x 256 in software. Together 155 ms for eight steps and
one look (docs/evaluation.md). A GPU draws faster; that is not counted."""

EPISODES = 500
FRAMES = 52_970
"""Steps of LIBERO-Spatial's demonstrations without no-ops (lerobot/libero_spatial_image)."""

PATIENCE = 20.0
"""Seconds. Where an answer takes longer, nobody evaluates."""

EMULATED = "no bfloat16 arithmetic: training in it is emulated, at the speed of single precision at best"

TINY_STEP = 0.24
"""Seconds of training on two cores: 15,000 steps take under an hour (train/presets.py)."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """Of a family, by the protocol of its published numbers."""

    protocol: str
    replan: int
    """Actions executed of an answer."""

    passes: Mapping[int, int]
    """Which of its stacks runs how often more for one answer, token by token or step by step, and mostly reads."""

    presets: Mapping[str, str]
    """Way of training -> the preset for it. pi0.5's of every weight averages them too, and needs several GPUs."""

    half: bool = False
    """It is published for bfloat16, though its configuration says float32 unless it is told."""


USES: Mapping[str, Use] = {
    "tiny": Use(protocol="", replan=8, passes={}, presets={"full": "tiny_libero_spatial"}),
    "openvla": Use(
        protocol="openvla-2024", replan=1, passes={2: 6},
        presets={"lora": "openvla_libero_spatial", "qlora": "openvla_libero_spatial"},
    ),
    "openvla_oft": Use(
        protocol="oft-2025", replan=8, passes={},
        presets={"lora": "oft_libero_spatial", "qlora": "oft_libero_spatial"},
    ),
    "pi05": Use(
        protocol="openpi-2025", replan=5, passes={2: 9},
        presets={"lora": "pi05_libero_lora"}, half=True,
    ),
    "vggt_vla": Use(
        protocol="handeye-2026", replan=8, passes={},
        presets={"lora": "vggt_vla_libero_spatial"},
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
    """1e9 bytes, as are the others."""

    answer_s: float
    evaluate_h: float
    """500 episodes of 220 steps, simulator and model side by side."""

    workers: int
    train: str
    """`full`, `lora`, `qlora`, or "" if not even one example fits."""

    micro: int
    """Examples in memory at once."""

    accumulate: int
    checkpointing: bool
    train_gb: float
    epoch_h: float
    """Each step of LIBERO-Spatial's demonstrations once."""

    lines: tuple[str, ...]
    why: tuple[str, ...]
    """The figures behind it."""

    def to_json(self) -> dict[str, Any]:
        return {name: None if value == math.inf else value for name, value in asdict(self).items()}


def advise(name: str, family: str) -> Advice:
    """UserError where torch, which the models are counted with, is not there."""
    try:
        from handeye.compute import advice
        from handeye.models import FAMILIES
    except Exception as error:  # a broken torch raises whatever it likes
        raise UserError(
            "What fits cannot be counted.", why=f"torch: {error}", fix="handeye doctor --topics environment gpu"
        ) from None
    machine, use = MACHINES[name], USES[family]
    card = advice.Gpu(name=machine.about, gib=machine.gib or machine.memory / 1.074, bfloat16=machine.bfloat16)
    given: Any = import_module(FAMILIES[family]).Config()
    if hasattr(given, "dtype"):  # without a GPU what is halved or rounded is slower still
        half = "bfloat16" if use.half and machine.bfloat16 else given.dtype
        given = replace(given, dtype=half if machine.gib else "float32")
    blocks, counted = advice.stacks(family, given), advice.count(family, given)
    advised = advice.advise(family, card, given)
    act, plan = advised.act, _training(machine, use, advised.train)
    if act is not None and machine.gib == 0 and act.precision != "fp32":
        act = None
    answer = _answer(machine, use, blocks, act) if act is not None else math.inf
    if answer > PATIENCE:
        act = None
    batch = _preset(use.presets[plan.way]).batch if plan is not None else 0
    micro = min(plan.batch, batch) if plan is not None else 0
    questions = STEPS / use.replan
    simulator = EPISODES * (STEPS * PHYSICS + questions * DRAW) / machine.cores
    need = advice.memory(family, given) if act is None else act.memory
    accumulate = max(1, batch // micro) if micro else 0
    return Advice(
        family=family,
        precision="" if act is None else act.precision,
        attention="sdpa" if not machine.bfloat16 else "auto",
        act_gb=need.total / 1e9,
        answer_s=answer,
        evaluate_h=math.inf if act is None else max(simulator, EPISODES * questions * answer) / 3600,
        workers=machine.cores,
        train="" if plan is None else plan.way,
        micro=micro,
        accumulate=accumulate,
        checkpointing=plan is not None and plan.checkpointing,
        train_gb=0.0 if plan is None else plan.memory.total / 1e9,
        epoch_h=_epoch(machine, family, blocks, plan),
        lines=_lines(machine, family, act, plan, accumulate),
        why=(
            *_why(counted.total, blocks, plan),
            *(EMULATED,) * (plan is not None and not machine.bfloat16 and bool(blocks)),
        ),
    )


def _training(machine: Machine, use: Use, plans: tuple[Plan, ...]) -> Plan | None:
    """The first that there is a preset for; on a CPU only what learns there."""
    known = [plan for plan in plans if plan.way in use.presets]
    if machine.gib == 0 and use.protocol:
        return None
    return known[0] if known else None


def _preset(name: str) -> TrainConfig:
    from handeye.train.presets import PRESETS

    return PRESETS[name].make()


# ---- times -----------------------------------------------------------------------------------------------------------


def weights(stack: Stack) -> float:
    """Numbers in one stack's blocks."""
    attention = 4 if stack.kind == "vit" else 2 + 2 * _shared(stack)
    mlp = 2 if stack.kind == "vit" else 3
    return float(stack.depth * stack.width * (attention * stack.heads + mlp * stack.mlp))


def _shared(stack: Stack) -> float:
    """Keys' and values' share of the queries' width."""
    return stack.cached / (2 * stack.heads) if stack.cached else 1.0


def multiplications(blocks: tuple[Stack, ...]) -> float:
    return sum((2 * stack.tokens * weights(stack) for stack in blocks), 0.0)


def _speed(machine: Machine, precision: str) -> float:
    """Numbers a second. What has no bfloat16 computes it in single precision."""
    single = precision == "fp32" or (precision == "bf16" and not machine.bfloat16)
    return (machine.single if single else machine.tflops) * 1e12


def _answer(machine: Machine, use: Use, blocks: tuple[Stack, ...], act: Plan) -> float:
    bytes_each = {"fp32": 4.0, "int8": 1.0, "nf4": 0.52}.get(act.precision, 2.0)
    read = sum(times * weights(blocks[index]) * bytes_each for index, times in use.passes.items())
    multiply = multiplications(blocks) / (_speed(machine, act.precision) * USE)
    return multiply + read / (machine.bandwidth * 1e9 * READ)


def _epoch(machine: Machine, family: str, blocks: tuple[Stack, ...], plan: Plan | None) -> float:
    if plan is None:
        return math.inf
    if family == "tiny":
        return FRAMES / 32 * TINY_STEP / 3600
    passes = (3 if plan.way == "full" else 2) + plan.checkpointing
    return FRAMES * passes * multiplications(blocks) / (_speed(machine, "bf16") * TRAIN) / 3600


# ---- lines -----------------------------------------------------------------------------------------------------------


def _lines(machine: Machine, family: str, act: Plan | None, plan: Plan | None, accumulate: int) -> tuple[str, ...]:
    use, lines = USES[family], []
    if plan is not None:
        preset = _preset(use.presets[plan.way])
        how = "" if family == "tiny" else f" --precision bf16 --accumulate {accumulate}"
        if plan.checkpointing != preset.checkpointing:
            how += " --checkpointing" if plan.checkpointing else " --no-checkpointing"
        how += " --quantize nf4" if plan.way == "qlora" else ""
        how += f" --loader-workers {min(8, machine.cores - 1)}" if machine.cores > 2 and family != "tiny" else ""
        lines.append(f"handeye train {use.presets[plan.way]}{how}")
    if act is not None:
        how = "" if family == "tiny" else f" --precision {act.precision}"
        how += " --attention sdpa" if family.startswith("openvla") and not machine.bfloat16 else ""
        how += f" --protocol {use.protocol}" if use.protocol else ""
        where = "CHECKPOINT" if use.protocol else "runs/tiny_libero_spatial"
        lines.append(f"handeye evaluate {where} --suite libero_spatial --workers {machine.cores}{how}")
    return tuple(lines)


def _why(total: int, blocks: tuple[Stack, ...], plan: Plan | None) -> tuple[str, ...]:
    tokens = "; ".join(f"{stack.tokens} tokens x {stack.depth} blocks of {stack.width}" for stack in blocks)
    size = f"{total / 1e9:.2f} billion weights" if total > 1e8 else f"{total / 1e6:.2f} million weights"
    said = [size + (f"; {tokens}" if tokens else "")]
    if plan is not None and blocks:
        parts = plan.memory
        said.append(
            f"training: {parts.weights / 1e9:.1f} GB of weights, {parts.learning / 1e9:.1f} to learn with, "
            f"{parts.activations / 1e9:.1f} of activations"
        )
    return tuple(said)


# ---- on the screen ---------------------------------------------------------------------------------------------------


def show(name: str) -> None:
    machine = MACHINES[name]
    say(f"{name}: {machine.about}")
    if machine.gib:
        half = "bfloat16" if machine.bfloat16 else "no bfloat16: acts in float16"
        say(f"  {machine.gib:g} GiB, {machine.tflops:g} TFLOPS, {machine.bandwidth:g} GB/s, {half}")
    if machine.gib and not machine.bfloat16:
        say("  training has no float16 here: it is bf16, emulated in single precision")
    say(f"  {machine.cores} cores, {machine.memory:g} GB ({machine.source})")
    for family in USES:
        _show(advise(name, family))
    say()
    say(f"Times are estimates, not measurements: {USE:.0%} of the GPU's speed in an answer,")
    say(f"{TRAIN:.0%} in training, {READ:.0%} of its bandwidth; {EPISODES} episodes of {STEPS} steps,")
    say(f"{PHYSICS * 1e3:g} ms of a core for a step, {DRAW * 1e3:g} ms for two pictures drawn in software;")
    say(f"an epoch is {FRAMES:,} steps. Memory is counted from shapes.")


def _show(advice: Advice) -> None:
    say()
    say(advice.family)
    if advice.precision:
        say(f"  act    {advice.precision}, attention {advice.attention}, {advice.act_gb:.1f} GB")
        answer, evaluate = f"{advice.answer_s * 1e3:.0f} ms an answer", _hours(advice.evaluate_h)
        say(f"         {answer}, {EPISODES} episodes in {evaluate} with {advice.workers} workers")
    elif advice.answer_s < math.inf:
        say(f"  act    {advice.answer_s:.0f} seconds an answer: too slow here")
    else:
        say(f"  act    does not fit: {advice.act_gb:.1f} GB in the type that it has")
    if advice.train:
        again = ", activations computed again" if advice.checkpointing else ""
        say(f"  train  {advice.train}, {advice.train_gb:.1f} GB, batch {advice.micro} x {advice.accumulate}{again}")
        say(f"         an epoch in {_hours(advice.epoch_h)}")
    else:
        say("  train  does not fit, or would take years")
    for line in advice.why:
        say(f"  from   {line}")
    for line in advice.lines:
        say(f"  type   {line}")


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return "under a minute"
    return f"{hours * 60:.0f} minutes" if hours < 2 else f"{hours:.0f} hours"
