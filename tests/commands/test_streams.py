"""Output on a terminal: control characters in names are written as escapes."""

import ast
import csv
import io
import json
import logging
import os
import subprocess
import sys
import unicodedata
import warnings
from importlib.util import find_spec

import click
import pytest

from frostline.commands.interface.group import CommandGroup
from frostline.commands.interface.output import CsvTable, Output, Table
from frostline.errors import FrostlineError
from frostline.escapes import EscapingStream, visible
from tests.helpers.images import copy_digits
from tests.helpers.network import BACKBONE_OPTIONS
from tests.helpers.paths import ROOT
from tests.helpers.runner import CliRunner, run

# Sets the title, clears the screen, by a C1 control, reorders the line, and looks like a colour that click would drop.
NAME = "\x1b]0;title\x07\x1b[2J\x9b31m\u202ecod\u2066 \x1b[31m\x7f\x00\u2028"
SHOWN = r"\x1b]0;title\x07\x1b[2J\x9b31m\u202ecod\u2066 \x1b[31m\x7f\x00\u2028"
ACTIVE = {chr(number) for number in range(sys.maxunicode + 1) if unicodedata.category(chr(number)) == "Cc"}
ACTIVE |= {
    char
    for char in map(chr, range(0x110000))
    if unicodedata.bidirectional(char) in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
}


def active(text):
    return sorted(set(text) & (ACTIVE - {"\n"}))


def test_every_control_character_is_shown_and_every_other_character_is_kept():
    assert not active(visible("".join(sorted(ACTIVE))))
    assert visible("\n\t\x1b", keep="\n\t") == "\n\t\\x1b"
    assert visible(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert visible("\ud800") == r"\ud800"
    plain = "".join(
        char
        for char in map(chr, range(0x30000))
        if unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp", "Cf"}
    )
    assert visible(plain) == plain
    assert visible("\u200d\u200c") == "\u200d\u200c"  # join or part letters and emoji


def say(output):
    output.show({}, [NAME, Table([NAME], [[NAME]], title=NAME)])


def task(output):
    with output.report.task(f"[red]{NAME}", 2) as advance:
        advance(1, f"[/]{NAME}")
        print(NAME)  # noqa: T201  # as a library may
        sys.stderr.write(NAME)


def fail(_output):
    raise FrostlineError(NAME)


def refuse(_output):
    raise click.ClickException(NAME)


def misuse(_output):
    raise click.UsageError(NAME)


def crash(_output):
    raise ZeroDivisionError(NAME)


WAYS = {
    "text and tables": say,
    "notes": lambda output: output.report.note(NAME),
    "warnings": lambda output: output.report.warn(NAME),
    "progress": task,
    "errors": fail,
    "outcomes": refuse,
    "usage": misuse,
    "log lines": lambda _output: logging.getLogger("anyone").warning(NAME),
    "warnings of Python": lambda _output: warnings.warn(NAME, stacklevel=1),
    "JSON": lambda _output: Output("json").show({NAME: NAME}, ()),
    "CSV": lambda output: output.show({}, [CsvTable([NAME], [[NAME]])]),
    "tracebacks": crash,
}

PROGRAM = """
import contextlib, sys
sys.path.insert(0, {root!r})
import click
from frostline.commands.interface.group import CommandGroup
from tests.commands.test_streams import WAYS, Output
for way, write in WAYS.items():  # the last one ends the process
    group = CommandGroup("x")
    group.add_command(click.Command("y", callback=lambda: write(Output())))
    print("====", way, flush=True)
    with contextlib.suppress(SystemExit):
        group(["y"])
"""


def in_terminal(*words):
    """Return what a process writes to a terminal."""
    import pty

    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "2000", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, *words], stdin=slave, stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        written = b""
        while True:
            try:
                data = os.read(master, 1 << 16)
            except OSError:  # Linux reports the closed end as an error
                break
            if not data:
                break
            written += data
        process.wait()
    os.close(master)
    return written.decode("utf-8", "surrogateescape")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_gets_escapes_whoever_writes():
    found = in_terminal("-c", PROGRAM.format(root=str(ROOT))).split("==== ")[1:]
    written = dict(each.split("\r\n", 1) for each in found)
    assert list(written) == list(WAYS)
    for way, text in written.items():
        assert SHOWN in text or (way == "JSON" and json.loads(text) == {NAME: NAME}), (way, text)
        for harm in ("\x1b]", "\x1b[2J", "\x9b", "\x7f", "\x00", "\x07", "\u202e", "\u2066", "\u2028"):
            assert harm not in text, (way, text)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in {"CSV", "JSON", "tracebacks", "progress"}])
