"""`handeye train`: demonstrations in, a run folder with metrics and checkpoints out. Started again, it goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from handeye.checkpoints import manifest as manifests
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.partial import told
from handeye.checkpoints.save import save as save_checkpoint
from handeye.compute.attention import Choice, choose
from handeye.console import say, warn
from handeye.conventions.plain import to_plain
from handeye.conventions.spec import Specs
from handeye.data.loading.batches import Batches
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.loading.samples import Samples
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.records import provenance, write_json
from handeye.train import folder, lora, state
from handeye.train.config import TrainConfig
from handeye.train.families.begin import Begin, Filled, begin, require_base
from handeye.train.loop import computing, train
from handeye.train.metrics import Metrics, rewind
from handeye.train.optimizer import Ema, adamw, trained
from handeye.train.parallel import Shared, World, joined, whole
from handeye.train.state import Training
from handeye.train.trackers import open_trackers
from handeye.train.validate import Answers, blind, validate


def run(config: TrainConfig) -> Path:
    """Returns the run's folder; the checkpoint to use is its `final`. Under `torchrun` all processes come here."""
    with ExitStack() as stack:
        world, device = stack.enter_context(joined(config.device))
        if world.first:
            stack.enter_context(folder.claim(config.out, config, ignored=state.WITHOUT_CONSEQUENCE))
        world.wait()
        if (config.out / "final" / manifests.FILE).exists():
            if world.first:
                say(f"{config.out} is finished: nothing to do. Its checkpoint is {config.out / 'final'}")
            return config.out
        _prepare_torch(config)
        _train(config, world, device)
    return config.out


def _train(config: TrainConfig, world: World, device: str) -> None:
    require_base(config)
    demos = Demonstrations(config.data)
    data = {"episodes": len(demos), "digest": demos.digest(), "prompts": sorted({e.prompt for e in demos.episodes})}
    folder.require_same_data(config.out, data)
    seen, held_out = demos.split(config.held_out, config.seed)
    if held_out is None:
        raise UserError("No demonstration was held out.", fix="use a --held-out above 0")
    statistics = seen.statistics()
    begun = begin(config, demos.specs, statistics)
    targets = lora.chosen(begun.model, begun.targets, config) if config.lora_rank else []
    model = prepare(config, begun, targets, device)
    attention = attend(config, model, device)
    share = config.loader_workers > 0
    keep = partial(Samples, frames=config.frames, memory_gb=config.memory_gb, cache=config.cache)
    samples = keep(seen, begun.pipeline, config.chunk, ends=config.chunk_ends, share=share)
    unseen = keep(held_out, begun.pipeline, config.chunk)

    shared = Shared(model, world, config.sharing, begun.blocks)
    training = Training(
        model=model,
        ema=Ema(model, config.optimizer.ema, grows=config.optimizer.ema_grows),
        optimizer=adamw(model, config.optimizer, config.learning_rate_of),
        batches=Batches(
            samples, config.batch, config.seed, rank=world.rank, ranks=world.ranks, workers=config.loader_workers
        ),
        world=world,
    )
    manifest = make_manifest(config, begun, demos.specs, statistics, data)
    if world.first:
        folder.sign(config.out, config, data)
        write_json(config.out / "provenance.json", manifest.provenance)
    world.wait()
    state.restore(config.out, training)
    if world.first:
        rewind(config.out, training.step)
        _tell_beginning(begun.filled)
        if attention.taken is not None:
            say(str(attention))
        say(_summary(config, model, seen, held_out, training.step, world))
    trackers = open_trackers(config.track, config.out, folder.to_json(config)) if world.first else []
    metrics = Metrics(config.out, before=training.seconds, trackers=trackers, silent=not world.first)

    def weights() -> dict[str, Tensor]:
        """What is quantised cannot be merged into: the base is read once more."""
        again = begin(config, demos.specs, statistics).model.state_dict() if config.quantize != "none" else {}
        return checkpoint_weights(training, begun, config, again)

    def save(step: int, validation: dict[str, Any]) -> None:
        training.step, training.seconds = step, metrics.seconds
        if config.keep_best and validation and (not training.best or validation["arm_l1"] < training.best["arm_l1"]):
            training.best = {"step": step, "arm_l1": validation["arm_l1"]}
        now = replace(manifest, step=step)
        state.save(config.out, training, now, keep=config.keep, weights=weights if config.merge_saves else None)

    def judge(answers: Answers) -> dict[str, Any]:
        with computing(config, device):
            return validate(
                answers, samples=unseen, constant=constant, examples=config.validation_examples,
                batch=max(1, config.batch // config.accumulate // world.ranks), device=device, spec=demos.specs.action,
            )  # fmt: skip

    constant = blind(samples)
    with training.batches:
        train(
            config,
            start=training.step,
            shared=shared,
            ema=training.ema,
            optimizer=training.optimizer,
            next_batch=training.batches.next,
            weight=begun.weight,
            metrics=metrics,
            validate=judge,
            save=save,
            named=partial(_named, samples),
            device=device,
        )
    final = weights()
    with training.ema.applied():
        everything = _all_tensors(model) if config.lora_rank else {}
        apart = {name: tensor.clone() for name, tensor in everything.items() if ".lora_" in name}
    if world.first:
        save_checkpoint(config.out / "final", replace(manifest, step=config.steps), final)
        if config.lora_rank:
            lora.save(config.out / "adapter", apart, targets, config)
        say(f"trained in {metrics.seconds / 60:.1f} minutes: {config.out / 'final'}")
    world.wait()


# ---- the model -------------------------------------------------------------------------------------------------------


def prepare(config: TrainConfig, begun: Begin, targets: list[str], device: str) -> nn.Module:
    """On its device, with adapters, and only that trained which should be."""
    model = begun.model
    if config.quantize != "none":
        from handeye.compute.precision import quantise

        quantise(model, config.quantize, device)
    if targets:
        lora.add(model, targets, config)
    for name, parameter in model.named_parameters():
        plain = name.replace(".base_layer.", ".")
        learns = ".lora_" in name or not config.lora_rank or begun.whole(plain) or plain in begun.filled.new
        parameter.requires_grad_(learns and not begun.frozen(plain) and parameter.is_floating_point())
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()
        if plain in begun.filled.new and not parameter.requires_grad:
            raise UserError(
                f"{plain} is not in {config.start_from} and would stay as it is drawn from the seed.",
                why="it is frozen" if parameter.is_floating_point() else "it is quantised",
                fix="train it too, or start from a checkpoint that has it",
            )
    if config.checkpointing:
        _recompute(model, begun)
    return model.to(device)


def attend(config: TrainConfig, model: nn.Module, device: str) -> Choice:
    """Its attention, chosen and proven as it will compute: with adapters and autocast, without dropout."""
    learning = model.training
    model.eval()
    with computing(config, device):
        choice = choose(model, config.attention, device)
    model.train(learning)
    return choice


def _recompute(model: nn.Module, begun: Begin) -> None:
    for block in begun.blocks:
        if any(True for _ in block.children()):  # a single product is nothing to save
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for module in model.modules():
        if hasattr(module, "recompute"):
            module.recompute = True  # type: ignore[assignment]


def checkpoint_weights(
    training: Training, begun: Begin, config: TrainConfig, base: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Averaged, merged, in the types of the checkpoint, on the CPU. Every process must ask. `base`: weights that stand
    in the place of quantised ones; everything that is trained is the model's own."""
    with training.ema.applied():
        tensors = _all_tensors(training.model)
        if base:
            own = {name: t for name, t in tensors.items() if name in training.ema.parameters}
            tensors = {**base, **own}
        merged = lora.merge(tensors, config)
        # Copies: the model's own tensors are its weights of the last step again as soon as this block ends.
        return {name: tensor.to(begun.saved_as(name), copy=True) for name, tensor in merged.items()}


def _all_tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: whole(tensor.detach()).cpu() for name, tensor in model.state_dict().items()}


def make_manifest(
    config: TrainConfig, begun: Begin, specs: Specs, statistics: Statistics, data: Mapping[str, Any]
) -> Manifest:
    cameras = getattr(begun.config, "cameras", specs.image.cameras)
    known = tuple(name for name in cameras if name in specs.image.cameras)
    return Manifest(
        family=config.family,
        config=to_plain(begun.config),
        files={},
        tensors=0,
        specs=replace(specs, image=specs.image.only(known, here="The data")),
        pipeline=begun.pipeline,
        statistics=statistics,
        merged=config.lora_rank > 0,
        step=0,
        provenance={
            **provenance(),
            "training": folder.to_json(config),
            "data": dict(data),
            **({"base": {**begun.base, "new": by_module(begun.filled.new)}} if begun.base else {}),
            **({"partial": list(begun.filled.partial)} if begun.filled.partial else {}),
        },
    )


# ---- around it -------------------------------------------------------------------------------------------------------


def _prepare_torch(config: TrainConfig) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)) if config.threads == "all" else config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses the next line's promise
    torch.use_deterministic_algorithms(True)


