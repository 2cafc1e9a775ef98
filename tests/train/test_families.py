"""Every family trains, from nothing and from a checkpoint, and what it saves is loaded and answers."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openvla_goldens import published
from small_training import KINDS, QWEN3_BYTES, made, shrink

from handeye.checkpoints.adapters import read_adapter
from handeye.checkpoints.load import load
from handeye.conventions.spec import Specs
from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.statistics import Statistics
from handeye.errors import UserError
from handeye.records import read_json, read_lines
from handeye.serve.local import load_policy
from handeye.train.config import OptimizerConfig, TrainConfig
from handeye.train.families import vggt_vla
from handeye.train.families.begin import Filled, begin, fill
from handeye.train.families.config import OftConfig, OpenpiConfig, OpenvlaConfig, VggtConfig
from handeye.train.metrics import FILE
from handeye.train.run import attend, prepare, run
from handeye.types import Observation


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


SLOW = OptimizerConfig(learning_rate=1e-3, warmup=1)


def losses(config: TrainConfig) -> list[float]:
    return [line["loss"] for line in read_lines(config.out / FILE) if line["kind"] == "train"]


@pytest.mark.parametrize("name", KINDS)
def test_from_nothing_to_a_policy_that_acts(fake_demos: Path, tmp_path: Path, name: str) -> None:
    kind, changes = KINDS[name]
    config = made(kind, fake_demos, tmp_path / "run", **changes)
    policy = load_policy(run(config))
    random = np.random.default_rng(0)
    asked = [
        Observation(
            images={c: random.integers(0, 256, (32, 32, 3), np.uint8) for c in ("agentview", "wrist")},
            proprio=random.normal(size=8).astype(np.float32),
            prompt="reach the red square",
            seed=seed,
        )
        for seed in (1, 2)
    ]
    together = policy.act(asked)
    alone = [policy.act([each])[0] for each in asked]
    assert all(np.array_equal(one.actions, other.actions) for one, other in zip(together, alone, strict=True))
    assert together[0].actions.shape == (config.chunk, 7) and np.isfinite(together[0].actions).all()
    (judged,) = (line for line in read_lines(config.out / FILE) if line["kind"] == "validation")
    speaks = name in ("openvla", "tokens")
    assert ("token_accuracy" in judged) == speaks and (judged.get("token_accuracy_blind", 0) > 0) == speaks
    told = policy.manifest.provenance["training"]
    assert told["batch"] == 4 and policy.manifest.merged is False


@pytest.mark.parametrize("name", ["openvla", "l1", "film", "pi05", "vggt"])
def test_adapters_go_on_to_the_bit_and_end_up_merged(fake_demos: Path, tmp_path: Path, name: str) -> None:
    """From a checkpoint whose weights stay as they are, in one piece and in two."""
    kind, changes = KINDS[name]
    base = run(made(kind, fake_demos, tmp_path / "base", steps=2, **changes))
    settings: dict[str, Any] = {**changes, "start_from": base, "lora_rank": 2, "merge_saves": False}
    at_once = made(kind, fake_demos, tmp_path / "at_once", **settings)
    in_two = made(kind, fake_demos, tmp_path / "in_two", **settings)
    run(at_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("handeye.train.run.save_checkpoint", _killed)
        with pytest.raises(KeyboardInterrupt):
            run(in_two)
    saved = read_json(in_two.out / "checkpoints" / "step-4" / "training" / "state.json", what="x")
    assert not saved["checkpoint"] and not (in_two.out / "checkpoints" / "step-4" / "manifest.json").exists()
    shutil.rmtree(in_two.out / "checkpoints" / "step-4")
    run(in_two)
    assert losses(at_once) == losses(in_two)
    one, two = (load(config.out / "final") for config in (at_once, in_two))
    assert one.manifest.merged and one.manifest.provenance["base"]["path"] == str(base)
    before, after, other = (m.state_dict() for m in (load(base / "final").model, one.model, two.model))
    assert all(torch.equal(after[n], other[n]) for n in after)
    changed = {n for n in after if not torch.equal(before[n], after[n])}
    adapters = {f"{module}.weight" for module in read_adapter(at_once.out / "adapter").down}
    begun = begin(at_once, load(base / "final").manifest.specs, one.manifest.statistics)
    assert changed and all(n in adapters or begun.whole(n) for n in changed)
    assert not any(begun.frozen(n) for n in changed)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["l1", "diffusion", "tokens", "pi05"])
def test_parts_of_a_batch_add_up_to_it(fake_demos: Path, tmp_path: Path, name: str) -> None:
    """Also where chunks reach past the end, so that parts have different numbers of steps that count."""
    kind, changes = KINDS[name]
    whole, parts = (
        made(kind, fake_demos, tmp_path / str(n), accumulate=n, optimizer=OptimizerConfig(ema=0.0, warmup=1), **changes)
        for n in (1, 4)
    )
    run(whole)
    run(parts)
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=2e-5)


@pytest.mark.parametrize("name", ["l1", "pi05"])
def test_recomputing_changes_nothing(fake_demos: Path, tmp_path: Path, name: str) -> None:
    kind, changes = KINDS[name]
    kept = made(kind, fake_demos, tmp_path / "kept", steps=2, **changes)
    again = made(kind, fake_demos, tmp_path / "again", steps=2, checkpointing=True, **changes)
    run(kept)
    run(again)
    assert losses(again) == losses(kept)


@pytest.mark.parametrize("name", ["openvla", "l1", "pi05"])
def test_bfloat16_is_near_and_the_checkpoint_says_so(fake_demos: Path, tmp_path: Path, name: str) -> None:
    kind, changes = KINDS[name]
    base = run(made(kind, fake_demos, tmp_path / "base", steps=2, **changes))
    single = made(kind, fake_demos, tmp_path / "single", start_from=base, lora_rank=2, **changes)
    half = replace(single, out=tmp_path / "half", precision="bf16")
    run(single)
    run(half)
    np.testing.assert_allclose(losses(half), losses(single), rtol=0.05)
    assert losses(half) != losses(single)
    checkpoint = load(half.out / "final")
    assert checkpoint.manifest.config["dtype"] == "bfloat16"
    assert torch.bfloat16 in {p.dtype for p in checkpoint.model.parameters()}


@pytest.mark.parametrize(("name", "change"), [("vggt", {"chunk": 3}), ("l1", {"head": "diffusion"})])
def test_a_part_of_a_checkpoint_only_when_asked_and_marked_for_good(
    fake_demos: Path, tmp_path: Path, name: str, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    kind, changes = KINDS[name]
    base = run(made(kind, fake_demos, tmp_path / "base", steps=2, **changes))
    other = made(kind, fake_demos, tmp_path / "other", steps=2, start_from=base, **{**changes, **change})
    with pytest.raises(UserError, match="--allow-partial"):
        run(other)
    capsys.readouterr()
    allowed = replace(other, allow_partial=True)
    run(allowed)
    printed = capsys.readouterr()
    assert "came only what fits" in printed.err and "new, from the seed: " in printed.out
    (record,) = load(allowed.out / "final").manifest.provenance["partial"]
    new = {tensor for module in record["modules"].values() for tensor in module["new"]}
    before, after = (set(load(folder / "final").model.state_dict()) for folder in (base, allowed.out))
    assert new and new <= after and set(record["left_out"]) == before - after
    share = sum(module["loaded"] for module in record["modules"].values())
    assert 0.5 < share / sum(module["numbers"] for module in record["modules"].values()) < 1
    # What is fine-tuned from it, all of it, is marked as well, and so is every result.
    again = run(made(kind, fake_demos, tmp_path / "again", steps=2, start_from=allowed.out, **{**changes, **change}))
    assert load(again / "final").manifest.provenance["partial"] == [record]
    assert str(base) in load_policy(again).identity["partial"]


def test_what_a_start_draws_learns_beside_adapters(fake_demos: Path, tmp_path: Path) -> None:
    """In the middle of a model whose other weights stay as they are; and it is never left as it was drawn."""
    config = made(OftConfig, fake_demos, tmp_path / "run", lora_rank=2)
    begun = begin(config, *known(fake_demos))
    norm, idle = "language_model.model.norm.weight", next(n for n in begun.model.state_dict() if begun.frozen(n))
    model = prepare(config, replace(begun, filled=Filled(new={norm: 16})), [], "cpu")
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert norm in learning and "language_model.model.layers.0.input_layernorm.weight" not in learning
    assert attend(config, model, "cpu").taken == "sdpa"
    assert attend(replace(config, attention="eager"), model, "cpu").taken == "eager"
    with pytest.raises(UserError, match="--attention flash"):
        attend(replace(config, attention="flash"), model, "cpu")
    with pytest.raises(UserError, match=f"{idle} is not in(.|\\n)*frozen"):
        prepare(config, replace(begun, filled=Filled(new={idle: 16})), [], "cpu")


def test_another_backbone_is_never_a_partial_start(fake_demos: Path, tmp_path: Path) -> None:
    other = replace(QWEN3_BYTES, kind="qwen2", name="small2")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vggt_vla, "SMALL", {**vggt_vla.SMALL, "language": other})
        base = run(made(VggtConfig, fake_demos, tmp_path / "base", steps=1, **KINDS["vggt"][1]))
        stolen = load(base / "final").model.state_dict()
    config = made(VggtConfig, fake_demos, tmp_path / "run", start_from=base, allow_partial=True, **KINDS["vggt"][1])
    ours = begin(replace(config, start_from=None, allow_partial=False), *known(fake_demos)).model
    with pytest.raises(UserError, match=r"another backbone(.|\n)*a Qwen2 (.|\n)*a Qwen3 "):
        fill(ours, stolen, fresh=(), config=config, what="it")


def known(demos: Path) -> tuple[Specs, Statistics]:
    found = Demonstrations(demos)
    return found.specs, found.statistics()


@pytest.mark.goldens
def test_from_a_published_base_of_many_data_sets(goldens: Path, fake_demos: Path, tmp_path: Path) -> None:
    """Its statistics are of no use here, and need not be chosen."""
    base = published(goldens / "openvla", "openvla_tiny", tmp_path)
    config = made(OpenvlaConfig, fake_demos, tmp_path / "run", steps=1, start_from=base, lora_rank=2)
    final = load(run(config) / "final")
    assert final.manifest.statistics.episodes == 8 and final.manifest.provenance["base"]["new"] == {}


def test_a_base_that_is_not_there_is_missed_before_the_data(tmp_path: Path) -> None:
    absent = tmp_path / "openvla-7b"
    with pytest.raises(UserError, match=f"hf download openvla/openvla-7b --local-dir {absent}"):
        run(made(OftConfig, tmp_path / "no_data", tmp_path / "run", start_from=absent))


def test_adapters_beside_four_bits(fake_demos: Path, tmp_path: Path) -> None:
    """QLoRA: the language model's frozen weights have four bits in training; what is merged into has all of its own."""
    pytest.importorskip("bitsandbytes")
    base = run(made(OftConfig, fake_demos, tmp_path / "base", steps=2))
    how: dict[str, Any] = {"start_from": base, "lora_rank": 2, "precision": "bf16", "optimizer": SLOW}
    plain = made(OftConfig, fake_demos, tmp_path / "plain", **how)
    four = replace(plain, out=tmp_path / "four", quantize="nf4")
    run(plain)
    run(four)
    np.testing.assert_allclose(losses(four), losses(plain), rtol=0.1)
    assert losses(four) != losses(plain)
    before, after = (load(folder / "final").model.state_dict() for folder in (base, four.out))
    adapters = {f"{module}.weight" for module in read_adapter(four.out / "adapter").down}
    untouched = [n for n in after if n not in adapters and n.startswith("language_model.")]
    assert untouched and all(torch.equal(after[n], before[n].bfloat16()) for n in untouched)
    name = "language_model.model.layers.0.mlp.up_proj.weight"
    assert 0 < (after[name].float() - before[name]).abs().max() < 0.1


