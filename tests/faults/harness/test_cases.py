"""Every command of the command line is in the tables of the suites, so that a new one can't be forgotten."""

import click
import pytest

from frostline.cli import main
from frostline.pipeline.exporting.exporters import EXPORTERS
from tests.faults.harness.cases import CASES, READERS, command_of
from tests.faults.test_concurrency import PAIRS
from tests.faults.test_damage import READS

OUTPUTS = {"--out", "--list", "--overwrite"}
"""Options of commands that write files."""

UNREAD = {
    "batch": "reads a study file, which is among the hostile files",
    "demo": "reads no file",
    "finetune": "reads images alone, which have no checksums",
}
"""Commands whose files are not damaged, and why."""

ALONE = {"demo": "makes a run with a name of its own each time"}
"""Commands that no other runs beside, and why."""


def commands(group=main, before=()):
    """All commands by name, such as ``cache export``."""
    found = {}
    for name in group.list_commands(click.Context(group)):
        command = group.commands[name]
        path = (*before, name)
        found |= commands(command, path) if isinstance(command, click.Group) else {" ".join(path): command}
    return found


WRITING = sorted({case.command for case in CASES})


def test_every_command_is_in_a_table():
    known = {case.command for case in (*CASES, *READERS)}
    assert commands().keys() == known


def test_commands_with_options_for_outputs_are_among_those_that_write():
    options = {
        name: {option for each in command.params for option in each.opts}
        for name, command in commands().items()
    }
    assert {name for name, found in options.items() if found & OUTPUTS} <= set(WRITING)


@pytest.mark.parametrize("command", WRITING)
def test_the_files_that_a_command_reads_are_damaged(command):
    assert (command in {command_of(read.arguments) for read in READS}) != (command in UNREAD)


@pytest.mark.parametrize("command", WRITING)
def test_a_command_that_writes_runs_beside_another(command):
    assert (command in {command_of(first) for _, first, _ in PAIRS}) != (command in ALONE)


def test_every_format_of_exports_is_written():
    assert {
        case.arguments[case.arguments.index("--to") + 1] for case in CASES if case.command == "cache export"
    } == {*EXPORTERS.builtin}
