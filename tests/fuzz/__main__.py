"""Coverage-guided fuzzing of one reader after the other: ``python -m tests.fuzz --runs 100000 [TARGET ...]``.

Needs the extra ``fuzz``. An input that crashes, that takes more time or memory than the limits is
written to ``tests/fuzz/findings/``, from where the tests read it again. The counts go to ``tests/fuzz/counts.json``.
"""

import argparse
import datetime
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
FINDINGS, COUNTS = HERE / "findings", HERE / "counts.json"
SECONDS, WALL_SECONDS = 2, 60  # of one input, on the processor and in all
MEGABYTES = 3000  # of the whole process, of which PyTorch takes several hundred
_LAST = "last"  # name of the file with the input that is read
_DONE = re.compile(r"Done (\d+) (?:runs )?in (\d+) second|stat::number_of_executed_units:\s*(\d+)")


def fuzz(name: str, runs: int, seed: int, folder: Path) -> None:
    """Fuzz one reader in this process, which ends with it.

    Args:
        name: Name of the target.
        runs: Number of executions.
        seed: Seed of the fuzzer.
        folder: Empty folder for the files that are read. libFuzzer ends the process, so the caller deletes it.
    """
    import atheris

    with atheris.instrument_imports(include=["frostline"]):
        from tests.fuzz.targets import make_targets
    target = make_targets(folder)[name]
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, data in enumerate([*target.seeds, *(path.read_bytes() for path in found(name))]):
        (corpus / str(number)).write_bytes(data)

    def test(data: bytes) -> None:
        (folder / _LAST).write_bytes(data)  # for the caller, if the process ends here in whatever way
        started = time.process_time()
        target.run_quietly(data)
        if (took := time.process_time() - started) > SECONDS:
            raise TimeoutError(f"{took:.1f} s of the processor")

    def mutate(data: bytes, size: int, number: int) -> bytes:
        if number % 2:
            return target.mutate(data, random.Random(number))[:size]  # noqa: S311
        return atheris.Mutate(data, size)

    arguments = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-timeout={WALL_SECONDS}",
        f"-rss_limit_mb={MEGABYTES}",
        f"-max_len={2 * max(map(len, target.seeds)) + 1000}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], test, custom_mutator=mutate)
    atheris.Fuzz()


def folder_name(name: str) -> str:
    """Return the folder of the findings of a target."""
    return re.sub(r"\W+", "-", name)


def found(name: str) -> list[Path]:
    """Return the inputs that once made a reader fail."""
    return sorted(path for path in (FINDINGS / folder_name(name)).glob("*") if path.is_file())


def main() -> None:
    """Fuzz the named readers, each in a process of its own, and write their counts."""
    parser = argparse.ArgumentParser(description="Fuzz the readers of files.")
    parser.add_argument("targets", nargs="*", help="all by default")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="fuzz one reader in this process, in this folder")
    given = parser.parse_args()
    if given.folder:
        fuzz(given.targets[0], given.runs, given.seed, given.folder)
        return
    failures = [name for name in given.targets or _names() if not _succeeds(name, given.runs, given.seed)]
    sys.exit(bool(failures))


def _succeeds(name: str, runs: int, seed: int) -> bool:
    """Fuzz one reader in a process of its own, and write its counts; return whether nothing was found."""
    memory = Path("/dev/shm")  # noqa: S108  # the folder made in it has a name of its own
    started, before = time.perf_counter(), len(found(name))
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        options = ["--runs", str(runs), "--seed", str(seed), "--folder", folder]
        command = [sys.executable, "-m", "tests.fuzz", name, *options]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode and (last := Path(folder) / _LAST).exists():
            data = last.read_bytes()
            (FINDINGS / folder_name(name)).mkdir(parents=True, exist_ok=True)
            (FINDINGS / folder_name(name) / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    text = done.stdout.decode(errors="replace")
    executed = max([0, *(int(match[1] or match[3]) for match in _DONE.finditer(text))])
    findings = len(found(name)) - before
    _record(name, executed, findings, time.perf_counter() - started)
    sys.stdout.write(f"{name}: {executed:,} executions, {findings} findings, exit {done.returncode}\n")
    if findings or done.returncode:
        sys.stdout.write(text[-4000:])
    sys.stdout.flush()
    return not findings and not done.returncode


def _names() -> list[str]:
    from tests.fuzz.targets import NAMES

    return list(NAMES)


def _record(name: str, executed: int, findings: int, seconds: float) -> None:
    counts = json.loads(COUNTS.read_text()) if COUNTS.exists() else {}
    counts[name] = {
        "executions": executed,
        "findings": findings,
        "seconds": round(seconds),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    text = json.dumps(dict(sorted(counts.items())), indent=2) + "\n"
    partial = COUNTS.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(COUNTS)
    (HERE / "README.md").write_text(table(counts))


def table(counts: dict[str, dict[str, object]]) -> str:
    """Return the counts as a page in Markdown."""
    lines = [
        "# Fuzzing: counts of the last runs",
        "",
        "`make fuzz` writes this page. A finding is an input that ended in anything but an error of Frostline, took more",
        f"than {SECONDS} s of the processor or {WALL_SECONDS} s in all, or brought the process above {MEGABYTES:,} MB. Its input is kept in",
        "`findings/` and read again by every `make test`.",
        "",
        "| reader | executions | findings | seconds | date |",
        "|---|---:|---:|---:|---|",
    ]
    for name, row in sorted(counts.items()):
        lines.append(
            f"| {name} | {row['executions']:,} | {row['findings']} | {row['seconds']:,} | {row['date']} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
