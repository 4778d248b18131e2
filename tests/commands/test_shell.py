"""Suggested commands: a shell gives each program the words that were meant, and runs nothing else."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frostline.escapes import visible
from frostline.shell import as_argument, shell_command
from tests.helpers.paths import ROOT

SHELL = shutil.which("bash")
NAMES = [
    "plain.h5",
    "two words",
    "a;touch x",
    "$(touch x)",
    "`touch x`",
    "it's",
    'say "x"',
    "a\ntouch x",
    "\x1b]0;title\x07",
    "back\\slash",
    os.fsdecode(b"caf\xe9"),
    "\u202ecod",
    "*",
    "~",
    "",
    "a#b",
    "#b",
    "!x",
    "é 猫",
]


def words_of(line):
    """Return the words that a shell makes of a line, apart from the first."""
    program = "import os, sys; print([os.fsencode(word) for word in sys.argv[1:]])"
    first, _, rest = line.partition(" ")
    assert first == "frostline"
    text = f'"$PYTHON" -c "$PROGRAM" {rest}'
    environment = {**os.environ, "PYTHON": sys.executable, "PROGRAM": program}
    done = subprocess.run([SHELL, "-c", text], env=environment, check=True, capture_output=True)
    return [os.fsdecode(word) for word in ast.literal_eval(done.stdout.decode())]


@pytest.mark.skipif(SHELL is None or sys.platform == "win32", reason="needs bash")
def test_a_shell_gives_back_the_words():
    line = shell_command("frostline", "evaluate", *NAMES)
    assert visible(line) == line
    assert words_of(line) == ["evaluate", *NAMES]


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=8), max_size=3))
def test_any_word_is_one_line_without_a_control_character(words):
    line = shell_command("frostline", *words)
    assert visible(line) == line


def test_a_path_is_no_option():
    assert shell_command("frostline", "evaluate", Path("-x")) == "frostline evaluate ./-x"
    assert shell_command("frostline", "--json", Path("a/-x")) == "frostline --json a/-x"
    assert as_argument("-a.h5+b.h5") == "./-a.h5+b.h5"


def test_windows_gets_its_own_quotes(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert (
        shell_command("frostline", "evaluate", "C:\\a b\\c", "it's\n")
        == 'frostline evaluate "C:\\a b\\c" it\'s\\n'
    )


def test_no_other_module_quotes_for_a_shell():
    users = [
        path.relative_to(ROOT).as_posix()
        for folder in ("frostline", "features", "classifiers", "pipeline")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "shlex" in path.read_text("utf-8") or "list2cmdline" in path.read_text("utf-8")
    ]
    assert users == ["frostline/shell.py"]
