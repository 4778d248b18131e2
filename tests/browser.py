"""Headless Chromium for tests, by chromedriver's W3C WebDriver protocol; run as a script, whether both are there."""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_BROWSER_VARIABLES = ("CHROME", "BROWSER_PATH")
_DRIVERS = ("chromedriver", "chromium.chromedriver")
_DRIVER_VARIABLES = ("CHROMEDRIVER",)

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def find_browser():
    """Path of a Chromium or a Chrome.

    Raises:
        LookupError: There is none.
    """
    return _find("Chromium or Chrome", _BROWSER_VARIABLES, _BROWSERS)


def find_driver():
    """Path of chromedriver.

    Raises:
        LookupError: There is none.
    """
    return _find("chromedriver", _DRIVER_VARIABLES, _DRIVERS)


def _find(what, variables, names):
    for name in [*filter(None, map(os.environ.get, variables)), *names]:
        if path := shutil.which(name):
            return path
    raise LookupError(
        f"no {what} ({', '.join(names)}) on the PATH, nor where {' or '.join(variables)} says; install both, "
        "on Debian with: apt-get install chromium chromium-driver"
    )


@contextmanager
def browser(*, width=1280, height=900):
    """A window; its driver chooses a free port and says which."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        driver = subprocess.Popen(
            [find_driver(), "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            line = next(line for line in driver.stdout if "started successfully on port" in line)
            yield from _session(int(line.rstrip(".\n").rpartition(" ")[2]), folder, width, height)
        finally:
            driver.terminate()
            driver.wait()
            driver.stdout.close()


def _session(port, folder, width, height):
    options = {
        "browserName": "chrome",
        "goog:loggingPrefs": {"browser": "ALL"},
        "goog:chromeOptions": {
            "binary": find_browser(),
            "args": [*_FLAGS, f"--user-data-dir={folder}", f"--window-size={width},{height}"],
        },
    }
    base = f"http://127.0.0.1:{port}/session"
    made = _call(base, {"capabilities": {"alwaysMatch": options}})
    page = Page(f"{base}/{made['sessionId']}")
    try:
        yield page
    finally:
        _call(page.base, method="DELETE")


def _call(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310  # the driver's, on this machine
        url, data, {"Content-Type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)["value"]


class Page:
    """What a test does with a page."""

    def __init__(self, base):
        self.base = base

    def devtools(self, command, **params):
        """A command of Chromium's own protocol."""
        return _call(f"{self.base}/goog/cdp/execute", {"cmd": command, "params": params})

    def open(self, path):
        """Go to a file."""
        _call(f"{self.base}/url", {"url": Path(path).resolve().as_uri()})

    def run(self, script, *arguments):
        """What a function body returns, awaited if it is a promise."""
        wrapped = (
            "const [...a] = arguments; const done = a.pop(); (async () => {" + script + "})().then(done)"
        )
        return _call(f"{self.base}/execute/async", {"script": wrapped, "args": list(arguments)})

    def click(self, selector):
        """Press the first element that matches."""
        _call(f"{self.base}/element/{self._find(selector)}/click", {})

    def move_to(self, x, y):
        """Bring the pointer to a place in the window."""
        move = {"type": "pointerMove", "duration": 0, "origin": "viewport", "x": round(x), "y": round(y)}
        pointer = {
            "type": "pointer",
            "id": "mouse",
            "parameters": {"pointerType": "mouse"},
            "actions": [move],
        }
        _call(f"{self.base}/actions", {"actions": [pointer]})

    def messages(self):
        """What the console got since the last call: errors and warnings."""
        entries = _call(f"{self.base}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]

    def screenshot(self, path):
        """Save the window as PNG."""
        Path(path).write_bytes(base64.b64decode(_call(f"{self.base}/screenshot")))

    def _find(self, selector):
        found = _call(f"{self.base}/element", {"using": "css selector", "value": selector})
        return found[_ELEMENT]


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{find_browser()}, {find_driver()}\n")
    except LookupError as error:
        sys.exit(str(error))
