"""Counts of the long test suites, written as JSON lines for `tests.faults.table`."""

import json
import os
from pathlib import Path

VARIABLE = "FROSTLINE_FAULTS_RECORD"


def record(suite, subject, detail, count, **more):
    """Note that a suite did something so many times; without the variable nothing is written."""
    path = os.environ.get(VARIABLE)
    if path and count:
        line = json.dumps({"suite": suite, "subject": subject, "detail": detail, "count": count, **more})
        with Path(path).open("a", encoding="utf-8") as file:  # appended as a whole, also by several processes
            file.write(line + "\n")