def by_module(new: Mapping[str, int]) -> dict[str, int]:
    """Numbers that did not come from the checkpoint, by the first part of their names."""
    counted: dict[str, int] = {}
    for name, numbers in new.items():
        module = name.split(".")[0]
        counted[module] = counted.get(module, 0) + numbers
    return counted


def _tell_beginning(filled: Filled) -> None:
    for record in filled.partial:
        warn(told(record))
    if filled.new:
        parts = ", ".join(f"{module} ({numbers:,} numbers)" for module, numbers in by_module(filled.new).items())
        say(f"new, from the seed: {parts}")


def _named(samples: Samples, numbers: np.ndarray) -> str:
    """Episodes and steps of these samples."""
    episodes, rows = samples.index.find(numbers)
    told = [f"{samples.demos.episodes[e].id} step {row}" for e, row in zip(episodes[:8], rows[:8], strict=True)]
    return ", ".join(told) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")


def _summary(
    config: TrainConfig, model: nn.Module, seen: Demonstrations, held_out: Demonstrations, step: int, world: World
) -> str:
    everything = sum(p.numel() for p in model.parameters())
    learning = sum(p.numel() for p in trained(model).values())
    some = f" ({learning / 1e6:.2f} M of them learn)" if learning < everything else ""
    steps = sum(ref.length for ref in seen.episodes)
    tasks = len({ref.task for ref in seen.episodes})
    where = f"{world.ranks} processes ({config.sharing}) on {config.device}" if world.ranks > 1 else config.device
    return "\n".join(
        [
            f"{config.family}: {everything / 1e6:.2f} M parameters{some}, {config.precision} on {where}",
            f"{len(seen)} demonstrations of {tasks} tasks, {steps} steps; {len(held_out)} more held out",
            f"{config.steps} optimizer steps of {config.batch}"
            + (f"; going on after step {step}" if step else "")
            + f" -> {config.out}",
        ]
    )
