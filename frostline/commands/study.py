"""Commands for many runs: ``batch``, ``compare`` and ``report``."""

from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.interface.options import PATH, example, format_option, options_of, output_options
from frostline.commands.interface.output import CsvTable, Output, Table, Text
from frostline.pipeline.options.studies import BatchOptions, CompareOptions, ReportOptions
from frostline.shell import shell_command


@click.command(
    epilog=example(
        "frostline batch study.toml --dry-run",
        "frostline batch study.toml --jobs 4",
    )
)
@click.argument("jobs_file", type=PATH, metavar="JOBS.toml")
@options_of(BatchOptions)
@click.option(
    "--dry-run", is_flag=True, help="Only list the jobs and estimate their time, memory and disk space."
)
@output_options
def batch(*, output: Output, jobs_file: Path, dry_run: bool, **options: Any) -> None:
    """Run every job of a study file.

    A study runs all combinations of data sets, backbones, layers, heads and seeds. Each table of JOBS.toml is
    a command, [[extract]], [[train-head]] or [[finetune]]; its keys are options of that command, and lists are
    combined. [batch] sets the data sets, the seeds and the output folder. See examples/study.toml. All names are
    checked before anything is computed.

    Finished jobs are skipped and interrupted ones resumed, so the same command completes a study. A failed job does
    not stop the others; the exit code is then 1.
    """
    if dry_run:
        jobs, trusted = options["jobs"], options["trusted"]
        plan = pipeline.plan_batch(jobs_file, jobs=jobs, trusted=trusted, report=output.report)
        output.show(plan, _plan_text(plan))
        return
    result = pipeline.batch(jobs_file, report=output.report, **options)
    output.show(result, _batch_text(result))
    if result.unfinished:
        raise click.ClickException(
            f"{len(result.unfinished)} of {len(result.jobs)} jobs are not done; the errors are in {result.errors}."
            " Run the same command to retry only these jobs."
        )


def _plan_text(plan: "pipeline.BatchPlan") -> Text:
    rows = [
        [
            job.stage,
            "exists" if job.exists else "to do",
            *(
                [f"{each.seconds:.0f}", f"{each.memory / 1e6:.0f}", f"{each.disk / 1e6:.1f}"]
                if (each := job.estimate)
                else ["-"] * 3
            ),
            job.name,
        ]
        for job in plan.jobs
    ]
    yield Table(["stage", "", "seconds", "MB memory", "MB disk", ""], rows)
    yield ""
    yield (
        f"{len(plan.estimates)} of {len(plan.jobs)} jobs to do: about {plan.seconds / 60:.1f} minutes of work,"
        f" {plan.memory / 1e9:.1f} GB of memory, {plan.disk / 1e9:.2f} GB of disk in {plan.out}."
    )


def _batch_text(result: "pipeline.BatchResult") -> Text:
    rows = [
        [
            job.stage,
            job.state,
            "-" if job.seconds is None else f"{job.seconds:.1f}",
            "-" if job.accuracy is None else f"{job.accuracy:.2%}",
            job.error.partition("\n")[0] or job.name,
        ]
        for job in result.jobs
        if job.state != "exists"
    ]
    if rows:
        yield Table(["stage", "state", "seconds", "validation", ""], rows)
        yield ""
    existing = sum(job.state == "exists" for job in result.jobs)
    counts = f"{len(rows)} jobs" if rows else "Nothing to do"
    yield f"{counts} in {result.seconds:.1f} s; {existing} of {len(result.jobs)} existed already."
    if result.runs:
        yield f"Next: {shell_command('frostline', 'compare', result.out / 'runs')}/*"


_runs_argument = click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")


@click.command(
    epilog=example(
        "frostline compare runs/*",
        "frostline compare runs/* --sort total --format markdown > leaderboard.md",
    )
)
@_runs_argument
@options_of(CompareOptions)
@format_option("table", "csv", "json", "markdown")
@output_options
def compare(*, output: Output, runs: tuple[Path, ...], **options: Any) -> None:
    """Compare RUNs by accuracy, size and time.

    The table also says which runs differ significantly from the best. Only the run directories are read; nothing is
    evaluated. p is the p-value of McNemar's test against the best run on the same rows, adjusted for the number of
    runs (Holm). front marks the runs on the Pareto front of accuracy and total time, or of accuracy and parameters.
    """
    board = pipeline.compare(runs, report=output.report, **options)
    document = {"split": board.split, "notes": board.notes, "runs": board.records()}
    output.show(document, _board_text(board, output.style))


def _board_text(board: "pipeline.Leaderboard", style: str) -> Text:
    from frostline.pipeline.studies.leaderboard_text import (
        ACCURACIES,
        as_cells,
        as_csv,
        as_markdown,
        known_costs,
    )

    if style == "csv":
        yield CsvTable(*as_csv(board))
    elif style == "markdown":
        yield from as_markdown(board).split("\n")[:-1]
    else:
        yield Table(*as_cells(board, ACCURACIES))
        yield ""
        # One table with all columns would not fit a terminal.
        yield Table(*as_cells(board, ("run", *known_costs(board))))
        yield ""
        yield from board.notes


@click.command(epilog=example("frostline report runs/* --out report.html   # needs frostline[report]"))
@_runs_argument
@options_of(ReportOptions)
@output_options
def report(*, output: Output, runs: tuple[Path, ...], **options: Any) -> None:
    """Write an HTML report on RUNs.

    It is one file with leaderboard, charts, feature maps and mistakes, and needs no network. Folders written by
    learning-curve are drawn together: accuracy against the number of training images.

    Only the run directories and the cached features of the rows they were scored on are read; nothing is evaluated.
    """
    result = pipeline.write_report(runs, report=output.report, **options)
    size = f"{result.bytes / 1e6:.1f} MB"
    output.show(result, [f"{result.path}: {result.runs} runs, {size}, in {result.seconds:.1f} s"])
