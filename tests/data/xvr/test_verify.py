from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from handeye.data.config import VerifyConfig
from handeye.data.verify.findings import Finding, exit_code
from handeye.data.verify.run import run
from handeye.data.xvr.questions import open_questions
from handeye.data.xvr.verify import verify
from handeye.errors import UserError


def failed(findings: list[Finding]) -> dict[str, str]:
    return {finding.check: finding.found for finding in findings if finding.verdict in ("warn", "fail")}


def test_a_sound_folder(folder: Path) -> None:
    for quick in (False, True):
        findings = verify(folder, quick=quick)
        assert exit_code(findings) == 0
        told = {finding.check: finding.found for finding in findings}
        assert told["questions"] == "train 3" and told["pictures"].startswith("4 are there")
        assert "task6 2 (guessing 50.0%" in told["tasks of train"] and "103576" in told["size of train"]
    assert exit_code(verify(folder / "train.jsonl")) == 0


def test_every_defect_is_found_at_once_and_named(folder: Path, made) -> None:
    lines = [
        made["line"]("a", [1]),
        made["line"]("a", [9]),
        made["line"]("b", [2], answer_options=["red", "blue"]),
        made["line"]("c", [3], ground_truth_answer=None),
    ]
    made["write_lines"](folder / "train.jsonl", lines)
    made["write_lines"](folder / "valid.jsonl", [made["line"]("b", [4])])
    (folder / "images/img_2.png").write_bytes(made["png"](2)[:-20])
    found = failed(verify(folder))
    assert "line 4 (c)" in found["questions"]
    assert found["ids"] == "train.jsonl line 2: a is in line 1 as well"
    assert "train.jsonl line 3: the answer '2' is none of ['red', 'blue']" in found["answers"]
    assert "b is in train and in valid" in found["splits"]
    assert "no picture images/img_9.png" in found["pictures"] and "(train.jsonl line 2)" in found["pictures"]
    assert "img_2.png is not a usable picture" in found["pictures"]
    assert "img_2" not in failed(verify(folder, quick=True))["pictures"]
    assert exit_code(verify(folder)) == 2


def test_many_defects_are_counted(folder: Path, made) -> None:
    made["write_lines"](folder / "train.jsonl", [made["line"](f"q{number}", [50 + number]) for number in range(30)])
    (finding,) = [finding for finding in verify(folder) if finding.check == "pictures"]
    assert "and 25 more" in finding.found and finding.evidence == {"defects": 30}


def test_shards(folder: Path, made) -> None:
    shard = folder / "image_shards/images_000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:-9000])
    assert "images_000.tar cannot be used" in failed(verify(folder))["shards"]
    shard.write_bytes(content)
    made["write_shard"](folder / "more.tar", {"images/img_4.png": b"1"})
    assert "and so does" in failed(verify(folder))["shards"]
    made["write_shard"](folder / "more.tar", {"images/img_1.png": made["png"](7)})
    assert "another picture in a shard than as a file" in failed(verify(folder))["pictures"]
    assert exit_code(verify(folder, quick=True)) == 0


def test_nothing_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        assert exit_code(verify(path)) == 2
    (tmp_path / "train.jsonl").write_bytes(b"")
    assert "is empty" in failed(verify(tmp_path))["questions"]


def test_random_damage_ends_in_findings_or_a_user_error(folder: Path, tmp_path: Path) -> None:
    """Of lines, pictures and shards: what is read is read whole, the rest is named."""
    generator = random.Random(0)
    targets = ["train.jsonl", "images/img_1.png", "image_shards/images_000.tar"]
    codes = dict.fromkeys(targets, 0)
    for case in range(120):
        target = targets[case % 3]
        root = tmp_path / "damaged"
        shutil.copytree(folder, root)
        content = bytearray((root / target).read_bytes())
        if case % 4 == 0:
            del content[generator.randrange(len(content)) :]
        for _ in range(generator.randrange(1, 4)):
            if content:
                content[generator.randrange(len(content))] = generator.randrange(256)
        (root / target).write_bytes(content)
        code = exit_code(verify(root, workers=1))
        codes[target] += code == 2
        try:
            for split in open_questions(root).values():
                for question in split:
                    for picture in question.pictures:
                        split.store.decode(picture)
            assert code != 2 or target == "train.jsonl" or "tar" in target
        except UserError:
            assert code == 2
        shutil.rmtree(root)
    assert min(codes.values()) > 5, codes


def test_a_set_with_more_pictures_than_six(folder: Path, made) -> None:
    made["write_lines"](folder / "train.jsonl", [made["line"]("q", [1, 2, 3, 4, 5, 1, 2, 3])])
    told = [finding.found for finding in verify(folder) if finding.check == "pictures of train"]
    assert told == ["1 questions ask about more than 6 pictures, 8 at most: give the model as many frames"]


def test_the_verb(folder: Path, capfd) -> None:
    """`handeye data verify` tells questions from demonstrations."""
    assert run(VerifyConfig(root=folder, json=True)) == 0
    assert json.loads(capfd.readouterr().out)["verdict"] == "sound"
    (folder / "images/img_1.png").unlink()
    assert run(VerifyConfig(root=folder / "train.jsonl")) == 2
    assert "no picture images/img_1.png" in " ".join(capfd.readouterr().out.split())
