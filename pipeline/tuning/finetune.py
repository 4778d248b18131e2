"""The finetune stage: train a backbone above its frost line together with a linear head, and write a run."""

import dataclasses
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from frostline.classifiers.fitting.fit import calibrate
from frostline.classifiers.fitting.fitted_head import Curve, FittedHead
from frostline.classifiers.heads.catalog import HEADS
from frostline.classifiers.saving.head_files import save_head
from frostline.features.backbones import Backbone, load_backbone
from frostline.features.backbones.tuned import save_tuned
from frostline.features.engines import plan_engines
from frostline.features.sources import Images, SourceSummary
from frostline.features.table import ImageSource
from frostline.pipeline.drawing.attempts import drawn
from frostline.pipeline.drawing.plots import plot_curve
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.extraction.defaults import default_cache_path
from frostline.pipeline.extraction.engine_choice import specify
from frostline.pipeline.hosts.versions import library_versions, now
from frostline.pipeline.inputs.networks import load_network
from frostline.pipeline.inputs.scanned_images import check_images
from frostline.pipeline.inputs.sources import opened_source, summary_of
from frostline.pipeline.options.learning.tuning import FinetuneOptions
from frostline.pipeline.options.stage import stage
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.directory import FEATURES, claim_run, default_run_path, write_run
from frostline.pipeline.runs.head import describe_head, describe_metrics
from frostline.pipeline.runs.predictions import save_validation
from frostline.pipeline.runs.record import (
    CacheRecord,
    Durations,
    TunedRun,
    TuningRecord,
    save_record,
)
from frostline.pipeline.runs.run import divide_for_training, tuning_runs
from frostline.pipeline.runs.split import describe_split, save_split
from frostline.pipeline.tuning.preparation import Plan, Tuning, prepare
from frostline.pipeline.tuning.start import EMBEDDING, StartRun, to_estimator
from frostline.pipeline.tuning.trainer.logs import Logger, open_logger, write_history
from frostline.pipeline.tuning.trainer.loop import Epoch, TrainingResult, train
from frostline.pipeline.tuning.trainer.processes import Processes, joined
from frostline.system.atomic import copy_folder
from frostline.system.files import resolved

HISTORY = "curve.csv"
_KNOWN = "images.npz"


@dataclass(frozen=True)
class FinetuneResult:
    """Result of a fine-tuning.

    Attributes:
        run: Run directory.
        backbone: Full name of the network.
        from_scratch: Whether training started from random weights.
        frost_line: Last stage that stayed frozen in the first epoch: a stage, ``none`` or ``all``.
        trained: Number of trained parameters.
        frozen: Number of parameters that stayed frozen.
        frozen_sha256: Digest of the frozen parameters, the same before and after.
        cache: Cache of the activations at the frost line; None if training used images.
        counts: Number of labelled, readable images in each split.
        history: Metrics of each epoch.
        best_epoch: Number of the epoch whose weights were kept.
        resumed: Number of epochs completed by an earlier, interrupted call.
        validation: Scores of the best epoch on the validation images, see `frostline.classifiers.fitting.fitted_head.FittedHead`;
            empty without validation images.
        seconds: Wall time of this call.
        training_seconds: Wall time of all epochs, including earlier calls.
        found: Summary of the data: the images found and the entries skipped.
        weights_note: How the initial weights were read and what was assumed; None for nothing to say.
    """

    run: Path
    backbone: str
    from_scratch: bool
    frost_line: str
    trained: int
    frozen: int
    frozen_sha256: str
    cache: Path | None
    counts: Mapping[str, int]
    history: Sequence[Epoch]
    best_epoch: int
    resumed: int
    validation: Mapping[str, float]
    seconds: float
    training_seconds: float
    found: SourceSummary
    weights_note: str | None


