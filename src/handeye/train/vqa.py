"""`handeye train paligemma_xvr`: questions in, a run folder with a tuned PaliGemma out. Started again, it goes on.

What is trained is what `--trainable` says; the rest leaves as it came, to the bit, so that `handeye merge-vlm` can say
of every array whether it changed."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.manifest import Answering
from handeye.checkpoints.reading_half import find_vocabulary, open_half
from handeye.checkpoints.save import save as save_checkpoint
from handeye.compute.device import device_of
from handeye.console import say
from handeye.conventions.plain import to_plain
from handeye.data.xvr.batches import QuestionBatches
from handeye.data.xvr.form import Form
from handeye.data.xvr.questions import Questions
from handeye.errors import UserError
from handeye.models import paligemma
from handeye.models.gemma import GemmaConfig
from handeye.models.siglip import SiglipConfig
from handeye.records import provenance, read_lines, sha256_file, write_json
from handeye.train import folder, vqa_state
from handeye.train.metrics import FILE as METRICS
from handeye.train.metrics import Metrics, rewind
from handeye.train.trackers import open_trackers
from handeye.train.vqa_config import RANDOM, VqaConfig
from handeye.train.vqa_env import settled
from handeye.train.vqa_loop import train, validate
from handeye.train.vqa_optimizer import choose, make_optimizer, steps_of
from handeye.train.vqa_state import Tuning

WITHOUT_CONSEQUENCE = {
    "out", "data", "keep", "loader_workers", "track", "wandb_project", "wandb_entity", "recompute",
}  # fmt: skip
"""Settings that do not change the result. `data` is compared by its content."""


def run(config: VqaConfig) -> int:
    """The exit code: 1 if a proof was asked for and not given."""
    config = settled(config)
    with folder.claim(config.out, config, ignored=WITHOUT_CONSEQUENCE):
        if (config.out / "final" / manifests.FILE).exists():
            say(f"{config.out} is finished: nothing to do. Its checkpoint is {config.out / 'final'}")
            return _verdict(config)
        device = _prepare_torch(config)
        names = sorted({config.train, config.valid} - {""})
        data = {name: sha256_file(_file(config, name)) for name in names}
        folder.require_same_data(config.out, data)
        model, form = _start(config, device)
        batches = _batches(config, form, config.train, config.train_examples)
        unseen = _batches(config, form, config.valid, config.valid_examples) if config.valid else None
        trained = choose(model, config.trainable)
        if config.recompute:
            recompute(model)
        tuning = Tuning(model=model, optimizer=make_optimizer(model, config), batches=batches)
        steps = steps_of(config, len(batches))
        manifest = Answering(
            family="paligemma", config=to_plain(model.config), files={}, tensors=0, form=form, step=0,
            provenance={**provenance(), "training": folder.to_json(config), "data": data},
        )  # fmt: skip
        folder.sign(config.out, config, data)
        write_json(config.out / "provenance.json", {**manifest.provenance, "trained": trained})
        vqa_state.restore(config.out, tuning)
        rewind(config.out, tuning.step)
        wandb = {"project": config.wandb_project, "entity": config.wandb_entity}
        trackers = open_trackers(config.track, config.out, folder.to_json(config), wandb=wandb)
        metrics = Metrics(config.out, before=tuning.seconds, trackers=trackers)
        say(_summary(config, model, tuning, unseen, steps, device))

        def save(step: int) -> None:
            tuning.step, tuning.seconds = step, metrics.seconds
            vqa_state.save(config.out, tuning, replace(manifest, step=step), keep=config.keep)

        if not _proven(config):  # it may have been killed just after
            train(
                config, start=tuning.step, steps=steps, model=model, optimizer=tuning.optimizer,
                next_batch=batches.next, window=tuning.window, metrics=metrics, save=save, device=device,
                validate=partial(validate, model, unseen, form, config, device) if unseen else None,
            )  # fmt: skip
        save_checkpoint(config.out / "final", replace(manifest, step=tuning.step), model.state_dict())
        say(f"trained in {metrics.seconds / 60:.1f} minutes: {config.out / 'final'}")
        return _verdict(config)


def recompute(model: paligemma.Model) -> None:
    """From now on layers are computed once more on the way back."""
    model.language.recompute = True
    for layer in model.vision.layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)


def _start(config: VqaConfig, device: torch.device) -> tuple[paligemma.Model, Form]:
    """The model in float32, and how it is asked."""
    if config.start == RANDOM:
        vocabulary = find_vocabulary(None, config.tokenizer, None)
        sizes, language = config.sizes, config.sizes.width // config.sizes.heads
        made = paligemma.Config(
            vision=SiglipConfig(
                image_size=sizes.image_size, patch=sizes.patch, width=sizes.vision_width, depth=sizes.vision_depth,
                mlp=2 * sizes.vision_width, heads=sizes.heads,
            ),
            language=GemmaConfig(
                width=sizes.width, depth=sizes.depth, mlp=2 * sizes.width, heads=sizes.heads, kv_heads=1,
                head_dim=language,
            ),
            vocabulary=vocabulary.pieces(),
        )  # fmt: skip
        model = paligemma.Model(made)
        model.initialise(torch.Generator().manual_seed(config.seed))
    else:
        model, vocabulary, _ = open_half(Path(config.start), tokenizer=config.tokenizer, heads=config.start_heads)
        found = model.config.language.heads, model.config.vision.heads
        if config.start_heads not in (None, found):
            raise UserError(
                f"{config.start} has {found[0]} heads, and {found[1]} in SigLIP.",
                why=f"--start-heads says {config.start_heads[0]} and {config.start_heads[1]}",
                fix="leave --start-heads out",
            )
    form = Form(
        vocabulary=vocabulary,
        length=config.length,
        pictures=config.pictures,
        size=model.config.vision.image_size,
        prefix=config.prefix,
        lower=config.lower,
    )
    return model.eval().to(device), form


def _file(config: VqaConfig, name: str) -> Path:
    if not (path := config.data / name).is_file():
        raise UserError(
            f"{config.data} has no {name}.",
            why="training and validation each read one file of questions",
            fix="give the folder with --data and the files with --train and --valid (an empty one: no validation)",
        )
    return path


def _batches(config: VqaConfig, form: Form, name: str, most: int | None) -> QuestionBatches:
    questions = Questions(_file(config, name))
    if most is not None and most < len(questions):
        questions = questions.only(np.linspace(0, len(questions) - 1, most).round().astype(int).tolist())
    return QuestionBatches(
        questions, form, config.batch, config.seed, too_long=config.too_long, workers=config.loader_workers
    )


def _proven(config: VqaConfig) -> bool:
    """By the last validation there was."""
    found = [line for line in read_lines(config.out / METRICS) if line["kind"] == "validation"]
    return config.proof is not None and bool(found) and found[-1]["exact"] >= config.proof


def _verdict(config: VqaConfig) -> int:
    if config.proof is None:
        return 0
    exact = [line for line in read_lines(config.out / METRICS) if line["kind"] == "validation"][-1]["exact"]
    say(f"{'proven' if _proven(config) else 'NOT PROVEN'}: {exact:.1%} exact, {config.proof:.0%} asked for")
    return 0 if _proven(config) else 1


def _prepare_torch(config: VqaConfig) -> torch.device:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "Training on questions runs in one process.",
            why="torchrun started several, and each would train the same",
            fix="leave torchrun out; --accumulate gives larger batches, --precision bf16 and --recompute save memory",
        )
    torch.set_num_threads(len(os.sched_getaffinity(0)) if config.threads == "all" else config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses the next line's promise
    torch.use_deterministic_algorithms(True)
    return torch.device(device_of(config.device))


def _summary(
    config: VqaConfig,
    model: paligemma.Model,
    tuning: Tuning,
    unseen: QuestionBatches | None,
    steps: int,
    device: torch.device,
) -> str:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in model.parameters())
    asked = f"{len(unseen)} to validate on" if unseen else "no validation"
    return "\n".join(
        [
            f"paligemma: {everything / 1e6:.2f} M parameters, {trained / everything:.1%} of them trained "
            f"({config.trainable}), {config.precision} on {device}",
            f"{len(tuning.batches)} questions to learn from, {asked}",
            f"{steps} optimizer steps of {config.batch} x {config.accumulate}"
            + (f"; going on after step {tuning.step}" if tuning.step else "")
            + f" -> {config.out}",
        ]
    )
