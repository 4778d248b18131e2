"""`frostline.testing` needs pytest, and nothing else of Frostline needs `frostline.testing`."""

import subprocess
import sys


def test_import_without_pytest_says_what_to_install():
    code = "import sys; sys.modules['pytest'] = None; import frostline.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ImportError: frostline.testing needs pytest, which is not installed: pip install 'frostline[testing]'"
    )


def test_nothing_else_imports_pytest():
    code = (
        "import sys; sys.modules['pytest'] = None; import frostline, frostline.cli;"
        "[getattr(frostline, name) for name in frostline.__all__]; print('frostline.testing' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