@stage(FinetuneOptions)
def finetune(data: str | Path | ImageSource | Images, options: FinetuneOptions) -> FinetuneResult:
    """Train a backbone above its frost line together with a linear head, and keep the epoch that is best on validation.

    Test images are only checked for readability. If the call is interrupted, repeating it resumes from the last
    checkpoint and gives the same curve. If it was started by torchrun or ``accelerate launch``, all processes
    train together.

    Args:
        data: Path of the images, see `frostline.features.sources.open_source`; any other image source; or the images
            themselves, see `frostline.features.sources.images_source`. Grey images are converted to three equal
            channels.
        options: Options of the training.

    Raises:
        OptionError: An option is not valid.
        FinetuneError: The options, the backbone and the data are incompatible, or training diverged.
        FeaturesError: The data, backbone or weights are not usable.
        ClassifiersError: The splits or the run's head are not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The run directory exists already, or the run to start from is not usable.
    """
    started = time.perf_counter()
    start = _start(options)
    with (
        joined(options.device) as processes,
        opened_source(data, options) as source,
        _claimed(options, source, processes) as path,
    ):
        options = dataclasses.replace(
            _named(options, start), report=options.report if processes.leads else SILENT
        )
        found = summary_of(source, options.report)
        net = load_network(options)
        if start is not None:
            start.check(net)
        folder = path.with_name(f".{path.name}.tuning")
        if options.restart and processes.leads:
            shutil.rmtree(folder, ignore_errors=True)
        processes.wait()
        images = check_images(
            source,
            net.transform,
            known=folder / _KNOWN,
            workers=options.workers or None,
            max_bad=options.max_bad,
            report=options.report,
        )
        runs = [*tuning_runs([net.origin]), *([start.run] if start is not None else [])]
        rows = divide_for_training(images, runs, options.fractions, options.report)
        tuning = prepare(Plan(net, rows, options, processes), start, folder)
        trained = _train(tuning, path.name)
        head = _head(tuning, trained)
        result = FinetuneResult(
            run=path,
            backbone=net.name,
            from_scratch=options.from_scratch,
            frost_line=tuning.job.line.name_at(0),
            trained=tuning.trained,
            frozen=tuning.frozen,
            frozen_sha256=trained.frozen,
            cache=tuning.cache,
            counts=rows.counts,
            history=trained.history,
            best_epoch=trained.best_epoch,
            resumed=trained.resumed,
            validation=head.validation,
            seconds=time.perf_counter() - started,
            training_seconds=head.seconds,
            found=found,
            weights_note=net.note or None,
        )
        if processes.leads:
            with write_run(path) as run_folder:
                save_split(run_folder, rows)
                save_validation(run_folder, rows, head)
                _write(run_folder, result, tuning, head)
                tuned = load_backbone(f"run:{run_folder}")
                save_record(run_folder, _record(result, tuning, tuned, head))
                _draw(run_folder, result, head, options.report)
            shutil.rmtree(folder)
        processes.wait()
    return result


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise FinetuneError(
            f"the path of the run, {os.fsencode(path)!r}, is not UTF-8 text, and checkpoints can't be read from it; choose"
            " another with --run"
        ) from error


def _start(options: FinetuneOptions) -> StartRun | None:
    """Return the run to start from, if any."""
    if options.from_scratch and (options.weights is not None or options.from_run is not None):
        raise FinetuneError(
            "--from-scratch excludes --weights and --from-run; drop them, or drop --from-scratch"
        )
    return StartRun.open(options.from_run) if options.from_run is not None else None


def _named(options: FinetuneOptions, start: StartRun | None) -> FinetuneOptions:
    """Return the options with the network and the weights that training starts from."""
    if start is not None and start.tuned:
        return dataclasses.replace(options, backbone=f"run:{start.run.path}", weights=None)
    if options.from_scratch:
        return dataclasses.replace(options, weights=f"random:{options.recipe.seed}")
    return options


@contextmanager
def _claimed(options: FinetuneOptions, source: ImageSource, processes: Processes) -> Iterator[Path]:
    """Claim the path of the run, by default ``runs/DATA.BACKBONE-finetune``, for all processes of the training."""
    default = default_run_path(default_cache_path(source.root, options.backbone), "finetune")
    _check_name(Path(options.run or default))
    if not processes.leads:
        yield processes.shared(None)
        return
    with claim_run(options.run, default, options.report) as path:
        yield processes.shared(path)


def _train(tuning: Tuning, name: str) -> TrainingResult:
    """Train, and report each epoch."""
    job, options, history = tuning.job, tuning.plan.options, list[Epoch]()
    job.folder.mkdir(parents=True, exist_ok=True)
    leads = job.processes.leads
    logger: Logger | None = None
    if options.log_to and leads:
        logger = open_logger(options.log_to, job.folder, name, dataclasses.asdict(job.recipe))

    def on_epoch(epoch: Epoch) -> None:
        history.append(epoch)
        options.report.note(str(epoch))
        if leads:
            write_history(history, job.folder / HISTORY)
        if logger:
            logger.epoch(epoch)

    with options.report.task("Training", job.recipe.epochs * job.sampler.epoch_rows) as advance:
        trained = train(job, advance=advance, on_epoch=on_epoch)
    if logger:
        logger.close()
    return trained


