"""A checkpoint as a policy in this process: what training saved answers, through the pipeline that training used.

An answer must be a function of its observation, to the last bit, or an evaluation's records would depend on who else
happened to ask at the same moment. A model's last bits depend on the number of rows that it computes at once, since
libraries choose their kernels by it: `tiny` on a CPU with AVX-512 answers differently by 1e-6 with one row, with two or
three, and with four or more. So that number is fixed (`rows`), a smaller question is filled up, and it is part of the
policy's identity. That a row then depends neither on its place nor on its neighbours is a property of the kernels, and
no library promises it: it is tried when the policy is made, and where it does not hold, rows are computed one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from handeye.checkpoints.fixed import fixed_batch, made_up
from handeye.checkpoints.load import Checkpoint
from handeye.checkpoints.manifest import FILE, Manifest
from handeye.checkpoints.partial import mark
from handeye.checkpoints.published import load
from handeye.compute import attention as attentions
from handeye.compute import precision as precisions
from handeye.console import say, warn
from handeye.conventions.spec import Specs
from handeye.errors import UserError
from handeye.policy.address import folder_and_options
from handeye.records import sha256_json
from handeye.types import ActionChunk, EpisodeId, Observation

Item = dict[str, Any]
"""What a model is given of one observation: arrays by name."""

ROWS = {"cpu": 1, "cuda": 4}
"""Rows computed at once unless somebody says otherwise. On a CPU filling up costs what it computes; on a GPU four rows
of a large model take little longer than one, and a question that comes alone waits for all of them."""


class LocalPolicy:
    """Answers any number of observations, `rows` of them at a time. On a CPU with one thread, so that sums are ordered
    the same way on any number of cores."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "cpu",
        rows: int | None = None,
        attention: attentions.Wanted = "auto",
        precision: precisions.Wanted = "auto",
    ) -> None:
        """`rows`: observations that the model computes at once. A warning, and 1, where they are not independent."""
        self.manifest: Manifest = checkpoint.manifest
        self.specs: Specs = checkpoint.manifest.specs
        """What it was trained on; compare with the simulator's before asking anything."""

        self.chunk: int = checkpoint.manifest.config["chunk"]
        self._model = checkpoint.model
        self._device = torch.device(device)
        with _one_thread():
            self.precision = precisions.apply(self._model, precision, device, partial(fixed_batch, self.manifest))
            self.attention = attentions.choose(self._model, attention, device)
        self.rows = 1 if self.precision.alone else rows or ROWS.get(self._device.type, 1)
        if self.rows > 1 and not self._independent():
            warn(
                f"on this device ({self._kernels()}) an answer of {self.rows} rows would depend on its neighbours: "
                "observations are computed one by one"
            )
            self.rows = 1

    @property
    def identity(self) -> dict[str, Any]:
        """Which weights, and what reaches the last bits of what they answer."""
        begun = mark(self.manifest.provenance.get("partial", []))
        return {
            **({"partial": begun} if begun else {}),
            "manifest": sha256_json(self.manifest.to_json()),
            "family": self.manifest.family,
            "step": self.manifest.step,
            "rows": self.rows,
            "device": self._kernels(),
            "attention": self.attention.taken,
            "precision": self.precision.name,
        }

    @property
    def compute(self) -> dict[str, Any]:
        """What it computes with, what else was tried, and what was measured."""
        return {"attention": self.attention.to_json(), "precision": self.precision.to_json()}

    def reset(self, episodes: Sequence[EpisodeId]) -> None:
        """Nothing is remembered between questions."""

    def act(self, observations: Sequence[Observation]) -> list[ActionChunk]:
        decode = self.manifest.pipeline.decode
        answers = self._answers(observations)
        return [ActionChunk(actions=decode(a, o.proprio)) for a, o in zip(answers, observations, strict=True)]

    def device_use(self) -> str:
        """Of a GPU: how busy it is, where its driver says so, and how much memory the model has."""
        if self._device.type != "cuda":
            return ""
        memory = f"{torch.cuda.memory_allocated(self._device) / 1e9:.1f} GB"
        try:
            return f"{self._device} {torch.cuda.utilization(self._device)} %, {memory}"
        except (ModuleNotFoundError, RuntimeError):  # no NVML
            return f"{self._device} {memory}"

    def _answers(self, observations: Sequence[Observation]) -> list[np.ndarray]:
        """Model outputs. What differs in shape, as sentences of different lengths may, is computed apart: filling it up
        with blanks would let one sentence's length reach another's answer."""
        encode = self.manifest.pipeline.encode
        items: list[Item] = [{**encode(each), "seed": np.int64(each.seed)} for each in observations]
        kinds: dict[Any, list[int]] = {}
        for index, item in enumerate(items):
            kinds.setdefault(tuple((name, np.shape(part)) for name, part in item.items()), []).append(index)
        answers: dict[int, np.ndarray] = {}
        with _one_thread(), torch.inference_mode():
            for alike in kinds.values():
                for start in range(0, len(alike), self.rows):
                    some = alike[start : start + self.rows]
                    answers |= zip(some, self._compute([items[index] for index in some]), strict=True)
        return [answers[index] for index in range(len(observations))]

    def _compute(self, items: list[Item]) -> list[np.ndarray]:
        """Of at most `rows` items of one shape. The last one is repeated to fill up."""
        filled = items + items[-1:] * (self.rows - len(items))
        batch = {
            name: torch.from_numpy(np.stack([item[name] for item in filled])).to(self._device) for name in items[0]
        }
        answered = self._model.sample_actions(batch)  # type: ignore[operator]
        answered = answered.float() if answered.is_floating_point() else answered  # token ids stay whole numbers
        return list(answered[: len(items)].cpu().numpy())

    def _independent(self) -> bool:
        """Whether one observation gets the same bits in every place, among ever other neighbours."""
        random = np.random.default_rng(0)
        asked = made_up(self.specs, random)
        answers = []
        for place in range(self.rows):
            crowd = [made_up(self.specs, random) for _ in range(self.rows)]
            crowd[place] = asked
            answers.append(self._answers(crowd)[place])
        return all(np.array_equal(answer, answers[0]) for answer in answers)

    def _kernels(self) -> str:
        """What chooses the kernels: the GPU's model, or the CPU's instructions."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return f"{self._device.type}, {torch.backends.cpu.get_cpu_capability()}"


def load_policy(
    path: Path | str,
    *,
    device: str = "cpu",
    rows: int | None = None,
    attention: attentions.Wanted = "auto",
    precision: precisions.Wanted = "auto",
) -> LocalPolicy:
    """`path`: a checkpoint, ours or a published one (with options, `DIR#name=value`); or the folder of a finished run,
    which means its `final`. Weights that will be rounded are read on the CPU: the GPU may not have room for them."""
    where, options = folder_and_options(str(path))
    folder = Path(where)
    if not (folder / FILE).exists() and (folder / "final").is_dir():
        folder = folder / "final"
    try:
        checkpoint = load(folder, options, device=device if precision not in ("int8", "nf4") else "cpu")
        policy = LocalPolicy(checkpoint, device=device, rows=rows, attention=attention, precision=precision)
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"{path} does not fit on {device}.",
            why=str(error).partition(". ")[0],
            fix="use --precision int8 or nf4, fewer --rows, or --device cpu; `handeye doctor` says what fits",
        ) from None
    if policy.attention.taken is not None or policy.precision.agreement is not None:
        say(f"{policy.attention}\n{policy.precision}")
    return policy


@contextmanager
def _one_thread() -> Iterator[None]:
    """torch's thread count is the process's: put it back for whoever trains or evaluates beside us."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
