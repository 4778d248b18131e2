"""Running commands in this process, with stdout and stderr apart as click 8.2 always has them."""

import inspect

from click import testing

from frostline import cli

_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(testing.CliRunner).parameters else {}


class CliRunner(testing.CliRunner):
    """The same for every click."""

    def __init__(self):
        super().__init__(**_APART)


def run(*arguments, code=0):
    """Run `frostline` with arguments, and check its exit code; an error that is not expected is raised."""
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result
