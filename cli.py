"""The frostline command: parse, call one pipeline function, print."""

import contextlib
import dataclasses
import functools
import json
import math
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from frostline.classifiers.fitting.search import Method
    from frostline.features.cache import Part
    from frostline.pipeline.extraction.extract import ExtractResult
    from frostline.pipeline.inspection.check_cache import CacheCheck
    from frostline.pipeline.judging.evaluate import EvaluationResult
    from frostline.pipeline.progress import Reporter
    from frostline.pipeline.studies.batch import BatchResult
    from frostline.pipeline.training.train_head import TrainResult
    from frostline.pipeline.tuning.finetune import FinetuneResult

_PATH = click.Path(path_type=Path)
_SEED = click.IntRange(0, 2**32 - 1)  # what NumPy, PyTorch and scikit-learn all take


class _Commands(click.Group):
    """Turns the errors that Frostline raises on purpose into a message and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.ClickException(
                "Interrupted. What was committed is kept; the same command goes on from there."
            ) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if not isinstance(error, _expected_errors()):
                raise
            notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
            raise click.ClickException(f"{error}{notes}") from error


def _terminate(_signal: int, _frame: Any) -> NoReturn:
    raise KeyboardInterrupt


def _expected_errors() -> tuple[type[Exception], ...]:
    from frostline.classifiers.errors import ClassifiersError
    from frostline.features.errors import FeaturesError
    from frostline.pipeline.errors import PipelineError

    return (FeaturesError, ClassifiersError, PipelineError, OSError)


def _output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` and ``--quiet``; the command gets them as `as_json` and as a `report` to write to."""

    @click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON document on stdout instead of text."
    )
    @click.option("--quiet", is_flag=True, help="No progress and no notes on stderr.")
    @functools.wraps(command)
    def wrapped(*args: Any, quiet: bool, **options: Any) -> Any:
        return command(*args, report=_reporter(quiet=quiet), **options)

    return wrapped


def _reporter(*, quiet: bool) -> "Reporter":
    from frostline.pipeline.progress import SILENT

    if quiet:
        return SILENT
    from frostline.commands.terminal import TerminalReporter

    return TerminalReporter()


