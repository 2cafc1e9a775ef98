"""The loop of fine-tuning on questions: a gradient out of parts, a step, and how well is answered by now."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from handeye.console import progress
from handeye.data.xvr.batches import QuestionBatches, trimmed
from handeye.data.xvr.form import END, Form
from handeye.data.xvr.score import answers_of, possible, score
from handeye.errors import UserError
from handeye.models import paligemma
from handeye.train.metrics import Metrics
from handeye.train.vqa_config import VqaConfig
from handeye.train.vqa_optimizer import learning_rate


def train(
    config: VqaConfig,
    *,
    start: int,
    steps: int,
    model: paligemma.Model,
    optimizer: torch.optim.Optimizer,
    next_batch: Callable[[], Mapping[str, np.ndarray]],
    window: list[dict[str, float]],
    metrics: Metrics,
    validate: Callable[[], dict[str, Any]] | None,
    save: Callable[[int], None],
    device: torch.device,
) -> float | None:
    """From optimizer step `start` + 1 to `steps`, or to the proof. Returns the exact matches of the last validation.
    `window`: the steps that no line of the log has yet, filled and emptied here. `save(step)` comes after everything of
    that step was logged."""
    trained = [p for p in model.parameters() if p.requires_grad]
    exact: float | None = None
    with progress("training", steps, done=start) as advance:
        for step in range(start + 1, steps + 1):
            parts = [tensors(next_batch(), device) for _ in range(config.accumulate)]
            loss = gradient(model, parts, precision=config.precision)
            norm = nn.utils.clip_grad_norm_(trained, config.clip)
            rate = learning_rate(step, steps, config)
            _check(step, loss, norm.item(), rate, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            window.append({"loss": loss, "grad_norm": norm.item()})
            last = step == steps
            if validate and (step % config.validate_every == 0 or last):
                found = validate()
                exact = found["exact"]
                metrics.log("validation", step, **found)
                last = last or (config.proof is not None and exact is not None and exact >= config.proof)
            if step % config.log_every == 0 or last:
                means = {name: math.fsum(line[name] for line in window) / len(window) for name in window[0]}
                metrics.log("train", step, **means, learning_rate=rate)
                window.clear()
            if step % config.save_every == 0 or last:
                save(step)
            said = "" if exact is None else f", {exact:.0%} right"
            advance(note=f"loss {loss:.3f}{said}")
            if last:
                break
    return exact


def gradient(model: paligemma.Model, parts: Sequence[Mapping[str, Tensor]], *, precision: str) -> float:
    """Adds to every gradient that of the mean over all examples of all parts: what one large batch would give. Returns
    that mean."""
    count, total = sum(len(part["text"]) for part in parts), 0.0
    for part in parts:
        with torch.autocast(part["text"].device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss_per_example(part).sum() / count
        loss.backward()
        total += loss.item()
    return total


def tensors(batch: Mapping[str, np.ndarray], device: torch.device) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array).to(device) for name, array in trimmed(batch).items()}


def validate(
    model: paligemma.Model, batches: QuestionBatches, form: Form, config: VqaConfig, device: torch.device
) -> dict[str, Any]:
    """Greedy answers to all of these questions, counted, and the loss on them."""
    questions = batches.questions
    known = answers_of((entry.task, entry.answer) for entry in questions.entries)
    scores, losses = [], []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        for begin in range(0, len(questions), config.batch):
            rows = np.arange(begin, min(begin + config.batch, len(questions)))
            losses += model.loss_per_example(tensors(batches.batch(rows), device)).tolist()
            asked = tensors(batches.batch(rows, answer=False), device)
            ids, _ = model.answer(asked, length=config.answer_length, end=END)
            for row, said in zip(rows, ids.tolist(), strict=True):
                question = questions[int(row)]
                scores.append(score(form.said(said), question.answer, possible(question, known)))
    return {
        "loss": math.fsum(losses) / len(losses),
        "exact": sum(one.exact for one in scores) / len(scores),
        "contains": sum(one.contains for one in scores) / len(scores),
        "malformed": sum(one.malformed for one in scores) / len(scores),
        "questions": len(scores),
    }


def _check(step: int, loss: float, norm: float, rate: float, config: VqaConfig) -> None:
    if math.isfinite(loss) and math.isfinite(norm):
        return
    saved = (step - 1) // config.save_every * config.save_every
    raise UserError(
        f"Training diverged at optimizer step {step} and was stopped before the step was taken.",
        why=f"loss {loss:.4g}, gradient norm {norm:.4g}, learning rate {rate:.3g}",
        fix=f"train into another --out with a --learning-rate below {config.learning_rate:g}"
        + (f"; the save of step {saved} is whole" if saved else ""),
    )
