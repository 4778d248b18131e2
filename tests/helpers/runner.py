"""click's runner of commands, with stdout and stderr apart as click 8.2 always has them."""

import inspect

from click import testing

_APART = {"mix_stderr": False} if "mix_stderr" in inspect.signature(testing.CliRunner).parameters else {}


class CliRunner(testing.CliRunner):
    """The same for every click."""

    def __init__(self):
        super().__init__(**_APART)
