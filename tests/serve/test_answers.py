"""A PaliGemma's answers: the same alone and in company, from every kind of checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_vqa import LENGTH, PICTURES, form, model, write_checkpoint, write_questions

from handeye.checkpoints.layouts import openpi_names as names
from handeye.checkpoints.npz import write_npz
from handeye.cli import main
from handeye.data.xvr.questions import Questions
from handeye.errors import UserError
from handeye.records import read_json, read_lines
from handeye.serve.answers import Answerer, load_answerer

ASKED = {"pictures": PICTURES, "tokens": LENGTH, "prefix": "", "length": 6, "device": "cpu"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_questions(tmp_path_factory.mktemp("xvr"), train=12, valid=12)


def test_in_company_as_alone(root: Path) -> None:
    """Questions of one to three pictures and different lengths; a model whose answers differ from question to
    question."""
    questions = Questions(root / "valid.jsonl")
    several = list(questions)
    found = set[str]()
    for seed in range(4):
        answers = Answerer(model(seed), form(root), length=6)
        alone = [answers([question], questions.store)[0] for question in several]
        assert alone == answers(several, questions.store)
        assert alone == [*answers(several[:5], questions.store), *answers(several[5:], questions.store)]
        assert alone[::-1] == answers(several[::-1], questions.store)
        found |= set(alone)
    assert len({len(question.pictures) for question in several}) == 3 and len(found) > 3


def test_from_every_checkpoint(root: Path, tmp_path: Path) -> None:
    questions = Questions(root / "valid.jsonl")
    ours = write_checkpoint(tmp_path / "run" / "final", root)
    tree = names.to_tree(model().state_dict(), model().config)
    write_npz(tmp_path / "p.npz", {f"params/{key}": array.detach() for key, array in tree.items()})
    first = load_answerer(ours.parent, length=6, device="cpu")  # it says itself how it is asked
    second = load_answerer(tmp_path / "p.npz", tokenizer=root / "tokenizer.model", **ASKED)
    assert first(list(questions), questions.store) == second(list(questions), questions.store)
    assert first.form == second.form and first.identity["weights"] != second.identity["weights"]
    with pytest.raises(UserError, match="There is no tokenizer"):
        load_answerer(tmp_path / "p.npz", **ASKED)
    assert second.why_not(questions[2]) == "" and first.identity["precision"] == "fp32"


def test_as_a_user_types_it(root: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "run" / "final", root)
    main(
        [
            "evaluate-vqa",
            str(tmp_path / "run"),
            str(root),
            "--split",
            "valid",
            "--answer-length",
            "4",
            "--device",
            "cpu",
        ]
    )
    out = tmp_path / f"run-vqa-{root.name}-valid"
    assert len(read_lines(out / "predictions.jsonl")) == 12
    assert read_json(out / "summary.json", what="a summary")["all"]["questions"] == 12


def test_a_checkpoint_that_says_how_it_is_asked_is_asked_so(root: Path, tmp_path: Path) -> None:
    ours = write_checkpoint(tmp_path / "final", root)
    again = {**ASKED, "tokenizer": root / "tokenizer.model", "heads": (2, 2)}
    assert load_answerer(ours, **again).form == form(root)
    unknown = b"\xc0\x0c\x00"  # a field that no reader knows: as many pieces, another file
    (tmp_path / "other.model").write_bytes((root / "tokenizer.model").read_bytes() + unknown)
    for name, value, flag in (
        ("pictures", 1, "--pictures"),
        ("tokens", 5, "--length"),
        ("prefix", "answer en", "--prefix"),
        ("tokenizer", tmp_path / "other.model", "--tokenizer"),
        ("heads", (4, 2), "--start-heads"),
    ):
        with pytest.raises(UserError, match=f"is not asked so(.|\n)*leave {flag} out"):
            load_answerer(ours, length=6, device="cpu", **{name: value})