def test_a_pipe_gets_escapes_too(way):
    @click.group(cls=CommandGroup)
    def group():
        pass

    @group.command()
    def command():
        WAYS[way](Output())

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        result = CliRunner().invoke(group, ["command"])
    written = result.output + (result.stderr or "")
    if way not in {"log lines", "warnings of Python"}:  # pytest takes those
        assert SHOWN in written
    assert not active(written)


def test_csv_keeps_its_bytes_where_no_terminal_reads_it():
    @click.group(cls=CommandGroup)
    def group():
        pass

    @group.command()
    def command():
        Output().show({}, [CsvTable([NAME], [])])

    written = CliRunner().invoke(group, ["command"]).stdout_bytes.decode()
    assert list(csv.reader(io.StringIO(written, newline=""))) == [[NAME]]


def test_a_progress_bar_of_another_library_returns_to_the_begin_of_its_line(capsys):
    stream = EscapingStream(sys.stdout)
    stream.write("\r50 %")
    stream.write("a\r50 %")
    assert capsys.readouterr().out == "\r50 %a\\r50 %"


def test_hostile_names_of_classes_files_and_runs_reach_no_output(whole_digits, tmp_path):
    bad = NAME.replace("\x00", "").replace("/", "")
    names = (f"{bad}a", "=cmd|'/c calc'!A1", "-1")
    data = copy_digits(whole_digits, tmp_path / f"data{bad}", classes=3, each=20, names=names)
    cache, folder = tmp_path / f"c{bad}.h5", tmp_path / f"r{bad}"
    printed = [run("extract", data, *BACKBONE_OPTIONS, "--cache", cache)]
    printed.append(run("extract", data, "--dry-run"))
    printed.append(run("cache", "info", cache))
    printed.append(run("cache", "verify", cache))
    printed.append(run("cache", "check", cache))
    printed.append(run("train-head", cache, "--run", folder, "--head", "ridge"))
    printed.append(run("train-head", cache, "--run", folder, code=1))
    printed.append(run("evaluate", folder))
    printed.append(run("evaluate", folder))
    printed.append(run("compare", folder))
    printed.append(run("compare", folder, "--format", "markdown"))
    if find_spec("cleanlab"):
        printed.append(run("label-errors", cache))
    printed.append(run("predict", folder, data, "--json"))
    printed.append(run(f"{bad}", code=2))
    printed.append(run("cache", "info", tmp_path / f"none{bad}.h5", code=1))
    for result in printed:
        assert not active(result.stdout + (result.stderr or "")), result
    assert SHOWN.replace(r"\x00", "") in printed[0].stdout


def test_nothing_else_prints():
    places = []
    for folder in ("frostline", "features", "classifiers", "pipeline"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            calls = [
                node.func for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Call)
            ]
            for call in calls:
                words = ast.unparse(call)
                if (
                    words == "print"
                    or words
                    in {
                        "click.echo",
                        "click.secho",
                        "sys.stdout.write",
                        "sys.stderr.write",
                        "os.write",
                    }
                    or (words.endswith((".show", "Console")) and words != "output.show")
                ):
                    places.append((name, words))
    allowed = {
        ("frostline/commands/interface/group.py", "click.ClickException(_message(error)).show"),
        ("frostline/commands/interface/group.py", "click.echo"),  # one constant sentence
        ("frostline/commands/interface/output.py", "click.echo"),
        ("frostline/commands/interface/terminal.py", "Console"),
        ("frostline/interrupts.py", "os.write"),  # the same
        ("frostline/system/files.py", "os.write"),
        ("frostline/system/truncation.py", "os.write"),  # in the handler of a signal
    }
    assert set(places) <= allowed, set(places) - allowed
