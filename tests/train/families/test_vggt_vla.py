"""What a policy on VGGT begins with: two halves or a whole policy, what of it learns, and how fast."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tyro
from safetensors.torch import save_file
from small_training import made, shrink
from small_vggt import QWEN2, QWEN3, REFERENCE, save_as_atlas, small

from handeye.data.loading.demonstrations import Demonstrations
from handeye.data.statistics import VectorStatistics
from handeye.errors import UserError
from handeye.models.vggt_vla import Config, Model
from handeye.records import write_json
from handeye.train.choice import choice
from handeye.train.families import vggt_vla
from handeye.train.families.begin import Begin, begin
from handeye.train.families.config import VggtConfig
from handeye.train.optimizer import adamw
from handeye.train.presets import VGGT_FACTORS, VGGT_LANGUAGE
from handeye.train.run import prepare, run

PRESET = "vggt_vla_libero_spatial"


@pytest.fixture(autouse=True)
def smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def parsed(*words: str) -> VggtConfig:
    """As `handeye train` parses them."""
    config = tyro.cli(choice(words), args=list(words), config=(tyro.conf.OmitArgPrefixes,))
    assert isinstance(config, VggtConfig)
    return config


# ---- what the command line begins with -------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [["--start-from", "runs/other/final"], ["--start_from=runs/other/final"]])
def test_a_policy_takes_the_place_of_the_presets_halves(flag: list[str]) -> None:
    config = parsed(PRESET, *flag, "--steps", "7")
    assert (config.start_from, config.vggt, config.qwen, config.steps) == (Path("runs/other/final"), None, None, 7)
    assert parsed(PRESET, "--steps", "7").vggt is not None


@pytest.mark.parametrize("half", [["--vggt", "x.pt"], ["--qwen", "x"], ["--vggt", "x.pt", "--qwen", "x"]])
def test_both_are_two_things_to_start_from(half: list[str]) -> None:
    with pytest.raises(UserError, match="two things to start from"):
        parsed(PRESET, "--start-from", "runs/other/final", *half)


def test_factors_are_those_of_the_form_and_of_what_is_trained(tmp_path: Path) -> None:
    ours, atlas = tmp_path / "ours" / "final", tmp_path / "atlas.pt"
    ours.mkdir(parents=True)
    write_json(ours / "manifest.json", {"config": {"form": "ours"}})
    atlas.write_bytes(b"")
    assert parsed(PRESET).learning_rate_of == VGGT_FACTORS["ours"]
    assert parsed(PRESET, "--start-from", str(ours.parent)).learning_rate_of == VGGT_FACTORS["ours"]
    assert parsed(PRESET, "--start-from", f"{atlas}#sentence=task").learning_rate_of == VGGT_FACTORS["reference"]
    write_json(ours / "manifest.json", {"config": {"form": "reference"}})
    unfrozen = parsed(PRESET, "--start-from", str(ours), "--no-freeze-language")
    assert unfrozen.learning_rate_of == VGGT_FACTORS["reference"] | VGGT_LANGUAGE
    assert parsed(PRESET, "--learning-rate-of", "fuse.", "3").learning_rate_of == {"fuse.": 3.0}


# ---- the two halves --------------------------------------------------------------------------------------------------


@pytest.fixture
def halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Of a model of a few thousand numbers, in the names and files of the published ones."""
    monkeypatch.setattr(vggt_vla, "QWENS", {"Qwen3ForCausalLM": QWEN3})
    monkeypatch.setattr(vggt_vla.vggt_vla, "Config", lambda **how: Config(**{**vggt_vla.SMALL, **how}))
    return written(small(prompt_length=77), tmp_path)


def written(model: Model, folder: Path) -> dict[str, Path]:
    state, language = model.state_dict(), "language_encoder.language_model."
    paths = {"vggt": folder / "model.safetensors", "qwen": folder / "qwen"}
    paths["qwen"].mkdir()
    save_file({n: t.contiguous() for n, t in state.items() if n.startswith("aggregator.")}, paths["vggt"])
    save_file(
        {f"model.{n.removeprefix(language)}": t.contiguous() for n, t in state.items() if n.startswith(language)},
        paths["qwen"] / "model.safetensors",
    )
    (paths["qwen"] / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}))
    (paths["qwen"] / "tokenizer.json").write_text("{}")
    return paths


def begun(demos: Path, out: Path, /, **changes: Any) -> Begin:
    found = Demonstrations(demos)
    return begin(made(VggtConfig, demos, out, **changes), found.specs, found.statistics())


