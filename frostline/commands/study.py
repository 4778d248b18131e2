"""The commands for many runs: ``batch``, ``compare`` and ``report``."""

from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.options import (
    COUNT,
    PATH,
    choice_option,
    cluster_option,
    example,
    format_option,
    output_options,
)
from frostline.commands.output import Output, Table, Text


@click.command(
    epilog=example(
        "frostline batch study.toml --dry-run",
        "frostline batch study.toml --jobs 4",
    )
)
@click.argument("jobs_file", type=PATH, metavar="JOBS.toml")
@click.option(
    "--jobs",
    type=COUNT,
    default=1,
    metavar="N",
    help="Processes, which share the cores and the memory.",
)
@cluster_option
@click.option(
    "--dry-run", is_flag=True, help="Only print what there is to do, and about how long it will take."
)
@output_options
def batch(*, output: Output, jobs_file: Path, jobs: int, cluster: str | None, dry_run: bool) -> None:
    """Do every job of a study: data sets x backbones x layers x heads x seeds, and networks to train.

    JOBS.toml names them: each of its tables is a command, [[extract]], [[train-head]] or [[finetune]], its keys are that
    command's options, and a list multiplies; [batch] says on which data, with which seeds, and where everything goes. See
    examples/study.toml. All names are checked before anything is computed.

    What is there is not done again, and what was interrupted goes on: the same command does what is missing. A job that
    fails doesn't stop the others; exit code 1 where one did.
    """
    if dry_run:
        plan = pipeline.plan_batch(jobs_file, jobs=jobs, report=output.report)
        output.show(plan, _plan_text(plan))
        return
    result = pipeline.batch(jobs_file, jobs=jobs, cluster=cluster, report=output.report)
    output.show(result, _batch_text(result))
    if result.unfinished:
        raise click.ClickException(
            f"{len(result.unfinished)} of {len(result.jobs)} jobs are not done; what went wrong is in {result.errors}."
            " The same command tries only these again."
        )


def _plan_text(plan: "pipeline.BatchPlan") -> Text:
    rows = [
        [
            job.stage,
            "there" if job.there else "to do",
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
        if job.state != "there"
    ]
    if rows:
        yield Table(["stage", "state", "seconds", "validation", ""], rows)
        yield ""
    there = sum(job.state == "there" for job in result.jobs)
    counts = f"{len(rows)} jobs" if rows else "Nothing to do"
    yield f"{counts} in {result.seconds:.1f} s; {there} of {len(result.jobs)} were there already."
    if result.runs:
        yield f"Next: frostline compare {result.out}/runs/*"


_runs_argument = click.argument("runs", type=PATH, nargs=-1, required=True, metavar="RUN...")
_on_option = choice_option(
    "--on",
    ["auto", "validation", "test"],
    "Rows to compare by; auto: test where evaluate has looked with every run, else validation.",
)
_SORTS = (
    "accuracy",
    "validation",
    "test",
    "name",
    "parameters",
    "gflops",
    "width",
    "extraction",
    "rate",
    "training",
    "total",
    "cache",
)


@click.command(
    epilog=example(
        "frostline compare runs/*",
        "frostline compare runs/* --sort total --format markdown > leaderboard.md",
    )
)
@_runs_argument
@choice_option("--sort", _SORTS, "What comes first: the most accurate, the fastest, the smallest ...")
@_on_option
@format_option("table", "csv", "json", "markdown")
@output_options
def compare(*, output: Output, runs: tuple[Path, ...], **options: Any) -> None:
    """Put RUNs side by side: accuracy, size and time, and whether a run is worse than the best by more than luck.

    Only what the runs hold is read; nothing is evaluated. p is that of McNemar's test against the best on the same
    rows, adjusted for the number of runs (Holm). front marks runs that none beats in both accuracy and total time, or
    in both accuracy and parameters.
    """
    board = pipeline.compare_runs(runs, report=output.report, **options)
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
        yield as_csv(board).removesuffix("\n")
    elif style == "markdown":
        yield as_markdown(board).removesuffix("\n")
    else:
        yield Table(*as_cells(board, ACCURACIES))
        yield ""
        # all in one line would not fit a terminal
        yield Table(*as_cells(board, ("run", *known_costs(board))))
        yield ""
        yield "\n".join(board.notes)


@click.command(epilog=example("frostline report runs/* --out report.html   # needs frostline[report]"))
@_runs_argument
@click.option(
    "--out",
    type=PATH,
    metavar="FILE",
    default=Path("report.html"),
    help="File to write; one that is there is replaced.",
)
@_on_option
@choice_option(
    "--map",
    ["pca", "umap", "none"],
    "How features are drawn as points; umap takes longer and needs frostline[umap].",
)
@click.option("--title", default="Frostline report", help="Heading of the page.")
@output_options
def report(*, output: Output, runs: tuple[Path, ...], **options: Any) -> None:
    """Write RUNs side by side as one HTML file that needs no network: leaderboard, charts, maps and mistakes.

    Folders of learning-curve among them are drawn together: accuracy against the number of training images.

    Only what the runs hold is read, and the cached features of the rows that they were judged on; nothing is evaluated.
    """
    result = pipeline.write_report(runs, report=output.report, **options)
    size = f"{result.bytes / 1e6:.1f} MB"
    output.show(result, [f"{result.path}: {result.runs} runs, {size}, in {result.seconds:.1f} s"])
