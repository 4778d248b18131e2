"""Tables of the last long run, for docs/reliability.md: ``python -m tests.faults.table RECORD [DOCUMENT]``.

RECORD is the file that `make test-faults` leaves, or a summary that this module wrote. The tables are printed, or
written between the two marks of the document.
"""

import json
import sys
from collections import Counter
from pathlib import Path

START, END = "<!-- counts: start -->", "<!-- counts: end -->"
HEADINGS = {
    "kills": "Commands killed at an event, by kind of event",
    "errors": "Writes that failed, by error",
    "damage": "Damaged files, by the command that read them",
    "hostile": "Hostile files, by command",
    "concurrency": "Commands at the same time",
    "guards": "Guards removed",
    "model": "The cache against a dictionary",
}


def count(lines):
    """Counts by suite, subject and detail."""
    found = {}
    for line in lines:
        entry = json.loads(line)
        found.setdefault(entry["suite"], {}).setdefault(entry["subject"], Counter())[entry["detail"]] += (
            entry["count"]
        )
    return found


def table(counts):
    """Markdown table with a row for each subject."""
    details = sorted({detail for row in counts.values() for detail in row})
    lines = ["| | " + " | ".join([*details, "all"]) + " |", "|---|" + "---:|" * (len(details) + 1)]
    for subject, row in counts.items():
        cells = [str(row[detail]) if row[detail] else "" for detail in details]
        lines.append("| " + " | ".join([subject, *cells, f"{sum(row.values()):,}"]) + " |")
    total = Counter()
    for row in counts.values():
        total.update(row)
    cells = [f"{total[detail]:,}" for detail in details]
    lines.append("| " + " | ".join(["all", *cells, f"{sum(total.values()):,}"]) + " |")
    return "\n".join(lines)


def tables(lines):
    """All tables of a record, under their headings."""
    found = count(lines)
    return "\n\n".join(
        f"### {heading}\n\n{table(found[suite])}" for suite, heading in HEADINGS.items() if suite in found
    )


def insert(document, text):
    """The document with the text between its marks."""
    before, _, rest = document.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{text}\n\n{END}{after}"


def main():
    record, *document = map(Path, sys.argv[1:])
    text = tables(record.read_text(encoding="utf-8").splitlines())
    if document:
        path = document[0]
        path.write_text(insert(path.read_text(encoding="utf-8"), text), encoding="utf-8")
    else:
        sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