@pytest.mark.parametrize("absent", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_language_model_without_a_file_is_told_by_its_name(
    fake_demos: Path, tmp_path: Path, halves: dict[str, Path], absent: str
) -> None:
    (halves["qwen"] / absent).unlink()
    with pytest.raises(UserError, match=f"has no {absent}"):
        begun(fake_demos, tmp_path / "run", **halves)


def test_a_shard_that_is_listed_must_be_there(fake_demos: Path, tmp_path: Path, halves: dict[str, Path]) -> None:
    listed = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    write_json(halves["qwen"] / "model.safetensors.index.json", listed)
    with pytest.raises(UserError, match="has no model-00002-of-00002"):
        begun(fake_demos, tmp_path / "run", **halves)


def test_a_folder_is_no_file_of_weights(fake_demos: Path, tmp_path: Path, halves: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"is a folder(.|\n)*model.safetensors"):
        begun(fake_demos, tmp_path / "run", **{**halves, "vggt": halves["vggt"].parent})


@pytest.mark.parametrize("allow_partial", [False, True])
def test_another_language_model_under_the_name_is_refused_with_both_named(
    fake_demos: Path, tmp_path: Path, halves: dict[str, Path], allow_partial: bool
) -> None:
    (tmp_path / "other").mkdir()
    stolen = written(small(prompt_length=77, language=QWEN2), tmp_path / "other")
    with pytest.raises(UserError, match="another backbone") as caught:
        begun(fake_demos, tmp_path / "run", **halves | {"qwen": stolen["qwen"]}, allow_partial=allow_partial)
    assert "a Qwen2 of no published size" in caught.value.why and "a Qwen3 of no published size" in caught.value.why


# ---- a whole policy --------------------------------------------------------------------------------------------------


@pytest.fixture
def base(fake_demos: Path, tmp_path: Path) -> Path:
    return run(made(VggtConfig, fake_demos, tmp_path / "base", steps=1, validate_every=1, save_every=1))


def test_other_cameras_are_refused_or_taken(fake_demos: Path, tmp_path: Path, base: Path) -> None:
    one: dict[str, Any] = {"start_from": base, "cameras": ("agentview",)}
    with pytest.raises(UserError, match="looks through agentview and wrist") as caught:
        begun(fake_demos, tmp_path / "run", **one)
    assert "--cameras agentview wrist" in caught.value.fix
    taken = begun(fake_demos, tmp_path / "run", **one, allow_partial=True)
    assert taken.config.cameras == taken.model.config.cameras == ("agentview",)
    assert list(taken.filled.new) == ["fuse.source"]


@pytest.mark.parametrize("frozen", [True, False])
def test_an_unfrozen_language_model_learns_beside_adapters(
    fake_demos: Path, tmp_path: Path, base: Path, frozen: bool
) -> None:
    config = made(
        VggtConfig, fake_demos, tmp_path / "run", start_from=base, lora_rank=2, freeze_language=frozen,
        learning_rate_of={**VGGT_FACTORS["ours"], **({} if frozen else VGGT_LANGUAGE)},
    )  # fmt: skip
    started = begun(fake_demos, tmp_path / "run", start_from=base, lora_rank=2, freeze_language=frozen)
    model = prepare(config, started, list(started.targets), "cpu")
    learns = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    language = {learns[name] for name in learns if name.startswith("language_encoder.language_model.")}
    assert language == {not frozen} and not any(name.startswith("language_") and ".lora_" in name for name in learns)
    groups = {group["factor"] for group in adamw(model, config.optimizer, config.learning_rate_of).param_groups}
    assert groups == {1.0, 0.1, 2.0} | (set() if frozen else {0.05})


def test_the_references_form_learns_at_its_rates(fake_demos: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    atlas = save_as_atlas(tmp_path / "best_model.pt", small(REFERENCE))
    how: dict[str, Any] = {
        "start_from": Path(f"{atlas}#language=qwen3"), "chunk": 4, "cameras": ("agentview",), "lora_rank": 2,
        "learning_rate_of": VGGT_FACTORS["reference"],
    }  # fmt: skip
    config, known = made(VggtConfig, fake_demos, tmp_path / "run", **how), Demonstrations(fake_demos)
    one = VectorStatistics(mean=(0.0,) * 8, std=(1.0,) * 8)  # these demonstrations have axes that never move
    statistics = replace(known.statistics(), action=VectorStatistics(mean=(0.0,) * 7, std=(1.0,) * 7), proprio=one)
    started = begin(config, known.specs, statistics)
    model = prepare(config, started, list(started.targets), "cpu")
    groups = adamw(model, config.optimizer, config.learning_rate_of).param_groups
    by_id = {id(p): group["factor"] for group in groups for p in group["params"]}
    factor = {name: by_id[id(p)] for name, p in model.named_parameters() if id(p) in by_id}
    assert {f for name, f in factor.items() if name.startswith("action_head.")} == {2.0}
    assert {f for name, f in factor.items() if name.startswith("language_encoder.projector.")} == {0.1}
