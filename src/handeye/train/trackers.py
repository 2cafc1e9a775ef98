"""metrics.jsonl, sent on as it is written: to TensorBoard's files, or to Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from handeye.errors import UserError
from handeye.records import read_json, write_json
from handeye.train.config import Tracker

Send = Callable[[str, int, Mapping[str, float]], None]
"""(kind, step, numbers)."""

WANDB = "wandb.json"
"""In the run's folder: which of Weights & Biases' runs it is, so that it goes on there too."""


def open_trackers(
    names: Sequence[Tracker], folder: Path, config: Mapping[str, Any], *, wandb: Mapping[str, str | None] | None = None
) -> list[Send]:
    """`wandb`: project and entity, where they are not left to its own variables."""
    return [_TRACKERS[name](folder, config, wandb or {}) for name in names]


def numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested figures by path: `sign/0/right`."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, list | tuple):
            found |= numbers({str(index): each for index, each in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[prefix + name] = float(value)
    return found


def _tensorboard(folder: Path, config: Mapping[str, Any], wandb: Mapping[str, str | None]) -> Send:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _absent("tensorboard", error) from None
    writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def send(kind: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(f"{kind}/{name}", value, step)
        writer.flush()

    return send


def _wandb(folder: Path, config: Mapping[str, Any], where: Mapping[str, str | None]) -> Send:
    """What is not given is taken from its own variables, WANDB_PROJECT and so on."""
    try:
        import wandb
    except ImportError as error:
        raise _absent("wandb", error) from None
    known = read_json(folder / WANDB, what="the tracker's run") if (folder / WANDB).exists() else {}
    run: Any = wandb.init(
        **where, name=folder.name, config=dict(config), dir=str(folder), id=known.get("id"), resume="allow"
    )
    write_json(folder / WANDB, {"id": run.id})

    def send(kind: str, step: int, values: Mapping[str, float]) -> None:
        run.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    return send


Open = Callable[[Path, Mapping[str, Any], Mapping[str, str | None]], Send]
_TRACKERS: dict[Tracker, Open] = {"tensorboard": _tensorboard, "wandb": _wandb}


def _absent(name: str, error: ImportError) -> UserError:
    return UserError(f"--track {name} needs a package.", why=str(error), fix="pip install 'handeye[track]'")
