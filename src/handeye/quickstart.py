"""`handeye quickstart`: the whole arrow on a laptop. Demonstrations, training, evaluation beside a baseline, a page.

Each stage is the verb that does it, with its own folder under `out`, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from handeye.errors import UserError

NOISE = 0.2
"""On the expert's actions: it corrects what the noise does, so the demonstrations show how to come back."""


@dataclass(frozen=True, kw_only=True)
class QuickstartConfig:
    """Teach a small policy a few tabletop tasks and measure it, on two CPU cores and without downloads."""

    out: Path = Path("runs/quickstart")
    """Everything goes here: demos/, train/, eval/, eval-zero/, report.html."""

    tasks: tuple[int, ...] = (0, 1, 2)
    """Tabletop tasks to learn."""

    demos: int = 80
    """Demonstrations per task, each from a scene of its own."""

    steps: int = 3000
    """Optimizer steps."""

    episodes: int = 20
    """Evaluation episodes per task, from stored initial states, which no demonstration used."""

    workers: int = 2
    """Simulator processes."""

    seed: int = 0
    """Of demonstrations and training. The evaluation's scenes stay the same."""

    def __post_init__(self) -> None:
        for name in ("demos", "steps", "episodes", "workers"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)} is too few.", fix=f"use --{name} 1 or more")


def run(config: QuickstartConfig) -> Path:
    """Returns the page. Stages that are finished are not repeated."""
    from handeye.console import say
    from handeye.evaluate.config import EvaluateConfig
    from handeye.evaluate.run import run as evaluate
    from handeye.expert.config import DemosConfig
    from handeye.expert.demos import run as record
    from handeye.policy.scripted import SCRIPTED
    from handeye.report.config import ReportConfig
    from handeye.report.run import run as report
    from handeye.serve.local import load_policy
    from handeye.train.presets import tiny_tabletop
    from handeye.train.run import run as train

    begun = time.monotonic()

    def stage(number: int, title: str) -> None:
        say(f"\n[{number}/4] {title} ({(time.monotonic() - begun) / 60:.1f} min so far)")

    stage(1, f"{config.demos} demonstrations of each of {len(config.tasks)} tasks by the scripted expert")
    demos = record(
        DemosConfig(
            suite="tabletop",
            tasks=config.tasks,
            per_task=config.demos,
            out=config.out / "demos",
            workers=config.workers,
            noise=NOISE,
            seed=config.seed,
        )
    )
    stage(2, "training")
    preset = replace(tiny_tabletop(), data=demos, out=config.out / "train", steps=config.steps, seed=config.seed)
    checkpoint = train(preset)
    stage(3, "evaluation on initial states that no demonstration used")
    common = EvaluateConfig(
        policy=str(checkpoint), suite="tabletop", tasks=config.tasks, episodes=config.episodes, workers=config.workers
    )
    trained = evaluate(replace(common, out=config.out / "eval", videos="all"), load_policy(checkpoint))
    baseline = evaluate(replace(common, policy="zero", out=config.out / "eval-zero"), SCRIPTED["zero"]())
    stage(4, "the page")
    page = report(ReportConfig(runs=(trained, baseline), out=config.out / "report.html"))
    say(f"\ndone in {(time.monotonic() - begun) / 60:.1f} minutes. Open {page}")
    return page