def test_a_plain_openvla_gets_new_heads_and_nothing_else(fake_demos: Path, tmp_path: Path) -> None:
    base = run(made(OpenvlaConfig, fake_demos, tmp_path / "base", steps=2))
    config = made(OftConfig, fake_demos, tmp_path / "oft", start_from=base)
    begun = begin(config, load(base / "final").manifest.specs, load(base / "final").manifest.statistics)
    old, new = load(base / "final").model.state_dict(), begun.model.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert {name.partition(".")[0] for name in new.keys() - old.keys()} == {"action_head", "proprio_projector"}
    assert all(begun.whole(name) for name in new.keys() - old.keys())


def test_foreign_bases_are_refused(fake_demos: Path, tmp_path: Path) -> None:
    base = run(made(OpenpiConfig, fake_demos, tmp_path / "base", steps=2, chunk=3))
    with pytest.raises(UserError, match="is pi05"):
        run(made(OftConfig, fake_demos, tmp_path / "a", start_from=base))
    with pytest.raises(UserError, match="is pi05"):
        run(made(OpenpiConfig, fake_demos, tmp_path / "b", start_from=base, kind="pi0", chunk=3))
    with pytest.raises(UserError, match="nothing to start from"):
        made(OftConfig, fake_demos, tmp_path / "c", sizes="published")


def test_the_best_save_is_kept_and_named(fake_demos: Path, tmp_path: Path) -> None:
    config = made(
        OftConfig, fake_demos, tmp_path / "run", steps=10, keep=1, keep_best=True, validate_every=2, merge_saves=True
    )
    run(config)
    seen = {line["step"]: line["arm_l1"] for line in read_lines(config.out / FILE) if line["kind"] == "validation"}
    best = min(seen, key=lambda step: (seen[step], step))
    assert read_json(config.out / "best.json", what="x") == {"step": best, "arm_l1": seen[best]}
    assert {path.name for path in (config.out / "checkpoints").iterdir()} == {f"step-{best}", "step-10"}