def _head(tuning: Tuning, trained: TrainingResult) -> FittedHead:
    """Return the trained head, with its temperature fitted on the validation images."""
    estimator, plan = to_estimator(tuning.job.network.head), tuning.plan
    kind = HEADS["linear"]
    temperature, validation, predictions = calibrate(
        estimator, trained.logits, plan.rows.images.labels[plan.rows.val]
    )
    return FittedHead(
        name=kind.name,
        estimator=estimator,
        classes=plan.rows.images.classes,
        params=kind.complete({"scale": "none"}),
        trials=(),
        curve=_curve(trained),
        validation=validation,
        temperature=temperature,
        seconds=sum(epoch.seconds for epoch in trained.history),
        dim=tuning.job.network.head.in_features,
        dtype="float32",
        validation_predictions=predictions,
    )


def _write(folder: Path, result: FinetuneResult, tuning: Tuning, head: FittedHead) -> None:
    """Write the network, the head and the numbers of its curves."""
    save_tuned(folder, tuning.plan.net, tuning.trunk, tuning.plan.net.transform)
    save_head(head, folder)
    write_history(result.history, folder / HISTORY)
    logs = tuning.job.folder / "tensorboard"
    if logs.exists():
        copy_folder(logs, folder / logs.name)


def _draw(folder: Path, result: FinetuneResult, head: FittedHead, report: Reporter) -> None:
    """Draw the curves of the training into the folder that becomes the run, and has all numbers."""
    if curve := head.curve:
        title = f"{result.backbone}, frost line: {result.frost_line}"
        drawn(
            folder / "curve.png",
            lambda path: plot_curve(curve, path, title=title),
            report,
            place=result.run,
        )


def _curve(trained: TrainingResult) -> Curve:
    columns = {
        "train loss": "train_loss",
        "validation loss": "val_loss",
        "train accuracy": "train_accuracy",
        "validation accuracy": "val_accuracy",
        "lr": "lr",
    }
    series = {
        label: tuple(float(getattr(epoch, name)) for epoch in trained.history)
        for label, name in columns.items()
    }
    known = {label: values for label, values in series.items() if not math.isnan(values[0])}
    x = tuple(float(epoch.epoch) for epoch in trained.history)
    return Curve("epoch", x, known, float(trained.best_epoch), log_x=False)


def _record(result: FinetuneResult, tuning: Tuning, tuned: Backbone, head: FittedHead) -> TunedRun:
    plan, images = tuning.plan, tuning.plan.rows.images
    layers = tuned.resolve_layers([EMBEDDING])
    (reference,) = plan_engines(tuned, engine="eager", precision="fp32", device="cpu")
    spec = specify(tuned, layers, reference)
    features = CacheRecord(
        path=FEATURES,
        key=spec.digest,
        spec=spec,
        check=None,
        source=images.source.root,
        reading=images.source.notes.options,
        weights=None,
        rows=len(images.ok),
    )
    return TunedRun(
        created=now(),
        caches=(features,),
        layer=layers[0].key,
        classes=images.classes,
        split=describe_split(plan.rows, plan.options.fractions),
        head=describe_head(head, head.name),
        finetune=_tuning_record(result, plan),
        seed=plan.recipe.seed,
        trials=(),
        metrics=describe_metrics(head),
        seconds=Durations(fit=result.training_seconds, total=result.seconds),
        versions=library_versions(),
    )


def _tuning_record(result: FinetuneResult, plan: Plan) -> TuningRecord:
    options = plan.options
    return TuningRecord(
        recipe=options.recipe,
        backbone=options.backbone,
        weights=None if options.weights is None else plan.net.origin,
        weights_sha256=plan.net.weights_sha256,
        image_size=options.image_size,
        limit=options.limit,
        from_scratch=options.from_scratch,
        from_run=None if options.from_run is None else str(resolved(options.from_run)),
        cache=None if result.cache is None else str(resolved(result.cache)),
        trained=result.trained,
        frozen=result.frozen,
        frozen_sha256=result.frozen_sha256,
        best_epoch=result.best_epoch,
    )
