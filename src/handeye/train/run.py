"""`handeye train`: demonstrations in, a run folder with metrics and checkpoints out. Started again, it goes on."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.load import family, model_config
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.save import save as save_checkpoint
from handeye.console import say
from handeye.conventions.plain import to_plain
from handeye.conventions.spec import Specs
from handeye.data.loading.batches import Batches
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.pipeline.pipeline import Pipeline, standard_pipeline
from handeye.data.pipeline.steps import Augment, JitterColours, ShiftImages
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.records import provenance, write_json
from handeye.train import state
from handeye.train.config import TrainConfig
from handeye.train.loop import train
from handeye.train.metrics import Metrics, rewind
from handeye.train.optimizer import Ema, adamw
from handeye.train.state import Training
from handeye.train.validate import blind, validate


def run(config: TrainConfig) -> Path:
    """Returns the run's folder; the checkpoint to use is its `final`."""
    with state.claim(config.out, config):
        if (config.out / "final" / manifests.FILE).exists():
            say(f"{config.out} is finished: nothing to do. Its checkpoint is {config.out / 'final'}")
            return config.out
        _prepare_torch(config)
        demos = Demonstrations(config.data)
        data = {"episodes": len(demos), "digest": demos.digest(), "prompts": sorted({e.prompt for e in demos.episodes})}
        state.require_same_data(config.out, data)
        seen, held_out = demos.split(config.held_out, config.seed)
        if held_out is None:
            raise UserError("No demonstration was held out.", fix="use a --held-out above 0")
        statistics = seen.statistics()
        pipeline = make_pipeline(config, demos.specs, statistics)
        share = config.loader_workers > 0
        keep = partial(Samples, frames=config.frames, memory_gb=config.memory_gb, cache=config.cache)
        samples = keep(seen, pipeline, config.chunk, ends=config.chunk_ends, share=share)
        unseen = keep(held_out, pipeline, config.chunk)

        model = make_model(config, demos.specs)
        training = Training(
            model=model,
            ema=Ema(model, config.optimizer.ema),
            optimizer=adamw(model, config.optimizer),
            batches=Batches(samples, config.batch, config.seed, workers=config.loader_workers),
        )
        manifest = make_manifest(config, model, demos.specs, pipeline, statistics, data)
        state.sign(config.out, config, data)
        write_json(config.out / "provenance.json", manifest.provenance)
        state.restore(config.out, training)
        rewind(config.out, training.step)
        metrics = Metrics(config.out, before=training.seconds)
        say(_summary(config, model, seen, held_out, training.step))

        def save(step: int) -> None:
            training.step, training.seconds = step, metrics.seconds
            state.save(config.out, training, replace(manifest, step=step), keep=config.keep)

        with training.batches:
            train(
                config,
                start=training.step,
                model=model,
                ema=training.ema,
                optimizer=training.optimizer,
                next_batch=training.batches.next,
                metrics=metrics,
                validate=partial(
                    validate, samples=unseen, constant=blind(samples), examples=config.validation_examples,
                    batch=config.batch, device=config.device, spec=demos.specs.action,
                ),
                save=save,
            )  # fmt: skip
        final = config.out / "final"
        save_checkpoint(final, replace(manifest, step=config.steps), training.ema.model.state_dict())
        say(f"trained in {metrics.seconds / 60:.1f} minutes: {final}")
        return config.out


def make_pipeline(config: TrainConfig, specs: Specs, statistics: Statistics) -> Pipeline:
    images = config.images
    augment: list[Augment] = [ShiftImages(images.shift)] if images.shift else []
    if images.brightness or images.contrast or images.colour:
        augment.append(JitterColours(images.brightness, images.contrast, images.colour))
    return standard_pipeline(
        specs,
        statistics,
        image_size=images.image_size,
        prompt_length=config.prompt_length,
        method=images.resize,
        proprio=config.normalize_proprio,
        action=config.normalize_actions,
        augment=tuple(augment),
    )


def make_model(config: TrainConfig, specs: Specs) -> nn.Module:
    """Built from the data's own widths, initialised from the run's seed alone."""
    module = family(config.family)
    given: dict[str, Any] = {
        "cameras": specs.image.cameras,
        "image_size": config.images.image_size,
        "proprio_width": specs.proprio.width,
        "action_width": specs.action.width,
        "chunk": config.chunk,
    }
    if taken := sorted(given.keys() & config.model.keys()):
        raise UserError(f"--model {taken[0]} cannot be set.", why="the data decides it", fix="leave it out")
    with torch.device("meta"):
        model: nn.Module = module.Model(model_config(module, {**config.model, **given}))
    model.to_empty(device=config.device)
    model.initialise(torch.Generator(config.device).manual_seed(config.seed))  # type: ignore[operator]
    # Convolutions are up to twice as fast that way.
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def make_manifest(
    config: TrainConfig,
    model: nn.Module,
    specs: Specs,
    pipeline: Pipeline,
    statistics: Statistics,
    data: dict[str, Any],
) -> Manifest:
    return Manifest(
        family=config.family,
        config=to_plain(model.config),
        files={},
        tensors=0,
        specs=specs,
        pipeline=pipeline,
        statistics=statistics,
        merged=False,
        step=0,
        provenance={
            **provenance(),
            "training": state.to_json(config),
            "data": data,
        },
    )


def _prepare_torch(config: TrainConfig) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)) if config.threads == "all" else config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses the next line's promise
    torch.use_deterministic_algorithms(True)


def _summary(config: TrainConfig, model: nn.Module, seen: Demonstrations, held_out: Demonstrations, step: int) -> str:
    parameters = sum(p.numel() for p in model.parameters())
    steps = sum(ref.length for ref in seen.episodes)
    tasks = len({ref.task for ref in seen.episodes})
    return "\n".join(
        [
            f"{config.family}: {parameters / 1e6:.2f} M parameters, float32 on {config.device}",
            f"{len(seen)} demonstrations of {tasks} tasks, {steps} steps; {len(held_out)} more held out",
            f"{config.steps} optimizer steps of {config.batch}"
            + (f"; going on after step {step}" if step else "")
            + f" -> {config.out}",
        ]
    )