def _print_json(document: Any) -> None:
    click.echo(json.dumps(_plain(document), indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    """What JSON can hold of a result: dataclasses, paths and numpy values become plain ones."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value != value:  # noqa: PLR0124  # JSON has no NaN
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _parse_part(_context: click.Context, _option: click.Parameter, text: str | None) -> "Part | None":
    from frostline.features.cache import Part
    from frostline.features.errors import PartError

    try:
        return Part.parse(text) if text is not None else None
    except PartError as error:
        raise click.BadParameter(str(error)) from None


def _parse_memory(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    from frostline.pipeline.hosts.memory import parse_memory

    try:
        return parse_memory(text) if text is not None else None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _example(*lines: str) -> str:
    return "\b\nExample:\n" + "\n".join(f"  {line}" for line in lines)


def _precision_option(note: str) -> Callable[..., Any]:
    return click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help=note,
    )


def _engine_option(note: str) -> Callable[..., Any]:
    return click.option(
        "--engine",
        metavar="[auto|eager|compile|openvino|NAME]",
        default="auto",
        show_default=True,
        help=note,
    )


_device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where the network runs.",
)
_head_device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where linear and mlp train.",
)
_fractions_option = click.option(
    "--fractions",
    nargs=3,
    type=click.FloatRange(0, 1),
    default=(0.6, 0.2, 0.2),
    show_default=True,
    metavar="TRAIN VAL TEST",
    help="Shares of data that comes without splits.",
)
_batch_size_option = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Images a forward pass.  [default: by device]",
)
_workers_option = click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Decoding threads.  [default: one a core]"
)
_image_size_option = click.option(
    "--image-size",
    type=click.IntRange(min=1),
    metavar="PIXELS",
    help="Side of the network's input.  [default: that of its weights]",
)
_cluster_option = click.option(
    "--cluster",
    metavar="tcp://HOST:PORT|local:N",
    help="Run on a Dask cluster, or on N processes; needs frostline[dask].",
)
_max_bad_option = click.option(
    "--max-bad",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    metavar="SHARE",
    help="Fail when more than this share of the images is unreadable.",
)


_on_option = click.option(
    "--on",
    type=click.Choice(["auto", "validation", "test"]),
    default="auto",
    show_default=True,
    help="Rows to compare by; auto: test where evaluate has looked with every run, else validation.",
)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_example(
        "frostline extract photos/",
        "frostline train-head photos.efficientnet_lite0.h5",
        "frostline evaluate runs/photos.efficientnet_lite0-linear",
    ),
)
@click.version_option(package_name="frostline")
def main() -> None:
    """Extract image features once, cache them safely, train heads on them in seconds."""


@main.command(
    epilog=_example(
        "frostline extract photos/ --backbone timm:resnet50 --layer embedding --layer layer3:avg --cache photos.h5"
    )
)
@click.argument("data", type=_PATH)
@click.option(
    "--backbone", default="efficientnet_lite0", show_default=True, help="Network; see: frostline backbones"
)
@click.option("--weights", metavar="FILE", help="Local weights (safetensors, or torch without pickled code).")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    metavar="L[:POOL]",
    default=("embedding",),
    show_default=True,
    help="Output to store, pooled by avg, max, gem, cls or none. Repeat for several in one pass.",
)
@_image_size_option
@click.option(
    "--views",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Passes over each image: as it is, and K - 1 random parts of it, for finetune.",
)
@click.option("--seed", type=_SEED, default=0, show_default=True, help="Seed of the views.")
@click.option("--cache", type=_PATH, metavar="FILE", help="Cache to write.  [default: DATA.BACKBONE.h5]")
@_precision_option(
    "Number format of the forward pass; auto: the cache's, else the fastest that reaches --min-cosine."
)
@_engine_option("What executes the forward pass; auto: the cache's, else the fastest for so many images.")
@click.option(
    "--min-cosine",
    type=click.FloatRange(0, 1),
    default=0.999,
    show_default=True,
    metavar="C",
    help="Least similarity to eager fp32, of each of some of the images, that auto accepts.",
)
@click.option(
    "--store",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="Number format in the file.  [default: the cache's, else float32]",
)
@_device_option
@click.option(
    "--decoder",
    type=click.Choice(["exact", "fast"]),
    default="exact",
    show_default=True,
    help="exact: the reference transform's pixels; fast: up to twice the images, each pixel within 3 of 255.",
)
@_batch_size_option
@_workers_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N images, evenly spaced.")
@_max_bad_option
@click.option(
    "--part",
    callback=_parse_part,
    metavar="i/N",
    help="Only the i-th of N parts of the rows, into a file of its own; see: frostline cache merge."
    "  [default: by torchrun's RANK and WORLD_SIZE]",
)
@click.option("--overwrite", is_flag=True, help="Replace a cache that was made with other settings.")
@_output_options
def extract(*, as_json: bool, report: "Reporter", data: Path, part: "Part | None", **options: Any) -> None:
    """Compute the feature vectors of DATA that its cache doesn't hold yet.

    DATA is an image folder (CLASS/..., or train|val|test/CLASS/...) or a CSV, TSV or Parquet manifest with the columns
    path, label and, where wanted, split and group. An interrupted run goes on from its last committed block; of a
    changed data set only what is new is computed.

    Several processes share the work by --part, or are started on every GPU of a machine by
    torchrun --nproc-per-node gpu --no-python frostline extract DATA ...; then merge their files.
    """
    from frostline.pipeline import extract as run
    from frostline.pipeline.hosts.torchrun import join_launcher

    result = run(data, part=part or join_launcher(), report=report, **options)
    if as_json:
        _print_json(result)
    else:
        _print_extraction(result)


def _print_extraction(result: "ExtractResult") -> None:
    if result.unchanged:
        click.echo(
            f"Nothing to do: {result.cache} already holds all {result.rows} images. No image was decoded."
        )
    else:
        parts = [f"{result.computed} computed"]
        parts += [f"{result.copied} copied from an earlier cache"] if result.copied else []
        parts += [f"{result.resumed} already committed"] if result.resumed else []
        rate = f", {result.images_per_second:,.1f} images/s" if result.computed else ""
        click.echo(
            f"{result.cache}: {result.rows} images ({', '.join(parts)}{rate}; {result.engine}, {result.precision})"
        )
    if result.failed:
        click.echo(f"{result.failed} unreadable images:")
        for name, reason in result.errors.items():
            click.echo(f"  {name}: {reason}")
    if result.merge_command:
        click.echo(f"This is part {result.part}. Once all are there: {result.merge_command}")


@main.command(
    "train-head",
    epilog=_example(
        "frostline train-head photos.h5 --head linear",
        "frostline train-head photos.h5 --head mlp --param hidden=256,128 --run runs/mlp",
        "frostline train-head a.h5+b.h5 --project pca:256",
        "frostline train-head photos.h5 --head svm --param kernel=rbf --search random --trials 40 --cv 5",
    ),
)
@click.argument("cache", type=_PATH, metavar="CACHE[+CACHE...]")
@click.option(
    "--head",
    default="linear",
    show_default=True,
    metavar="KIND",
    help="linear, mlp, logreg, ridge, svm, knn, centroid, lda, forest, boosting; or module:Class of any scikit-learn"
    " classifier.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="K=V",
    help="Fix a hyper-parameter of the head; what is not fixed is chosen on validation.",
)
@click.option(
    "--layer",
    metavar="L",
    help="Layer of the cache; needed where it holds several. a+b joins two; all chooses among each and all joined.",
)
@click.option(
    "--project",
    metavar="METHOD:WIDTH",
    help="Project the features first: pca:256 or random:256, fitted on the training rows and saved with the head.",
)
@click.option("--run", type=_PATH, metavar="DIR", help="Run directory to write.  [default: runs/CACHE-HEAD]")
@click.option(
    "--seed", type=_SEED, default=0, show_default=True, help="Seed of all that is random in the head."
)
@_head_device_option
@_fractions_option
@click.option(
    "--search",
    type=click.Choice(["grid", "random", "halving", "optuna"]),
    help="How to choose what no --param fixes.  [default: the head's own way; grid with --cv]",
)
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N", help="Candidates.  [default: all of a grid, else 30]"
)
@click.option(
    "--cv",
    type=click.IntRange(min=2),
    metavar="K",
    help="Judge candidates on K folds of train and val.  [default: on val]",
)
@click.option("--jobs", type=int, metavar="N", help="Processes of a search; -1 for one a core.  [default: 1]")
@_cluster_option
@click.option(
    "--memory",
    callback=_parse_memory,
    metavar="SIZE",
    help="What features may take, e.g. 2GB: linear reads more than that in blocks.  [default: half of the machine's]",
)
@_output_options
def train_head(
    *,
    as_json: bool,
    report: "Reporter",
    cache: Path,
    head: str,
    params: tuple[str, ...],
    search: "Method | None",
    trials: int | None,
    jobs: int | None,
    cluster: str | None,
    **options: Any,
) -> None:
    """Train a classifier on cached features and write it as a run.

    Caches of the same images by several backbones are joined by +: their features stand side by side.

    Hyper-parameters are chosen on the validation rows; the test rows are never read. Rows without a split get one by a
    stable hash of the image, so a data set that grows keeps its old assignment.
    """
    from frostline.classifiers.heads.catalog import parse_params
    from frostline.pipeline import train_head as run

    plan = None
    if search is not None or options["cv"] is not None:
        from frostline.classifiers.fitting.search import SearchPlan

        plan = SearchPlan(search or "grid", trials, jobs)
    elif trials is not None or jobs is not None or cluster is not None:
        raise click.UsageError(
            "--trials, --jobs and --cluster belong to a search: give --search or --cv, too."
        )
    if jobs is not None and cluster is not None:
        raise click.UsageError(
            "--jobs is for processes here, and --cluster for those of a cluster: give one."
        )
    with _on_cluster(cluster):
        result = run(cache, head, params=parse_params(head, params), search=plan, report=report, **options)
    if as_json:
        _print_json(result)
        return
    if plan is not None:
        _print_trials(result.trials)
    _print_training(result)


def _on_cluster(address: str | None) -> AbstractContextManager[Any]:
    if address is None:
        return contextlib.nullcontext()
    from frostline.pipeline.hosts.dask_cluster import connected

    return connected(address)


def _print_trials(trials: Sequence[Mapping[str, Any]]) -> None:
    """The best trials, those on all training rows first."""
    from frostline.commands.terminal import print_table

    shown = sorted(trials, key=lambda trial: (-trial["share"], -trial["accuracy"], trial["log_loss"]))[:10]
    rows = [[_number(value) for value in trial.values()] for trial in shown]
    print_table(list(shown[0]), rows, title=f"The best {len(shown)} of {len(trials)} trials")
    click.echo()


def _print_training(result: "TrainResult") -> None:
    chosen = ", ".join(f"{name}={_number(value)}" for name, value in result.params.items())
    click.echo(f"{result.run}: {result.head} on {result.layer} ({chosen}) in {result.seconds:.1f} s")
    counts = ", ".join(f"{count} {name}" for name, count in result.counts.items())
    scores = ", ".join(f"{name} {_number(value)}" for name, value in result.validation.items())
    click.echo(f"rows: {counts}" + (f"; validation: {scores}" if scores else ""))
    click.echo(f"Next: frostline evaluate {result.run}")


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _trust_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--trust``, for heads from outside."""
    return click.option(
        "--trust",
        "trusted",
        multiple=True,
        metavar="TYPE",
        help="Let a head from outside hold this type; see what train-head said.",
    )(command)


def _recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `pipeline.tuning.recipe.Recipe` consists of; the command gets it as `recipe`."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> Any:
        from frostline.pipeline.tuning.recipe import Recipe

        recipe = Recipe(**{name: options.pop(name) for name in Recipe.names()})
        return command(recipe=recipe, **options)

    for option in reversed(_RECIPE):
        wrapped = option(wrapped)
    return wrapped


_RECIPE = (
    click.option(
        "--frost-line",
        default="none",
        show_default=True,
        metavar="STAGE|none|all",
        help="The last stage that stays frozen; see: frostline backbones NAME --stages",
    ),
    click.option(
        "--unfreeze-every", type=int, metavar="N", help="Move the frost line down a stage every N epochs."
    ),
    click.option(
        "--epochs", type=int, default=10, show_default=True, metavar="N", help="Passes over the images."
    ),
    click.option(
        "--batch-size",
        type=int,
        default=64,
        show_default=True,
        metavar="N",
        help="Images an update, over all processes.",
    ),
    click.option(
        "--accumulate",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Steps an update, to save memory.",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(["sgd", "adamw"]),
        default="sgd",
        show_default=True,
        help="Optimizer.",
    ),
    click.option(
        "--lr",
        type=float,
        help="Largest learning rate of the head.  [default: by optimizer and batch size, e.g. sgd 0.01, 0.05 from scratch]",
    ),
    click.option("--momentum", type=float, default=0.9, show_default=True, help="Of sgd."),
    click.option(
        "--nesterov/--no-nesterov", default=True, show_default=True, help="Nesterov's momentum, of sgd."
    ),
    click.option(
        "--weight-decay",
        type=float,
        help="Weight decay of the layers' weights, not of norms, biases, layer scales, tokens and positions."
        "  [default: sgd 0.0005, adamw 0.05]",
    ),
    click.option(
        "--backbone-lr",
        type=float,
        help="Factor of the backbone's learning rate.  [default: 0.1, but 1 from scratch]",
    ),
    click.option(
        "--layer-decay",
        type=float,
        default=1.0,
        show_default=True,
        help="Factor of the learning rate from a stage to the one below.",
    ),
    click.option(
        "--schedule",
        type=click.Choice(["cosine", "step", "onecycle", "constant"]),
        default="cosine",
        show_default=True,
        help="How the learning rate falls; step: to a tenth at 60 % and at 85 %.",
    ),
    click.option(
        "--warmup",
        type=float,
        default=1.0,
        show_default=True,
        metavar="EPOCHS",
        help="In which the rate rises first.",
    ),
    click.option(
        "--augment",
        type=click.Choice(["none", "flip", "shift", "crop"]),
        default="crop",
        show_default=True,
        help="flip; shift: by an eighth, and flip, for small images; crop: a random part, and flip.",
    ),
    click.option(
        "--views",
        type=int,
        default=1,
        show_default=True,
        metavar="K",
        help="Cache K views of each image, as crop varies it, and draw one in each epoch.",
    ),
    click.option(
        "--randaugment",
        type=int,
        default=0,
        show_default=True,
        metavar="0-30",
        help="Magnitude of two operations.",
    ),
    click.option(
        "--erasing", type=float, default=0.0, show_default=True, metavar="P", help="Grey a random rectangle."
    ),
    click.option(
        "--mixup", type=float, default=0.0, show_default=True, metavar="ALPHA", help="Mix images, and labels."
    ),
    click.option(
        "--cutmix",
        type=float,
        default=0.0,
        show_default=True,
        metavar="ALPHA",
        help="Cut images into others.",
    ),
    click.option(
        "--label-smoothing", type=float, default=0.0, show_default=True, metavar="SHARE", help="Of targets."
    ),
    click.option(
        "--dropout", type=float, default=0.0, show_default=True, metavar="P", help="Before the head."
    ),
    click.option(
        "--statistics",
        type=click.Choice(["auto", "frozen", "batch"]),
        default="auto",
        show_default=True,
        help="Of batch normalisation: as they came, or of each batch; auto: frozen but from scratch.",
    ),
    click.option(
        "--ema", type=float, metavar="DECAY", help="Keep a moving average of the weights, e.g. 0.999."
    ),
    click.option("--clip", type=float, metavar="NORM", help="Largest norm of a gradient."),
    click.option(
        "--patience", type=int, metavar="N", help="Stop after N epochs without a better validation."
    ),
    click.option(
        "--compile/--no-compile", default=False, show_default=True, help="torch.compile the network."
    ),
    _precision_option("Of the passes; auto: bf16 or fp16 on a GPU, else fp32."),
    click.option("--seed", type=_SEED, default=0, show_default=True, help="Seed of all random numbers."),
)


@main.command(
    epilog=_example(
        "frostline finetune photos/ --frost-line blocks.3 --augment none --from-run runs/photos-linear",
        "frostline finetune photos/ --backbone small:resnet18 --from-scratch --augment shift --epochs 30",
    )
)
@click.argument("data", type=_PATH)
@click.option(
    "--backbone", default="efficientnet_lite0", show_default=True, help="Network; see: frostline backbones"
)
@click.option("--weights", metavar="FILE", help="Local weights (safetensors, or torch without pickled code).")
@click.option(
    "--from-run", type=_PATH, metavar="RUN", help="Start from the head, or the network, of this run."
)
@click.option("--from-scratch", is_flag=True, help="Start untrained.")
@_image_size_option
@click.option(
    "--cached/--no-cached",
    default=None,
    help="Compute what lies below the frost line once, and train on that.  [default: where nothing below is random]",
)
@_recipe_options
@click.option(
    "--run", type=_PATH, metavar="DIR", help="Run directory to write.  [default: runs/DATA.BACKBONE-finetune]"
)
@_device_option
@click.option(
    "--workers", type=click.IntRange(min=0), metavar="N", help="Decoding processes.  [default: one a core]"
)
@_fractions_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only N images, evenly spaced.")
@_max_bad_option
@click.option("--log-to", type=click.Choice(["tensorboard", "mlflow"]), help="Also log there.")
@click.option("--restart", is_flag=True, help="Drop an unfinished training of the same run.")
@_output_options
def finetune(*, as_json: bool, report: "Reporter", data: Path, **options: Any) -> None:
    """Train a backbone above its frost line, together with a linear head, on the images of DATA, and write it as a run.

    Everything below the frost line stays as it is, to the last bit. The best epoch is kept, by validation; test images
    are not looked at. The same command goes on where it was killed. Grey images become three equal channels.

    Every GPU of a machine: torchrun --nproc-per-node gpu --no-python -- frostline finetune DATA ... (or accelerate launch).
    """
    from frostline.pipeline import finetune as run

    result = run(data, report=report, **options)
    if as_json:
        _print_json(result)
    else:
        _print_finetuning(result)


def _print_finetuning(result: "FinetuneResult") -> None:
    start = "from scratch" if result.from_scratch else f"frost line: {result.frost_line}"
    click.echo(
        f"{result.run}: {result.backbone}, {start}, {result.trained:,} parameters trained, {result.frozen:,} frozen,"
        f" {len(result.history)} epochs in {result.training_seconds:.1f} s"
    )
    counts = ", ".join(f"{count} {name}" for name, count in result.counts.items())
    scores = ", ".join(f"{name} {_number(value)}" for name, value in result.validation.items())
    click.echo(f"images: {counts}" + (f"; validation: {scores} (epoch {result.best})" if scores else ""))
    click.echo(f"Next: frostline evaluate {result.run}")


@main.command(epilog=_example("frostline evaluate runs/photos-linear"))
@click.argument("run", type=_PATH)
@click.argument("cache", type=_PATH, required=False, metavar="[CACHE[+CACHE...]]")
@_trust_option
@_output_options
def evaluate(*, as_json: bool, report: "Reporter", **options: Any) -> None:
    """Judge RUN on the test split of its cache, or of another CACHE made with the same settings.

    The only command that reads the test split. Each look is written into the run's ledger, and a second look says so.
    """
    from frostline.pipeline import evaluate as judge

    result = judge(report=report, **options)
    if as_json:
        _print_json(result)
    else:
        _print_evaluation(result)


def _print_evaluation(result: "EvaluationResult") -> None:
    from frostline.commands.terminal import print_table
    from frostline.pipeline.judging.evaluate import METRICS

    rows = [
        [name.replace("_", " "), f"{interval.value:.4f}", f"{interval.low:.4f} - {interval.high:.4f}"]
        for name, interval in ((name, getattr(result.metrics, name)) for name in METRICS)
    ]
    print_table(
        ["metric", "value", "95 % interval"],
        rows,
        title=f"{result.run}: {result.rows} test images, look {result.look}",
    )
    click.echo()
    per_class = [
        [row.name, f"{row.precision:.3f}", f"{row.recall:.3f}", f"{row.f1:.3f}", str(row.support)]
        for row in result.metrics.per_class
    ]
    print_table(["class", "precision", "recall", "F1", "images"], per_class)
    click.echo()
    found = result.calibration
    click.echo(
        f"rms calibration error: {found.before.rms_calibration_error.value:.4f} before temperature scaling,"
        f" {found.after.rms_calibration_error.value:.4f} after (temperature {found.temperature:.3g}, fitted on"
        f" validation): {result.reliability}"
    )
    click.echo(f"confusion matrix: {result.confusion}")
    if result.mistakes:
        click.echo(f"most confident mistakes: {result.mistakes}")


@main.command(epilog=_example("frostline predict runs/photos-linear new/ one.jpg --format csv > labels.csv"))
@click.argument("run", type=_PATH)
@click.argument("paths", type=_PATH, nargs=-1, required=True, metavar="IMAGE|FOLDER...")
@click.option(
    "--top-k", type=click.IntRange(min=1), default=5, show_default=True, metavar="K", help="Classes an image."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="Output format.",
)
@click.option(
    "--weights",
    multiple=True,
    metavar="FILE",
    help="The backbone's weights, where they have moved; repeat for a run on several, in their order.",
)
@_precision_option("Number format of the forward pass; auto: that of the features that RUN was trained on.")
@_engine_option(
    "What executes the forward pass; auto: what computed these features, else the fastest that agrees with it."
)
@_device_option
@_batch_size_option
@_workers_option
@_trust_option
@_output_options
def predict(*, as_json: bool, report: "Reporter", style: str, **options: Any) -> None:
    """Label new images through RUN's own backbone, transform, layer and head.

    An image that can't be read gets its reason in place of a label, and the command ends with exit code 1.
    """
    from frostline.pipeline import predict as label

    predictions = label(report=report, **options)
    if as_json or style == "json":
        _print_json(predictions)
    else:
        from frostline.pipeline.judging.predict import write_csv

        write_csv(predictions, sys.stdout)
    unread = sum(prediction.error is not None for prediction in predictions)
    if unread:
        raise click.ClickException(
            f"{unread} of {len(predictions)} images could not be read; see the error column."
        )


@main.group()
def cache() -> None:
    """Look into a feature cache, check it, or merge its parts."""


@cache.command(epilog=_example("frostline cache info photos.h5"))
@click.argument("file", type=_PATH)
@_output_options
def info(*, as_json: bool, report: "Reporter", file: Path) -> None:  # noqa: ARG001
    """Say what a cache holds and what its features depend on."""
    from frostline.features.cache import FeatureCache

    found = FeatureCache.open(file).info()
    if as_json:
        _print_json(found)
        return
    for name, value in _plain(found).items():
        click.echo(f"{name}: {json.dumps(value) if isinstance(value, dict | list) else value}")


@cache.command(epilog=_example("frostline cache verify photos.h5"))
@click.argument("file", type=_PATH)
@_output_options
def verify(*, as_json: bool, report: "Reporter", file: Path) -> None:  # noqa: ARG001
    """Recompute every checksum of a cache; exit code 1 where one is wrong."""
    from frostline.features.cache import FeatureCache

    checked = FeatureCache.open(file).verify()
    if as_json:
        _print_json(checked)
    elif checked.ok:
        click.echo(f"{file}: {checked.rows} rows in {checked.blocks} blocks, every checksum right.")
    if not checked.ok:
        damage = "\n".join(f"  {layer}: rows {first} to {last}" for layer, first, last in checked.bad)
        raise click.ClickException(
            f"{file} is damaged:\n{damage}\nDelete it and run extract again; copy it from a backup if there is one."
        )


@cache.command(epilog=_example("frostline cache check photos.h5 --out looked-over/"))
@click.argument("file", type=_PATH)
@click.option("--layer", metavar="L", help="Layer to compare images in; needed where it holds several.")
@click.option(
    "--threshold",
    type=click.FloatRange(-1, 1, min_open=True),
    metavar="COSINE",
    help="Least cosine of centred features that counts as nearly equal.  [default: 0.85]",
)
@click.option(
    "--out", type=_PATH, metavar="DIR", help="Draw the most alike pairs into DIR/near-duplicates.png."
)
@_output_options
def check(*, as_json: bool, report: "Reporter", file: Path, threshold: float | None, **options: Any) -> None:
    """Look for images and groups that are in two splits, nearly equal images, and labels that contradict.

    Exit code 1 where train-head would refuse the splits. No head is trained or judged.
    """
    from frostline.pipeline import check_cache

    if threshold is not None:
        options["threshold"] = threshold
    found = check_cache(file, report=report, **options)
    if as_json:
        _print_json(found)
    else:
        _print_check(found)
    if found.refusals:
        raise click.ClickException("\n".join(found.refusals))


def _print_check(found: "CacheCheck") -> None:
    counts = ", ".join(f"{count} {name}" for name, count in found.counts.items())
    click.echo(f"{found.cache}: {counts}")
    for what, runs in (
        ("same bytes in several splits", found.exact),
        ("one group in several splits", found.groups),
        ("same bytes, other labels", found.conflicts),
    ):
        click.echo(f"{what}: {len(runs) or 'none'}")
        for names in runs:
            click.echo(f"  {', '.join(names)}")
    number = f"{'' if found.near_complete else 'more than '}{len(found.near) or 'none'}"
    click.echo(
        f"nearly equal across splits (centred cosine of {found.layer} at least {found.threshold:g}): {number}"
    )
    if found.near:
        from frostline.commands.terminal import print_table

        rows = [
            [f"{p.cosine:.3f}", p.split_a, p.image_a, p.label_a, p.split_b, p.image_b, p.label_b]
            for p in found.near
        ]
        print_table(["cosine", "split", "image", "label", "split", "image", "label"], rows)
    for warning in found.warnings:
        click.echo(f"Look: {warning}")
    if found.picture:
        click.echo(f"thumbnails: {found.picture}")


@cache.command(
    epilog=_example(
        "frostline extract photos/ --cache photos.h5 --part 1/2   # and --part 2/2, elsewhere",
        "frostline cache merge photos.h5.part-*-of-2",
    )
)
@click.argument("parts", type=_PATH, nargs=-1, required=True, metavar="PART...")
@click.option("--out", type=_PATH, metavar="FILE", help="Cache to write.  [default: the parts' common name]")
@click.option("--delete-parts", is_flag=True, help="Delete the parts once the cache is complete.")
@click.option("--overwrite", is_flag=True, help="Replace a cache that was made with other settings.")
@_output_options
def merge(*, as_json: bool, report: "Reporter", parts: tuple[Path, ...], **options: Any) -> None:
    """Join the parts that extract --part wrote into one cache, equal to that of a single process.

    Every checksum is verified, and nothing is computed. All parts must be there, of the same settings and the same
    state of the data set.
    """
    from frostline.features.cache import merge_parts

    with report.task("Merging", None):
        merged = merge_parts(parts, **options)
    if as_json:
        _print_json(merged.info())
    else:
        click.echo(f"{merged.path}: {merged.rows} images, merged from {len(parts)} parts.")


@main.command(
    "label-errors",
    epilog=_example("frostline label-errors photos.h5 --out looked-over/   # needs frostline[labels]"),
)
@click.argument("cache", type=_PATH)
@click.option("--head", default="linear", show_default=True, metavar="KIND", help="Head that judges.")
@click.option("--layer", metavar="L", help="Layer of the cache; needed where it holds several.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, metavar="K", help="Folds.")
@click.option("--out", type=_PATH, metavar="DIR", help="Write thumbnails and a table into DIR.")
@_output_options
def label_errors(*, as_json: bool, report: "Reporter", cache: Path, **options: Any) -> None:
    """List images of train and val whose label is probably wrong, the most doubtful first.

    Each is judged by a head that was fitted without it and without its copies (confident learning). Test rows are not
    read.
    """
    from frostline.pipeline import label_errors as look

    result = look(cache, report=report, **options)
    if as_json:
        _print_json(result)
        return
    from frostline.commands.terminal import print_table

    rows = [[f"{each.margin:.3f}", each.image, each.given, each.suggested] for each in result.found]
    title = f"{result.cache}: {len(rows)} of {result.judged} labels are probably wrong"
    print_table(["margin", "image", "label", "rather"], rows, title=title)
    if result.picture:
        click.echo(f"thumbnails: {result.picture}\ntable: {result.table}")


def _study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what few-shot and learning-curve have in common."""
    options = (
        click.argument("cache", type=_PATH, metavar="CACHE[+CACHE...]"),
        click.option(
            "--head", default="linear", show_default=True, metavar="KIND", help="As for train-head."
        ),
        click.option("--param", "params", multiple=True, metavar="K=V", help="Fix a hyper-parameter."),
        click.option(
            "--layer", metavar="L", help="Layer of the cache; needed where it holds several. a+b joins two."
        ),
        click.option("--out", type=_PATH, metavar="DIR", help="Folder to write.  [default: one under runs/]"),
        click.option("--seed", type=_SEED, default=0, show_default=True, help="Seed of draws and heads."),
        _head_device_option,
        _fractions_option,
        click.option("--jobs", type=int, metavar="N", help="Processes; -1 for one a core.  [default: 1]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


@main.command("few-shot", epilog=_example("frostline few-shot photos.h5 --shots 1 --shots 5 --episodes 200"))
@click.option(
    "--shots",
    type=click.IntRange(min=1),
    multiple=True,
    default=(1, 5),
    show_default=True,
    metavar="K",
    help="Labelled images of each class. Repeat for several.",
)
@click.option(
    "--episodes",
    type=click.IntRange(min=2),
    default=100,
    show_default=True,
    metavar="E",
    help="Draws for each K.",
)
@_study_options
@_output_options
def few_shot(
    *, as_json: bool, report: "Reporter", cache: Path, head: str, params: tuple[str, ...], **options: Any
) -> None:
    """Measure how accurate a head is that learns from K training images of each class.

    Each episode draws other images and is judged on all validation rows; test rows are never read. Parameters are the
    head's defaults, or fixed by --param: with so few images none are left to choose them on.
    """
    from frostline.classifiers.heads.catalog import parse_params
    from frostline.pipeline import few_shot as measure

    result = measure(cache, head, params=parse_params(head, params), report=report, **options)
    if as_json:
        _print_json(result)
        return
    from frostline.commands.terminal import print_table

    rows = [
        [
            str(each.shots),
            f"{each.accuracy:.4f}",
            f"{each.low:.4f} - {each.high:.4f}",
            f"{each.wide_low:.4f} - {each.wide_high:.4f}",
            f"{each.deviation:.4f}",
        ]
        for each in result.scores
    ]
    interval = f"{result.confidence:.0%} interval"
    print_table(
        ["shots", "accuracy", f"{interval} over episodes", "other images, too", "deviation"],
        rows,
        title=f"{result.head} on {result.layer}: {len(result.scores[0].episodes)} episodes on {result.rows} validation images",
    )
    click.echo(f"picture, table and JSON: {result.folder}")


@main.command(
    "learning-curve", epilog=_example("frostline learning-curve photos.h5   # would more images help?")
)
@click.option(
    "--points",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    metavar="N",
    help="Sizes: all training images, a half of them, a quarter ...",
)
@click.option(
    "--draws",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    metavar="N",
    help="Random orders of the images.",
)
@_study_options
@_output_options
def learning_curve(
    *, as_json: bool, report: "Reporter", cache: Path, head: str, params: tuple[str, ...], **options: Any
) -> None:
    """Measure accuracy against the number of training images, and say whether more of them would help.

    What no --param fixes is chosen for each subset, on one half of the validation rows for the other half. Test rows are
    never read.
    """
    from frostline.classifiers.heads.catalog import parse_params
    from frostline.pipeline import learning_curve as measure

    result = measure(cache, head, params=parse_params(head, params), report=report, **options)
    if as_json:
        _print_json(result)
        return
    from frostline.commands.terminal import print_table

    rows = [
        [str(each.images), f"{each.accuracy:.4f}", f"{each.low:.4f} - {each.high:.4f}", str(len(each.draws))]
        for each in result.points
    ]
    print_table(
        ["images", "accuracy", f"{result.confidence:.0%} interval", "draws"],
        rows,
        title=f"{result.head} on {result.layer}, judged on {result.rows} validation images",
    )
    click.echo(f"\n{result.answer}\npicture, table and JSON: {result.folder}")


@main.command(
    epilog=_example(
        "frostline batch study.toml --dry-run",
        "frostline batch study.toml --jobs 4",
    )
)
@click.argument("jobs_file", type=_PATH, metavar="JOBS.toml")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes, which share the cores and the memory.",
)
@_cluster_option
@click.option(
    "--dry-run", is_flag=True, help="Only print what there is to do, and about how long it will take."
)
@_output_options
def batch(*, as_json: bool, report: "Reporter", jobs_file: Path, dry_run: bool, **options: Any) -> None:
    """Do every job of a study: data sets x backbones x layers x heads x seeds, and networks to train.

    JOBS.toml names them: each of its tables is a command, [[extract]], [[train-head]] or [[finetune]], its keys are that
    command's options, and a list multiplies; [batch] says on which data, with which seeds, and where everything goes. See
    examples/study.toml. All names are checked before anything is computed.

    What is there is not done again, and what was interrupted goes on: the same command does what is missing. A job that
    fails doesn't stop the others; exit code 1 where one did.
    """
    if dry_run:
        _print_plan(jobs_file, options["jobs"], as_json=as_json, report=report)
        return
    from frostline.pipeline import batch as run

    result = run(jobs_file, report=report, **options)
    if as_json:
        _print_json(result)
    else:
        _print_batch(result)
    if result.unfinished:
        raise click.ClickException(
            f"{len(result.unfinished)} of {len(result.jobs)} jobs are not done; what went wrong is in {result.errors}."
            " The same command tries only these again."
        )


def _print_batch(result: "BatchResult") -> None:
    from frostline.commands.terminal import print_table

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
        print_table(["stage", "state", "seconds", "validation", ""], rows)
        click.echo()
    there = sum(job.state == "there" for job in result.jobs)
    counts = f"{len(rows)} jobs" if rows else "Nothing to do"
    click.echo(f"{counts} in {result.seconds:.1f} s; {there} of {len(result.jobs)} were there already.")
    if result.runs:
        click.echo(f"Next: frostline compare {result.out}/runs/*")


def _print_plan(jobs_file: Path, jobs: int, *, as_json: bool, report: "Reporter") -> None:
    from frostline.pipeline import plan_batch

    plan = plan_batch(jobs_file, jobs=jobs, report=report)
    if as_json:
        _print_json(plan)
        return
    from frostline.commands.terminal import print_table

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
    print_table(["stage", "", "seconds", "MB memory", "MB disk", ""], rows)
    click.echo()
    click.echo(
        f"{len(plan.estimates)} of {len(plan.jobs)} jobs to do: about {plan.seconds / 60:.1f} minutes of work,"
        f" {plan.memory / 1e9:.1f} GB of memory, {plan.disk / 1e9:.2f} GB of disk in {plan.out}."
    )


@main.command(
    epilog=_example(
        "frostline compare runs/*",
        "frostline compare runs/* --sort total --format markdown > leaderboard.md",
    )
)
@click.argument("runs", type=_PATH, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--sort",
    type=click.Choice(
        [
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
        ]
    ),
    default="accuracy",
    show_default=True,
    help="What comes first: the most accurate, the fastest, the smallest ...",
)
@_on_option
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "csv", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@_output_options
def compare(*, as_json: bool, report: "Reporter", runs: tuple[Path, ...], style: str, **options: Any) -> None:
    """Put RUNs side by side: accuracy, size and time, and whether a run is worse than the best by more than luck.

    Only what the runs hold is read; nothing is evaluated. p is that of McNemar's test against the best on the same
    rows, adjusted for the number of runs (Holm). front marks runs that none beats in both accuracy and total time, or
    in both accuracy and parameters.
    """
    from frostline.pipeline import compare_runs

    board = compare_runs(runs, report=report, **options)
    if as_json or style == "json":
        _print_json({"split": board.split, "notes": board.notes, "runs": board.records()})
        return
    from frostline.pipeline.studies.leaderboard_text import (
        ACCURACIES,
        as_cells,
        as_csv,
        as_markdown,
        known_costs,
    )

    if style == "table":
        from frostline.commands.terminal import print_table

        print_table(*as_cells(board, ACCURACIES))
        click.echo()
        # all in one line would not fit a terminal
        print_table(*as_cells(board, ("run", *known_costs(board))))
        click.echo()
        click.echo("\n".join(board.notes))
    else:
        click.echo(as_csv(board) if style == "csv" else as_markdown(board), nl=False)


@main.command(
    "report",
    epilog=_example("frostline report runs/* --out report.html   # needs frostline[report]"),
)
@click.argument("runs", type=_PATH, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=_PATH,
    metavar="FILE",
    default=Path("report.html"),
    show_default=True,
    help="File to write; one that is there is replaced.",
)
@_on_option
@click.option(
    "--map",
    type=click.Choice(["pca", "umap", "none"]),
    default="pca",
    show_default=True,
    help="How features are drawn as points; umap takes longer and needs frostline[umap].",
)
@click.option("--title", default="Frostline report", show_default=True, help="Heading of the page.")
@_output_options
def report_(*, as_json: bool, report: "Reporter", runs: tuple[Path, ...], **options: Any) -> None:
    """Write RUNs side by side as one HTML file that needs no network: leaderboard, charts, maps and mistakes.

    Folders of learning-curve among them are drawn together: accuracy against the number of training images.

    Only what the runs hold is read, and the cached features of the rows that they were judged on; nothing is evaluated.
    """
    from frostline.pipeline import write_report

    result = write_report(runs, report=report, **options)
    if as_json:
        _print_json(result)
    else:
        size = f"{result.bytes / 1e6:.1f} MB"
        click.echo(f"{result.path}: {result.runs} runs, {size}, in {result.seconds:.1f} s")


@main.command(epilog=_example("frostline rank resnet50.h5 vit.h5 efficientnet.h5"))
@click.argument("caches", type=_PATH, nargs=-1, required=True, metavar="CACHE...")
@click.option(
    "--layer",
    metavar="L",
    default="all",
    show_default=True,
    help="Layer that each cache has; all scores each by itself.",
)
@click.option(
    "--by",
    type=click.Choice(["log_me", "h_score", "one_nn", "leep", "nce"]),
    default="log_me",
    show_default=True,
    help="Score that ranks.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where neighbours are searched.",
)
@_output_options
def rank(*, as_json: bool, report: "Reporter", caches: tuple[Path, ...], **options: Any) -> None:
    """Which backbone, or layer, first? Score CACHEs of the same images before any training, the most promising first.

    LogME, H-score and the accuracy of the nearest neighbour, from features and labels of train and val; LEEP and NCE,
    too, of a cache that holds logits. The larger, the better. Scores rank; their size says little. Among layers of very
    different widths 1-NN is the better guide: LogME and H-score favour the wide ones.
    """
    from frostline.pipeline import rank as score

    result = score(caches, report=report, **options)
    if as_json:
        _print_json(result)
        return
    from frostline.commands.terminal import print_table
    from frostline.pipeline.inspection.rank_backbones import SCORES

    rows = [
        [
            str(place),
            each.cache.name,
            each.layer,
            str(each.width),
            *("-" if (value := getattr(each, name)) is None else f"{value:.4f}" for name in SCORES),
        ]
        for place, each in enumerate(result.ranked, 1)
    ]
    print_table(["", "cache", "layer", "width", "LogME", "H-score", "1-NN", "LEEP", "NCE"], rows)
    for note in result.notes:
        click.echo(note)


@main.command(epilog=_example("frostline backbones 'resnet*'", "frostline backbones resnet18 --stages"))
@click.argument("pattern", required=False)
@click.option(
    "--stages", is_flag=True, help="List the stages of the backbone that is named, in order of execution."
)
@_output_options
def backbones(*, as_json: bool, report: "Reporter", pattern: str | None, stages: bool) -> None:
    """List backbones whose name matches PATTERN (text, or a glob); without one, those usable here with no download."""
    if stages:
        _print_stages(pattern, as_json=as_json)
        return
    from frostline.features.backbones import count_backbones, list_backbones

    with report.task("Describing backbones", None):
        found = list(list_backbones(pattern))
    if as_json:
        _print_json(found)
        return
    from frostline.commands.terminal import print_table

    rows = [
        [
            each.name,
            each.source,
            f"{each.parameters / 1e6:.2f} M",
            f"{each.gflops:.2f}",
            str(each.dim),
            "x".join(map(str, each.input_size)),
            each.weights,
        ]
        for each in found
    ]
    print_table(["name", "source", "parameters", "GFLOPs", "width", "input", "weights"], rows)
    if pattern is None:
        counts = ", ".join(f"{count} in {source}" for source, count in count_backbones().items())
        click.echo(f"\nMore by name or pattern, most of them to be downloaded: {counts}.")


def _print_stages(name: str | None, *, as_json: bool) -> None:
    if name is None:
        raise click.UsageError("--stages needs the name of one backbone.")
    from frostline.features.backbones import list_stages

    found = list_stages(name)
    if as_json:
        _print_json(found)
        return
    from frostline.commands.terminal import print_table

    flops = sum(stage.flops for stage in found) or 1
    rows = [
        [
            stage.name,
            "x".join(map(str, stage.shape)),
            f"{math.prod(stage.shape) * 2 / 1024:.0f} KiB",
            f"{stage.parameters / 1e6:.3f} M",
            f"{stage.flops / flops:.0%}",
        ]
        for stage in found
    ]
    print_table(["stage", "output", "as float16", "parameters", "FLOPs"], rows)


@main.command(epilog=_example("frostline demo"))
@click.option(
    "--folder", type=_PATH, default=Path("frostline-demo"), show_default=True, help="Where everything goes."
)
@_output_options
def demo(*, as_json: bool, report: "Reporter", folder: Path) -> None:
    """Run the main job on 1,797 real scanned digits: extract, train a head, look at the test split once."""
    from frostline.pipeline.demo import run_demo

    result = run_demo(folder, report=report)
    if as_json:
        _print_json(result)
        return
    from frostline.commands.terminal import print_table

    _print_extraction(result.extraction)
    _print_training(result.training)
    click.echo()
    _print_evaluation(result.evaluation)
    click.echo()
    seconds = {
        "extract": result.extraction.seconds,
        "train-head": result.training.seconds,
        "evaluate": result.evaluation.seconds,
    }
    print_table(["stage", "seconds"], [[stage, f"{time:.1f}"] for stage, time in seconds.items()])
    accuracy = result.evaluation.metrics.top1
    click.echo()
    click.echo(
        f"test accuracy: {accuracy.value:.1%} (95 % interval {accuracy.low:.1%} to {accuracy.high:.1%})"
    )
    click.echo(f"images: {result.images}\ncache:  {result.extraction.cache}\nrun:    {result.training.run}")


if __name__ == "__main__":
    main()
