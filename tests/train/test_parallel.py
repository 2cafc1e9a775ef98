"""Two processes train what one trains: the same batches, the same losses, the same weights."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_training import KINDS, made, shrink

from handeye.checkpoints.load import load
from handeye.records import read_lines
from handeye.train.config import TrainConfig
from handeye.train.metrics import FILE
from handeye.train.run import run


def losses(folder: Path, what: str = "loss") -> list[float]:
    return [line[what] for line in read_lines(folder / FILE) if line["kind"] == "train"]


def torchrun(config: TrainConfig, name: str, *pairs: str, ranks: int = 2) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__).parent / "one_rank.py"), str(config.data), str(config.out), name]
    logs = [config.out.with_name(f"{config.out.name}-{rank}.log") for rank in range(ranks)]
    with ExitStack() as stack:
        processes = [
            subprocess.Popen(
                [*command, *pairs],
                env={**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=stack.enter_context(log.open("w")),
                stderr=subprocess.STDOUT,
            )
            for rank, log in enumerate(logs)
        ]
        try:
            for process, log in zip(processes, logs, strict=True):
                process.wait(timeout=200)
                assert process.returncode == 0, log.read_text()
        finally:
            for process in processes:
                process.kill()
                process.wait()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sharing", "changes"),
    [
        ("openvla", "ddp", {"accumulate": 2}),
        ("film", "ddp", {"lora_rank": 2, "accumulate": 2}),
        ("l1", "fsdp", {"accumulate": 2}),
        ("pi05", "fsdp", {"lora_rank": 2, "checkpointing": True}),
    ],
)
def test_two_processes_are_as_good_as_one(
    fake_demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sharing: str, changes: dict[str, Any]
) -> None:
    """Also interrupted, and gone on with by other two (DDP once, FSDP once)."""
    shrink(monkeypatch)
    kind, settings = KINDS[name]
    alone = made(kind, fake_demos, tmp_path / "alone", **settings, **changes)
    run(alone)
    both = made(kind, fake_demos, tmp_path / "both", **settings, **changes)
    pairs = [f"{field}={value!r}" for field, value in changes.items()]
    torchrun(both, name, f"sharing={sharing!r}", *pairs)
    np.testing.assert_allclose(losses(both.out), losses(alone.out), rtol=2e-5)
    np.testing.assert_allclose(losses(both.out, "grad_norm"), losses(alone.out, "grad_norm"), rtol=1e-3)
    one, two = (load(config.out / "final").model.state_dict() for config in (alone, both))
    for tensor in one:  # Adam divides by the gradient's size: what is nearly zero may go either way, by a step at most
        torch.testing.assert_close(two[tensor], one[tensor], rtol=1e-2, atol=2e-3)

    if name in ("openvla", "l1"):
        return
    # From the save in the middle again.
    before, state = losses(both.out), two
    for gone in ("final", "checkpoints/step-4"):
        shutil.rmtree(both.out / gone)
    torchrun(both, name, f"sharing={sharing!r}", *pairs)
    assert losses(both.out) == before
    again = load(both.out / "final").model.state_dict()
    assert all(torch.equal(again[tensor], state[tensor]) for tensor in again)
