"""Every name of openpi's reference data is compared somewhere, or it is said why not; and the comparisons that have no
other place: replanning, bytes, what learns beside adapters, Hugging Face's names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.npz import read_npz
from handeye.conventions import libero
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.data.statistics import measure
from handeye.data.xvr.form import Form
from handeye.evaluate.rollout import roll_out
from handeye.models import paligemma
from handeye.policy import formats
from handeye.protocols import presets
from handeye.train import lora
from handeye.train.families.begin import begin
from handeye.train.presets import PRESETS
from handeye.train.run import prepare
from handeye.types import EpisodeId, Observation, Step

pytestmark = pytest.mark.goldens
Record = Callable[[str, object], None]

INSIDE = ("transforms.npz", "transforms.json", "xvr/xvr.npz", "xvr/xvr.json")
"""Files of many things: each is a name of its own."""

COVERED = {
    "checkpoint_train_layout/*": "test_openpi_checkpoints",
    "keys/*_base_keys.json": "test_openpi_checkpoints",
    "keys/*_base_pytorch_keys.json": "test_openpi_checkpoints",
    "keys/paligemma3b_keys.json": "test_openpi_checkpoints",
    "keys/pi05_lora_keys.json": "test_openpi_checkpoints",
    "keys/pi05_lora_frozen.json": "test_openpi_covered",
    "keys/paligemma3b_hf_keys.json": "test_openpi_covered",
    "merge/*": "test_merge",
    "norm_stats/*": "test_pipeline_vectors",
    "paligemma_tiny/*.npz": "test_paligemma",
    "paligemma_tiny/config.json": "test_paligemma",
    "paligemma_tiny/training.json": "test_vqa_training",
    "paligemma_tiny/hf/model.safetensors": "test_openpi_covered",
    "pi0*_tiny/*.npz": "test_pi05",
    "pi0*_tiny/config.json": "test_pi05",
    "pi0*_tiny/grad_norms.json": "test_pi05",
    "pi0*_tiny/model.safetensors": "test_openpi_checkpoints",
    "pi0*_tiny/checkpoint/*": "test_openpi_checkpoints",
    "tokenizer/*": "test_pipeline_tokens",
    "transforms.json/action_chunk_broker": "test_openpi_covered",
    "transforms.json/adamw": "test_openpi_optimizer",
    "transforms.json/libero_mask_pi0": "test_openpi_covered",
    "transforms.json/libero_mask_pi05": "test_pipeline_vectors",
    "transforms.json/lr": "test_openpi_optimizer",
    "transforms.json/pipeline": "test_pipeline_chain",
    "transforms.json/resize": "test_pipeline_images",
    "transforms.json/sentencepiece_plain": "test_pipeline_tokens",
    "transforms.json/tokenise": "test_pipeline_tokens",
    "transforms.npz/adamw": "test_openpi_optimizer",
    "transforms.npz/convert_to_uint8": "test_openpi_covered",
    "transforms.npz/pipeline": "test_pipeline_chain",
    "transforms.npz/resize*": "test_pipeline_images",
    **{f"transforms.npz/{name}": "test_pipeline_vectors" for name in
       ("delta", "digitize", "libero", "norm", "pad", "quat", "unnorm")},
    "wire/*": "test_wire",
    "xvr/images/*": "test_xvr",
    "xvr/mini.jsonl": "test_xvr",
    "xvr/xvr.json/image_cases": "test_xvr",
    "xvr/xvr.json/num_samples": "test_xvr",
    "xvr/xvr.json/parse_sample": "test_xvr",
    "xvr/xvr.json/postprocess_tokens": "test_openpi_covered",
    "xvr/xvr.json/preprocess_tokens": "test_xvr",
    "xvr/xvr.npz/frames_newest": "test_xvr",
    "xvr/xvr.npz/single": "test_xvr",
}  # fmt: skip
"""Names -> the test beside this one that compares them."""

EXCUSED = {
    "README.md": "says what there is",
    "paligemma_tiny/hf/*config.json": "transformers' settings, which are not read: the arrays decide the sizes",
    "paligemma_tiny/hf/hf.json": "the reference's own check of Hugging Face against big_vision; its names are in keys/",
    "pi0*_tiny/torch.json": "the reference's own check of PyTorch against JAX; the file's names are its own",
    "transforms.json/errors": "openpi's wording; ours are UserErrors, each with its test",
    "transforms.json/libero_mask_pi0_fast": "of pi0-FAST, which is not here",
    "transforms.json/libero_inputs_*": "names of openpi's dictionaries; what is in them is compared",
    "transforms.json/delta_mask_6_-1": "how openpi writes a mask; what it masks is in `delta`",
    "transforms.json/make_bool_mask_3_-2_2": "a helper of openpi's that nothing of LIBERO calls",
    "xvr/xvr.json/frames_newest_count*": "the reference cuts the sixth picture off; here such a question is refused",
    "xvr/xvr.npz/grid_main": "pictures pasted into one, as the reference's first version did; here they are frames",
}


@pytest.fixture(scope="module")
def folder(goldens: Path) -> Path:
    return goldens / "pi05"


@pytest.fixture(scope="module")
def transforms(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "transforms.json").read_text()))


def everything(folder: Path) -> Iterator[str]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in INSIDE:
            yield name
        elif path.suffix == ".json":
            yield from (f"{name}/{key}" for key in json.loads(path.read_text()))
        else:
            yield from sorted({f"{name}/{key.split('/')[0]}" for key in np.load(path).files})


def test_each_is_compared_or_excused(folder: Path, record_property: Record) -> None:
    known = {**COVERED, **EXCUSED}
    assert len(known) == len(COVERED) + len(EXCUSED)
    found = {name: [each for each in known if fnmatchcase(name, each)] for name in everything(folder)}
    assert not {name: which for name, which in found.items() if len(which) != 1}
    assert {which[0] for which in found.values()} == set(known), "nothing is said of what is not there"
    for test in COVERED.values():
        assert Path(__file__).with_name(f"{test}.py").is_file()
    record_property("names of openpi's reference data, compared or excused", len(found))


# ---- acting ----------------------------------------------------------------------------------------------------------


@dataclass
class Recorder:
    """An environment that notes what is done."""

    done: list[list[float]] = field(default_factory=list)

    def reset(self, episode: EpisodeId) -> None: ...

    def step(self, action: np.ndarray, *, look: bool = False) -> Step:
        self.done.append(action.tolist())
        return Step(reward=0.0, success=False)

    def observe(self, *, seed: int = 0) -> Observation:
        raise AssertionError("nobody looks")

    def hashes(self) -> dict[str, str]:
        return {}

    def close(self) -> None: ...


@dataclass
class Counting:
    """The policy of the reference data: four actions of three numbers, a hundred more with each question."""

    asked: int = 0
    cameras: None = None
    note: str = ""

    def begin(self, episode: EpisodeId) -> None: ...

    def answer(self, observation: Observation | None) -> np.ndarray:
        self.asked += 1
        return np.arange(12.0).reshape(4, 3) + 100 * self.asked


def test_replanning_as_action_chunk_broker(transforms: dict, record_property: Record) -> None:
    """Three of four actions are executed, then it is asked again; a new episode begins with a question."""
    told = transforms["action_chunk_broker"]
    sequence = told["sequence"]
    steps = [line for line in sequence if line["call"] != "after reset"]
    env, policy, done = Recorder(), Counting(), 0
    for part in (steps, sequence[len(steps) :]):
        short = replace(
            presets.openpi_2025(), name="short", replan_steps=told["action_horizon"], horizons={"fake": len(part)},
            settle_steps=0, stream="episode", sources={},
        )  # fmt: skip
        before = policy.asked
        found = roll_out(env, EpisodeId(suite="fake", task=0, initial_state=0), policy, short)
        assert env.done[done:] == [line["actions"] for line in part]
        assert before + found.questions == policy.asked == part[-1]["policy_calls_so_far"]
        done = len(env.done)
    record_property("actions of openpi's ActionChunkBroker", len(sequence))


def test_floats_become_bytes(folder: Path, record_property: Record) -> None:
    """Cut, not rounded; as pictures, which have channels first there."""
    arrays = np.load(folder / "transforms.npz")
    given, wanted = arrays["convert_to_uint8/in"], arrays["convert_to_uint8/out"]
    ours = formats._as_bytes(np.stack([given] * 3))
    assert ours.dtype == wanted.dtype
    np.testing.assert_array_equal(ours, np.stack([wanted] * 3, axis=-1))
    record_property("bytes of openpi's pictures", wanted.size)


def test_pi0_masks_cameras_as_pi05(transforms: dict) -> None:
    """One pipeline serves both; pi0.5's mask is compared with it elsewhere."""
    assert transforms["libero_mask_pi0"] == transforms["libero_mask_pi05"]


