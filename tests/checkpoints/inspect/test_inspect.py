"""`handeye inspect` on every layout that is read here, whole and not, and on what is no checkpoint at all."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_pi05 import VISION, policy
from small_vggt import QWEN2, REFERENCE, save_as_atlas, small
from small_vqa import write_checkpoint, write_questions

from handeye.checkpoints.inspect.report import Report
from handeye.checkpoints.inspect.run import inspect
from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.manifest import Manifest
from handeye.checkpoints.partial import compare
from handeye.checkpoints.save import save
from handeye.cli import main
from handeye.errors import UserError
from handeye.sim.init_states import read as states


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """One of ours."""
    from handeye.serve.untrained import checkpoint as made

    untrained = made(camera_size=64)
    save(tmp_path / "ours", replace(untrained.manifest, step=7), untrained.model.state_dict())
    return tmp_path / "ours"


def look(path: Path, options: Mapping[str, str] | None = None) -> Report:
    return inspect(path, options or {}, states)


# ---- checkpoints -----------------------------------------------------------------------------------------------------


def test_one_of_ours(checkpoint: Path) -> None:
    found = look(checkpoint)
    assert (found.verdict, found.layout, found.family) == ("sound", "handeye", "tiny")
    assert found.parameters == found.types["float32"] > 1000 and found.adapters == "none"
    assert found.command.startswith("handeye evaluate") and "gripper" in found.conventions
    (statistics,) = found.statistics
    assert "1 episodes" in statistics and "q01" in statistics


def test_one_of_ours_that_began_with_part_of_another(tmp_path: Path) -> None:
    from handeye.serve.untrained import checkpoint as made

    untrained = made(camera_size=64)
    record = compare({"head.weight": (2, 2)}, {"head.weight": (3, 2)}, what="runs/other/final")
    told = {**untrained.manifest.provenance, "partial": [record]}
    save(tmp_path / "ours", replace(untrained.manifest, provenance=told), untrained.model.state_dict())
    (note,) = look(tmp_path / "ours").notes
    assert "runs/other/final" in note and "0.0% of its numbers" in note


def test_one_of_ours_with_another_byte(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    found = look(checkpoint)
    assert found.verdict == "broken" and "sha256" in found.problems[0]


def test_one_of_ours_cut_off(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    found = look(checkpoint)
    assert found.verdict == "broken" and "bytes, not" in found.problems[0]


def test_a_finished_run_is_its_final(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    checkpoint.rename(tmp_path / "run" / "final")
    assert look(tmp_path / "run").family == "tiny"


def test_an_unfinished_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "checkpoints" / "step-500").mkdir(parents=True)
    found = look(tmp_path)
    assert found.verdict == "incomplete" and "step-500" in found.notes[0] and "again" in found.fix


@pytest.mark.parametrize("finished", [True, False])
def test_an_evaluation(tmp_path: Path, finished: bool) -> None:
    for name in ("plan.json", "episodes.jsonl", *["summary.json"] * finished):
        (tmp_path / name).write_text("{}")
    assert look(tmp_path).verdict == ("sound" if finished else "incomplete")


OPENPI = {"heads": "4", "vision_heads": "2", "chunk": "3"}


@pytest.fixture
def openpi(tmp_path: Path) -> Path:
    model = policy(vision=replace(VISION, image_size=224, patch=112))
    state = {name: x.detach().contiguous() for name, x in model.state_dict().items()}
    folder = tmp_path / "4999"
    (folder / "assets" / "libero").mkdir(parents=True)
    save_file(names.to_torch(state, model.config), folder / "model.safetensors", metadata=names.TORCH_METADATA)
    row = {"mean": [0.0] * 8, "std": [1.0] * 8, "q01": [-1.0] * 8, "q99": [1.0] * 8}
    actions = {name: values[:7] for name, values in row.items()}
    told = json.dumps({"norm_stats": {"state": row, "actions": actions}})
    (folder / "assets" / "libero" / "norm_stats.json").write_text(told)
    (tmp_path / "tokenizer.json").write_text("{}")
    return folder


def test_openpis(openpi: Path, tmp_path: Path) -> None:
    tokenizer = {"tokenizer": str(tmp_path / "tokenizer.json")}
    found = look(openpi, {**OPENPI, **tokenizer})
    assert (found.verdict, found.layout, found.family) == ("sound", "openpi", "pi05")
    assert "openpi-2025" in found.command and any("paligemma" in n or "pi05" in n for n in found.notes)
    lacking = look(openpi, {**OPENPI, "tokenizer": str(tmp_path / "nowhere.json")})
    assert lacking.verdict == "incomplete"
    shutil.rmtree(openpi / "assets")
    found = look(openpi, {**OPENPI, **tokenizer})
    assert found.verdict == "incomplete" and "statistics" in found.missing[0] and found.parameters
    assert any("vision transformer" in each for each in found.backbones)


def test_atlas_vlas(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    path = save_as_atlas(tmp_path / "best.pt", small(REFERENCE))
    found = look(path, {"language": "qwen3"})
    assert (found.verdict, found.family, found.layout) == ("sound", "vggt_vla", "vggt_vla")
    assert any("a Qwen3 of no published size" in each and "norms" in each for each in found.backbones)
    assert sum("aggregator" in note and "a VGGT of no published size" in note for note in found.notes) == 2
    found = look(tmp_path)
    assert found.verdict == "broken" and "does not hold the language model that it names" in found.problems[0]


def test_one_that_answers_questions(tmp_path: Path) -> None:
    found = look(write_checkpoint(tmp_path / "reader", write_questions(tmp_path)))
    assert (found.verdict, found.family) == ("sound", "paligemma")
    assert found.command.startswith("handeye evaluate-vqa")


def test_a_fallback_is_told(tmp_path: Path) -> None:
    """It names Qwen3-0.6B, and holds a Qwen2."""
    (tmp_path / "tokenizer.json").write_text("{}")
    path = save_as_atlas(tmp_path / "best.pt", small({**REFERENCE, "language": QWEN2}))
    found = look(path)
    assert found.verdict == "broken" and found.parameters
    assert "Qwen/Qwen3-0.6B-Base" in found.problems[0] and "a Qwen2" in found.problems[0]
    assert any("a Qwen2 of no published size" in each for each in found.backbones)


def test_a_bare_adapter(tmp_path: Path) -> None:
    pair = {"base_model.model.layers.0.q_proj.lora_A.weight": torch.zeros(4, 8),
            "base_model.model.layers.0.q_proj.lora_B.weight": torch.zeros(8, 4)}  # fmt: skip
    save_file(pair, tmp_path / "adapter_model.safetensors")
    told = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "openvla/openvla-7b"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(told))
    found = look(tmp_path)
    assert found.verdict == "incomplete" and "rank 4, alpha 8, beside 1 modules (q_proj)" in found.adapters
    assert any("openvla/openvla-7b" in each for each in found.missing)
    (tmp_path / "adapter_config.json").write_text(json.dumps({**told, "use_dora": True}))
    assert look(tmp_path).verdict == "broken"
    (tmp_path / "adapter_model.safetensors").unlink()
    assert "without its weights" in look(tmp_path).what


def test_a_language_model_alone(tmp_path: Path) -> None:
    save_file({"model.layers.0.self_attn.q_proj.weight": torch.zeros(8, 8)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    found = look(tmp_path)
    assert found.verdict == "unknown" and "qwen3" in found.what and found.missing


# ---- files -----------------------------------------------------------------------------------------------------------

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 15400000000\n"
PAGE = b"\n<!DOCTYPE html><html><head><title>Sign in - the hub</title></head></html>"
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
GATED = b'{"error": "Access to model x is restricted"}'


@pytest.mark.parametrize("name", ["model-00001-of-00003.safetensors", "model.pt", "tokenizer.model"])
@pytest.mark.parametrize(
    ("content", "said"),
    [(LFS, "Git LFS pointer of 80 bytes for 15,400,000,000 bytes"), (PAGE, "a web page ('Sign in - the hub')"),
     (DENIED, "an XML answer ('Access Denied')"), (GATED, "Access to model x is restricted"), (b"", "is empty")],
)  # fmt: skip
def test_what_a_download_left_instead(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path / name, tmp_path):
        found = look(path)
        assert found.verdict == "broken" and said in " ".join(found.problems) and found.fix, found


class Bad:
    def __reduce__(self) -> Any:
        return os.putenv, ("INSPECT_RAN_IT", "1")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_pickle_is_named_and_not_run(tmp_path: Path, protocol: int) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": Bad(), "y": [Bad()]}, protocol=protocol))
    (tmp_path / "a.pkl").rename(tmp_path / "a.pt")
    torch.save(
        {"model_state_dict": {"w": torch.zeros(2, 3)}, "x": Bad()}, tmp_path / "b.pt", pickle_protocol=max(2, protocol)
    )
    for name in ("a.pt", "b.pt"):
        found = look(tmp_path / name)
        assert found.verdict == "broken" and [c.rpartition(".")[2] for c in found.code] == ["putenv"], found
    assert "INSPECT_RAN_IT" not in os.environ


def test_tensors_are_counted_without_being_read(tmp_path: Path) -> None:
    shared = torch.zeros(5, 2)
    torch.save({"state_dict": {"a": shared, "b": shared.t(), "c": torch.nn.Parameter(torch.zeros(3).half())},
                "epoch": 3}, tmp_path / "w.pt")  # fmt: skip
    found = look(tmp_path / "w.pt")
    assert (found.verdict, found.parameters, found.tensors) == ("sound", 23, 3)
    assert found.types == {"float32": 20, "float16": 3} and "epoch" in found.notes[0]


def test_a_byte_in_a_torch_file(tmp_path: Path) -> None:
    torch.save({"w": torch.arange(100.0)}, tmp_path / "w.pt")
    content = bytearray((tmp_path / "w.pt").read_bytes())
    content[content.index(torch.arange(100.0).numpy().tobytes()) + 40] ^= 1
    (tmp_path / "w.pt").write_bytes(content)
    found = look(tmp_path / "w.pt")
    assert found.verdict == "broken" and "checksum" in found.problems[0]


def test_arrays_and_other_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", **{"llm/embedder/input_embedding": np.zeros((4, 2), np.float32)})
    assert "PaliGemma" in look(tmp_path / "w.npz").what
    (tmp_path / "notes.txt").write_text("hello")
    assert look(tmp_path / "notes.txt").verdict == "unknown"
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert look(tmp_path / "config.json").what == "a model's configuration"


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    found = look(tmp_path)
    assert found.verdict == "broken" and found.fix


def test_damaged_files_end_in_a_verdict(tmp_path: Path) -> None:
    """Cut anywhere, or with other bytes in the parts that say what is where."""
    random = np.random.default_rng(0)
    torch.save({"model_state_dict": {"w": torch.zeros(2, 3)}, "x": Bad()}, tmp_path / "a.pt")
    save_file({"w": torch.arange(6.0)}, tmp_path / "b.safetensors")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("a/b.txt", "hello" * 20)
    whole = {path.suffix: path.read_bytes() for path in sorted(tmp_path.iterdir())}
    seen = set()
    for number in range(300):
        suffix = list(whole)[number % 3]
        content = bytearray(whole[suffix])
        if number % 2:
            content = content[: int(random.integers(len(content)))]
        else:
            for place in random.integers(len(content), size=4):
                content[place] = int(random.integers(256))
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(content)
        seen.add(look(path).verdict)
    assert "broken" in seen and "INSPECT_RAN_IT" not in os.environ


def test_a_pickle_that_wants_all_memory(tmp_path: Path) -> None:
    """It is told to remember something as number four billion."""
    (tmp_path / "a.pt").write_bytes(b"\x80\x02]r\xff\xff\xff\xff.")
    found = look(tmp_path / "a.pt")
    assert found.verdict == "broken" and "counts to 4294967295" in found.problems[0]


# ---- the verb --------------------------------------------------------------------------------------------------------


def test_the_verb(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(checkpoint)])
    said = capsys.readouterr().out
    assert "verdict     sound" in said and "use it      handeye evaluate" in said
    main(["inspect", str(checkpoint), "--json"])
    assert json.loads(capsys.readouterr().out)["family"] == "tiny"
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(SystemExit) as code:
        main(["inspect", str(checkpoint), "--json"])
    assert code.value.code == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "incomplete"


def test_nowhere() -> None:
    with pytest.raises(UserError, match="does not exist"):
        look(Path("/nowhere/at/all"))


def test_manifests_fields_are_all_told() -> None:
    """A field that is added to a checkpoint should be seen here too."""
    assert {
        "family",
        "config",
        "files",
        "tensors",
        "specs",
        "pipeline",
        "statistics",
        "merged",
        "step",
        "provenance",
    } >= {field for field in Manifest.__dataclass_fields__}
