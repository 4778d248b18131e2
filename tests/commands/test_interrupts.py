"""Ctrl-C and SIGTERM: the exit code of the signal, one line and no process left, whenever they arrive."""

import os
import signal
import sys
import time
import tomllib
from importlib.metadata import entry_points
from importlib.util import find_spec

import pytest

from frostline.interrupts import MESSAGE
from tests.helpers.network import BACKBONE_OPTIONS, EXTRACT_TABLE
from tests.helpers.paths import ROOT
from tests.helpers.runner import Command

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

INT, TERM = signal.SIGINT, signal.SIGTERM
BOTH = pytest.mark.parametrize("number", [pytest.param(INT, marks=pytest.mark.long), TERM])
STUDY = f"""
[batch]
data = "{{data}}"
out = "{{out}}"
{EXTRACT_TABLE}[[train-head]]
head = "mlp"
param = {{{{ hidden = [64], epochs = 100000, lr = 0.01, weight_decay = 0.1 }}}}
"""


def check(command, number):
    code, errors = command.finish()
    assert code == 128 + number, errors
    assert errors.splitlines()[-1] == MESSAGE
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize(
    ("number", "library"),
    [
        (INT, "_struct"),
        (TERM, "_ctypes"),
        (INT, "libtorch"),
        (TERM, "torchvision"),
        (INT, "h5py"),
        (TERM, "_imaging."),
    ],
)
def test_signal_during_an_import(whole_digits, tmp_path, number, library):
    command = Command("extract", whole_digits, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5")
    command.wait_for(lambda: command.is_mapped(library))
    command.signal(number)
    assert check(command, number) == f"{MESSAGE}\n"


@BOTH
def test_signal_during_an_extraction(whole_digits, tmp_path, number):
    partial = tmp_path / "c.h5.partial"
    command = Command("extract", whole_digits, "--cache", tmp_path / "c.h5", "--engine", "eager")  # a minute
    command.wait_for(partial.exists)
    command.signal(number, group=number == INT)
    check(command, number)
    assert not (tmp_path / "c.h5").exists()


@BOTH
def test_signal_while_worker_processes_train(digits, tmp_path, number):
    options = ("--backbone", "timm:test_resnet", "--from-scratch", "--image-size", 32, "--workers", 2)
    command = Command("finetune", digits, *options, "--epochs", 5000, "--run", "run", cwd=tmp_path)
    command.wait_for((tmp_path / ".run.tuning" / "checkpoint.safetensors").exists)
    command.signal(number, group=number == INT)
    check(command, number)
    assert (tmp_path / ".run.tuning" / "checkpoint.safetensors").exists()


@BOTH
def test_signal_while_a_search_runs_in_processes(ten_cache, tmp_path, number):
    options = (
        "--head",
        "mlp",
        "--search",
        "random",
        "--trials",
        5000,
        "--jobs",
        2,
        "--run",
        tmp_path / "run",
    )
    command = Command("train-head", ten_cache, *options, cwd=tmp_path)
    command.wait_for(lambda: any("loky" in line for line in command.left()))
    time.sleep(1)  # the processes start, one after the other
    command.signal(number, group=number == INT)
    check(command, number)


@pytest.mark.long
def test_processes_of_a_search_end_with_a_killed_command(ten_cache, tmp_path):
    options = ("--head", "mlp", "--search", "random", "--trials", 5000, "--jobs", 2)
    command = Command("train-head", ten_cache, *options, "--run", tmp_path / "run", cwd=tmp_path)
    command.wait_for(lambda: any(path.stat().st_size for path in tmp_path.rglob("*.jsonl")))
    assert any("loky" in line for line in command.left())
    command.signal(signal.SIGKILL)
    assert command.finish()[0] == -signal.SIGKILL


@BOTH
@pytest.mark.parametrize("option", [("--jobs", 2), ("--cluster", "local:2")], ids=lambda option: option[0])
def test_signal_while_a_batch_runs_in_processes(digits, tmp_path, number, option):
    if option[0] == "--cluster" and not find_spec("distributed"):
        pytest.skip("needs the extra dask")
    (tmp_path / "study.toml").write_text(STUDY.format(data=digits, out=tmp_path / "out"))
    command = Command("batch", tmp_path / "study.toml", *option)
    command.wait_for(lambda: len([line for line in command.left() if "spawn_main" in line]) == 2)
    time.sleep(1)
    command.signal(number, group=number == INT)
    check(command, number)


LONG = """
import hashlib, sys, threading
from frostline import __main__, interrupts
interrupts.PATIENCE = float(sys.argv[1])
interrupts.INTERRUPTS.handle()
threading.Timer(0.5, print, ["started"], {"flush": True}).start()  # when the main thread is in compiled code
hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 2**31 - 1)
"""


def in_compiled_code(patience):
    """A program that waits for the end of compiled code."""
    command = Command(patience, python=("-c", LONG))
    command.process.stdout.readline()
    return command


OUTSIDE = """
import time
from frostline import __main__
from frostline.commands.interface.group import CommandGroup
CommandGroup.make_context = lambda *_args, **_options: (print("started", flush=True), time.sleep(1000))
__main__.main()
"""


@pytest.mark.parametrize("number", [INT, TERM])
def test_signal_outside_a_command(number):
    command = Command("extract", python=("-c", OUTSIDE))
    command.process.stdout.readline()
    command.signal(number)
    assert check(command, number) == f"{MESSAGE}\n"


def test_a_second_interrupt_ends_compiled_code_at_once():
    command = in_compiled_code(1000)
    command.signal(INT)
    time.sleep(0.5)
    assert command.process.poll() is None
    command.signal(INT)
    check(command, INT)


def test_repeated_signals_are_one():
    command = in_compiled_code(1000)
    for _ in range(3):
        command.signal(TERM)
        time.sleep(0.01)
    time.sleep(0.5)
    assert command.process.poll() is None
    command.signal(TERM)
    check(command, TERM)


def test_compiled_code_is_ended_after_a_while():
    command = in_compiled_code(0.1)
    command.signal(TERM)
    check(command, TERM)


def test_an_ignored_interrupt_remains_ignored(whole_digits, tmp_path):
    command = Command(
        *("extract", whole_digits, *BACKBONE_OPTIONS, "--cache", tmp_path / "c.h5"),
        preexec_fn=lambda: signal.signal(INT, signal.SIG_IGN),  # as a shell does for background jobs
    )
    command.wait_for(lambda: command.is_mapped("libtorch"))
    command.signal(INT)
    time.sleep(0.5)
    assert command.process.poll() is None
    command.signal(TERM)
    check(command, TERM)


IGNORED = """
import os, signal, time
import click
from frostline import cli, interrupts
from frostline.__main__ import main

class Deleted:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)

@click.command()
def delete():
    Deleted()
    time.sleep(1000)

interrupts.PATIENCE = 1000
cli.main = type(cli.main)(commands={"delete": delete})
main()
"""


def test_an_interrupt_that_python_ignores_is_repeated():
    assert check(Command("delete", python=("-c", IGNORED)), TERM) == f"{MESSAGE}\n"


CONVERTED = """
import os, signal
import click
from frostline import cli
from frostline.__main__ import main

@click.command()
def convert():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:
        raise ImportError("as some libraries do") from error

cli.main = type(cli.main)(commands={"convert": convert})
main()
"""


def test_an_interrupt_that_a_library_converts_is_an_interrupt():
    check(Command("convert", python=("-c", CONVERTED)), INT)


def test_the_console_script_is_this_function():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"frostline": "frostline.__main__:main"}
    script = "from frostline.__main__ import main; import sys; sys.exit(main())"  # as pip writes it
    code, _ = Command("cache", "info", os.devnull, python=("-c", script)).finish()
    assert code == 1


def test_the_entry_point_runs_commands_within_a_process_too(capsys):
    (entry,) = entry_points(group="console_scripts", name="frostline")
    with pytest.raises(SystemExit) as ended:
        entry.load().main(["--version"], prog_name="frostline")
    assert ended.value.code == 0
    assert "frostline" in capsys.readouterr().out