def test_answers_end_where_the_reference_ends_them(folder: Path, record_property: Record) -> None:
    form = Form(vocabulary=Vocabulary.of(folder / "tokenizer" / "tiny_tokenizer.model"))
    cases = json.loads((folder / "xvr" / "xvr.json").read_text())["postprocess_tokens"]
    for case in cases:
        assert form.said(case["ids"]) == case["text"]
    record_property("XVR answers", len(cases))


# ---- adapters --------------------------------------------------------------------------------------------------------


def test_what_learns_beside_adapters(folder: Path, record_property: Record) -> None:
    """Of pi05_libero_lora, by openpi's names: which arrays are frozen, and which have adapters of which rank."""
    preset = PRESETS["pi05_libero_lora"].make()
    config = replace(preset, sizes="small", start_from=None, checkpointing=False)
    random = np.random.default_rng(0)
    statistics = measure([(random.uniform(-1, 1, (20, 7)), random.normal(size=(20, 8)))])
    begun = begin(config, libero.specs(camera_size=32), statistics)
    targets = lora.chosen(begun.model, begun.targets, config)
    ranks = lora.ranks(targets, config)
    model = prepare(config, begun, targets, "cpu")
    parameters = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in model.named_parameters()
        if ".lora_" not in name
    }
    learns = {name: torch.full_like(p, float(p.requires_grad), dtype=torch.float32) for name, p in parameters.items()}
    frozen = {key for key, array in names.to_tree(learns, begun.config).items() if not array.any()}
    assert frozen == set(json.loads((folder / "keys" / "pi05_lora_frozen.json").read_text()))
    beside = {
        name: torch.full_like(p, float(ranks.get(name.removesuffix(".weight"), 0)), dtype=torch.float32)
        for name, p in parameters.items()
    }
    ours = {key: array.unique().tolist() for key, array in names.to_tree(beside, begun.config).items() if array.any()}
    told = json.loads((folder / "keys" / "pi05_lora_keys.json").read_text())
    theirs = {
        key.replace("/lora_a", "/w").replace("_lora_a", ""): [float(shape[-1])]
        for key, shape in told.items()
        if key.endswith("lora_a")
    }
    assert ours == theirs
    assert lora.alpha(config) == config.lora_rank  # alpha / rank is 1 in both
    record_property("names that openpi freezes under LoRA", len(frozen))
    record_property("ranks of openpi's adapters", len(theirs))


