"""The command line: instant help without heavy imports, one clear error and exit code 2 for wrong input."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handeye import cli
from handeye.cli import VERBS, main
from handeye.errors import UserError


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handeye.cli", *words], capture_output=True, text=True, cwd=cwd, timeout=60, check=False
    )


def test_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    printed = capsys.readouterr().out
    assert len(VERBS) >= 9
    for name in VERBS:
        assert f"handeye {name}" in printed


@pytest.mark.parametrize("verb", VERBS)
def test_help_needs_nothing_heavy(verb: str) -> None:
    code = (
        "import sys, handeye.cli\n"
        f"try: handeye.cli.main({[*verb.split(), '--help']!r})\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'torch', 'mujoco', 'ray', 'h5py', 'av', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--" in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_what_a_verb_names_exists(verb: str) -> None:
    assert callable(cli._load(VERBS[verb].run))
    assert VERBS[verb].about


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evaluat"], "Did you mean 'evaluate'?"),
        (["sim", "chekc"], "Did you mean 'check'?"),
        (["train", "tiny_tabeltop"], "Did you mean 'tiny_tabletop'?"),
        (["train", "pi05_libreo"], "Did you mean 'pi05_libero'?"),
        (["evaluate", "expert", "--suite", "libero_spatail"], "libero_spatial"),
        (["evaluate", "expert", "--no-such-flag", "3"], "--no-such-flag"),
        (["evaluate", "no/such/checkpoint", "--suite", "tabletop"], "no/such/checkpoint"),
        (["report", "no/such/run"], "no/such/run"),
        (["demos", "tabeltop"], "tabletop"),
    ],
)
def test_wrong_input_is_one_clear_error(words: list[str], says: str, tmp_path: Path) -> None:
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "a refused command leaves nothing behind"


def test_user_errors_exit_2_and_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, arguments: list[str]) -> int:
        raise UserError("No.", fix="ask again")

    monkeypatch.setattr(cli, "_call", refuse)
    with pytest.raises(SystemExit) as stop:
        main(["report", "x"])
    assert stop.value.code == 2
    monkeypatch.setenv("HANDEYE_TRACEBACK", "1")
    with pytest.raises(UserError, match="ask again"):
        main(["report", "x"])


def test_a_full_disk_and_an_interrupt_are_not_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    for raised, code in ((OSError(28, "No space left on device"), 2), (KeyboardInterrupt(), 130)):

        def fail(name: str, arguments: list[str], raised: BaseException = raised) -> int:
            raise raised

        monkeypatch.setattr(cli, "_call", fail)
        with pytest.raises(SystemExit) as stop:
            main(["report", "x"])
        assert stop.value.code == code


@pytest.mark.parametrize("words", [["convert", "--help"], ["--help"]])
def test_output_that_nobody_reads_ends_quietly(words: list[str]) -> None:
    """As under `| head`."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "handeye.cli", *words],
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert done.stderr == "" and done.returncode != 0


def test_another_broken_pipe_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str, arguments: list[str]) -> int:
        raise BrokenPipeError("a worker's")

    monkeypatch.setattr(cli, "_call", fail)
    with pytest.raises(BrokenPipeError, match="a worker's"):
        main(["report", "x"])
