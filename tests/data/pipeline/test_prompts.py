from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from handeye.data.pipeline import prompts
from handeye.data.pipeline.prompts import EncodePrompt, OpenpiPrompt, OpenVlaPrompt
from handeye.data.pipeline.vocabulary import Vocabulary
from handeye.errors import UserError


def text(encoded: dict) -> str:
    """What the one-character tokens say, without marks and padding."""
    return "".join(chr(i) for i in encoded["prompt"][encoded["prompt_mask"]] if 9 < i < 127)


def test_bytes() -> None:
    assert bytes(i - 1 for i in EncodePrompt(32)({"prompt": "Open  the Drawer"})["prompt"] if i) == b"open the drawer"


def test_openvlas_question(vocabulary: Vocabulary) -> None:
    encoded = OpenVlaPrompt(vocabulary, 80)({"prompt": "Open the Drawer"})
    ids, mask = encoded["prompt"], encoded["prompt_mask"]
    count = int(mask.sum())
    assert mask.tolist() == [True] * count + [False] * (80 - count)
    assert ids[0] == 1 and ids[count - 1] == 29871 and (ids[count:] == 32000).all()
    assert text(encoded) == "In: What action should the robot take to open the drawer?\nOut:"


def test_openpis_sentence(vocabulary: Vocabulary) -> None:
    encoded = OpenpiPrompt(vocabulary, 24, state=False)({"prompt": " Open_the drawer\n", "proprio": np.zeros(8)})
    assert encoded["prompt"][0] == 2 and (encoded["prompt"][~encoded["prompt_mask"]] == 0).all()
    assert text(encoded) == "Open the drawer\n"


def test_the_state_is_part_of_each_steps_prompt(vocabulary: Vocabulary) -> None:
    proprio = np.array([[-1.0, 0.0], [0.5, 7.0]])
    encoded = OpenpiPrompt(vocabulary, 48, state=True)({"prompt": "go", "proprio": proprio})
    assert encoded["prompt"].shape == encoded["prompt_mask"].shape == (2, 48)
    rows = [{name: encoded[name][row] for name in ("prompt", "prompt_mask")} for row in range(2)]
    assert [text(row) for row in rows] == [
        "Task: go, State: 0 128;\nAction: ",
        "Task: go, State: 192 255;\nAction: ",
    ]


def test_nothing_is_cut_unless_that_is_declared(vocabulary: Vocabulary, capsys: pytest.CaptureFixture) -> None:
    item = {"prompt": "open the drawer", "proprio": np.zeros(2)}
    with pytest.raises(UserError, match="has 17 tokens"):
        OpenpiPrompt(vocabulary, 16, state=False)(item)
    prompts._warn_of_cut.cache_clear()
    cut = OpenpiPrompt(vocabulary, 16, state=False, too_long="cut")(item)
    assert text(cut) == "open the drawer" and cut["prompt_mask"].all()
    assert "17 tokens is cut to 16" in capsys.readouterr().err
    whole = OpenpiPrompt(vocabulary, 17, state=False)(item)
    assert whole["prompt_mask"].all()


def test_a_vocabulary_is_a_name_and_a_digest(tokenizer_file: Path, tmp_path: Path) -> None:
    found = Vocabulary.of(tokenizer_file)
    assert found == Vocabulary("tokenizer.json", hashlib.sha256(tokenizer_file.read_bytes()).hexdigest())
    shutil.copy(tokenizer_file, tmp_path / "tokenizer.json")
    assert found.located(tmp_path).load()("ab") == [97, 98]


def test_a_missing_or_different_file_is_an_error(tokenizer_file: Path, tmp_path: Path) -> None:
    found = Vocabulary.of(tokenizer_file).located(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        found.load()
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_file.read_bytes() + b" ")
    with pytest.raises(UserError, match="not the tokenizer that this pipeline was made with"):
        found.load()


@pytest.mark.parametrize("name", ["", "../tokenizer.json", "/etc/passwd", "a/b.json", "..", "c\\d.json"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(UserError, match="not the plain name"):
        Vocabulary(name, "0" * 64)


def test_only_known_kinds_and_whole_files_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tokenizer that can be read"):
        Vocabulary("tokenizer.pkl", "0" * 64)
    for name in ("tokenizer.json", "tokenizer.model"):
        (tmp_path / name).write_bytes(b"{not a tokenizer")
        with pytest.raises(UserError, match="cannot be read as a tokenizer"):
            Vocabulary.of(tmp_path / name).load()