# ---- Hugging Face ----------------------------------------------------------------------------------------------------


def hf_name(name: str) -> str:
    """openpi's PyTorch model has transformers' PaliGemma inside, under transformers' own names."""
    return names.torch_name(name).removeprefix("paligemma_with_expert.paligemma.")


def test_hugging_faces_names_at_true_size(folder: Path, record_property: Record) -> None:
    """Its table of tokens has 64 rows more, which no piece belongs to, and two names."""
    told = json.loads((folder / "keys" / "paligemma3b_hf_keys.json").read_text())
    with torch.device("meta"):
        ours = {hf_name(name): list(t.shape) for name, t in paligemma.Model(paligemma.Config()).state_dict().items()}
    theirs = {name: entry["shape"] for name, entry in told.items()}
    table = theirs.pop("model.language_model.embed_tokens.weight")
    assert theirs.pop("lm_head.weight") == table == [257216, 2048] and ours.pop("lm_head.weight") == [257152, 2048]
    assert ours == theirs
    record_property("names and shapes of Hugging Face's PaliGemma", len(told))


def test_hugging_faces_file_holds_the_same_numbers(folder: Path, record_property: Record) -> None:
    """This layout is not a start of ours; that its names mean what ours do, openpi's PyTorch files rest on."""
    tiny, told = folder / "paligemma_tiny", json.loads((folder / "keys" / "paligemma3b_hf_keys.json").read_text())
    tree = {name.removeprefix("params/"): array for name, array in read_npz(tiny / "paligemma_tiny.npz").items()}
    ours = names.from_tree(tree, config := names.config_of(tree, what="tiny"), what="tiny")
    theirs = load_file(tiny / "hf" / "model.safetensors")
    in_file = {name: entry["name_in_hub_files"] for name, entry in told.items()}
    table = theirs.pop(in_file["model.language_model.embed_tokens.weight"])
    assert torch.equal(table[: config.vocabulary], ours.pop("language.embedding.weight"))
    assert {in_file[hf_name(name)] for name in ours} == set(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[in_file[hf_name(name)]]), name
    record_property("tensors of Hugging Face's PaliGemma", len(ours) + 1)
