"""The finetune stage: train a backbone above its frost line together with a linear head, and write a run."""

import dataclasses
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from frostline.classifiers.fitting.fit import calibrate
from frostline.classifiers.fitting.fitted_head import Curve, FittedHead
from frostline.classifiers.heads.catalog import HEADS
from frostline.classifiers.saving.head_files import save_head
from frostline.features.backbones import Backbone, load_backbone
from frostline.features.backbones.tuned import save_tuned
from frostline.features.engines import plan_engines
from frostline.features.images.batches import default_workers
from frostline.features.table import ImageSource
from frostline.pipeline.drawing.plots import plot_curve
from frostline.pipeline.errors import FinetuneError
from frostline.pipeline.extraction.defaults import default_cache_path
from frostline.pipeline.extraction.engine_choice import specify
from frostline.pipeline.hosts.versions import library_versions, now
from frostline.pipeline.inputs.learning_rows import LearningRows
from frostline.pipeline.inputs.scanned_images import check_images
from frostline.pipeline.inputs.sources import opened_source
from frostline.pipeline.options.extraction import DEFAULT_BACKBONE
from frostline.pipeline.options.splits import DEFAULT_FRACTIONS
from frostline.pipeline.progress import SILENT, Reporter
from frostline.pipeline.runs.directory import FEATURES, check_new, new_run_path, write_run
from frostline.pipeline.runs.head import describe_head, describe_metrics
from frostline.pipeline.runs.predictions import save_validation
from frostline.pipeline.runs.record import (
    CacheRecord,
    Counts,
    Durations,
    SplitRecord,
    TunedRun,
    TuningRecord,
    save_record,
)
from frostline.pipeline.runs.split import save_split
from frostline.pipeline.tuning.preparation import NamedBackbone, Plan, Tuning, prepare
from frostline.pipeline.tuning.recipe import Recipe
from frostline.pipeline.tuning.start import EMBEDDING, StartRun, to_estimator
from frostline.pipeline.tuning.trainer.logs import Logger, LogTo, open_logger, write_history
from frostline.pipeline.tuning.trainer.loop import Epoch, TrainingResult, train
from frostline.pipeline.tuning.trainer.processes import joined

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
        validation: Scores of the best epoch on the validation images, see `classifiers.fitting.fitted_head.FittedHead`;
            empty without validation images.
        seconds: Wall time of this call.
        training_seconds: Wall time of all epochs, including earlier calls.
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


def finetune(
    data: str | Path | ImageSource,
    *,
    backbone: str = DEFAULT_BACKBONE,
    weights: str | Path | None = None,
    from_run: str | Path | None = None,
    from_scratch: bool = False,
    recipe: Recipe | None = None,
    image_size: int | None = None,
    cached: bool | None = None,
    caches: str | Path = ".",
    run: str | Path | None = None,
    device: str = "auto",
    workers: int | None = None,
    fractions: tuple[float, float, float] = DEFAULT_FRACTIONS,
    limit: int | None = None,
    max_bad: float = 0.01,
    log_to: LogTo | None = None,
    restart: bool = False,
    report: Reporter = SILENT,
) -> FinetuneResult:
    """Train a backbone above its frost line together with a linear head, and keep the epoch that is best on validation.

    Test images are only checked for readability. If the call is interrupted, repeating it resumes from the last
    checkpoint and gives the same curve. If it was started by torchrun or ``accelerate launch``, all processes
    train together.

    Args:
        data: Image folder or manifest, see `features.sources.open_source`; or any other image source. Grey images
            are converted to three equal channels.
        backbone: Name of the backbone; see `features.backbones.load_backbone`.
        weights: Local weights to load instead of the pretrained ones.
        from_run: Run whose linear head to start from. The head is fitted again on the training rows alone, because
            epochs are selected on validation (LP-FT, Kumar et al. 2022). Or a fine-tuned run to continue from.
        from_scratch: Whether to start from random weights, drawn with the recipe's seed.
        recipe: Settings of the training.
        image_size: Side in pixels of the network's square input; by default the size of its pretrained weights.
        cached: Whether to compute the output of the frozen stages once, store it in a cache and train on it; by
            default whenever possible: with a fixed frost line above the images, and nothing random below it. The
            output is computed in the precision of the training passes and stored in float16 (relative precision
            2^-11).
        caches: Folder for that cache.
        run: Run directory to write; by default a new one under ``runs/``.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        workers: Decoding processes; by default one per core; 0 decodes in the main process.
        fractions: Fractions of train, val and test for data without declared splits.
        limit: Use only this many images, evenly spaced over the data set.
        max_bad: Largest tolerated fraction of unreadable images.
        log_to: ``tensorboard`` or ``mlflow``, in addition to the run's own table and plot.
        restart: Discard an unfinished training of the same run.
        report: Receiver of progress.

    Raises:
        FinetuneError: The options, the backbone and the data are incompatible, or training diverged.
        FeaturesError: The data, backbone or weights are not usable.
        ClassifiersError: The splits or the run's head are not usable.
        LeakError: The same image bytes, or one group, are in more than one split.
        RunError: The run directory exists already, or the run to start from is not usable.
    """
    started = time.perf_counter()
    recipe = recipe or Recipe()
    named, start = _named(backbone, weights, from_run, image_size, recipe, from_scratch=from_scratch)
    with joined(device) as processes, opened_source(data, limit) as source:
        report = report if processes.leads else SILENT
        net = named.load()
        if start is not None:
            start.check(net)
        path = Path(run) if run is not None else _run_path(source, backbone)
        check_new(path)
        folder = path.with_name(f".{path.name}.tuning")
        if restart and processes.leads:
            shutil.rmtree(folder, ignore_errors=True)
        processes.wait()
        images = check_images(
            source,
            net.transform,
            known=folder / _KNOWN,
            workers=workers or None,
            max_bad=max_bad,
            report=report,
        )
        rows = LearningRows.of(images, fractions, report)
        plan = Plan(
            net=net,
            named=named,
            rows=rows,
            limit=limit,
            recipe=recipe,
            from_scratch=from_scratch,
            processes=processes,
            workers=default_workers() if workers is None else workers,
            caches=Path(caches),
        )
        tuning = prepare(plan, start, folder, cached=cached, report=report)
        trained = _train(tuning, path.name, log_to, report)
        head = _head(tuning, trained)
        result = FinetuneResult(
            run=path,
            backbone=net.name,
            from_scratch=from_scratch,
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
        )
        if processes.leads:
            with write_run(path) as run_folder:
                save_split(run_folder, rows)
                save_validation(run_folder, rows, head)
                _write(run_folder, result, tuning, head)
                tuned = load_backbone(f"run:{run_folder}")
                record = _record(result, tuning, tuned, head, fractions=fractions, from_run=from_run)
                save_record(run_folder, record)
            shutil.rmtree(folder)
        processes.wait()
    return result


def _named(
    backbone: str,
    weights: str | Path | None,
    from_run: str | Path | None,
    image_size: int | None,
    recipe: Recipe,
    *,
    from_scratch: bool,
) -> tuple[NamedBackbone, StartRun | None]:
    """Return the network to start from, and the run whose head to start from."""
    if from_scratch and (weights is not None or from_run is not None):
        raise FinetuneError(
            "--from-scratch excludes --weights and --from-run; drop them, or drop --from-scratch"
        )
    start = StartRun.open(from_run) if from_run is not None else None
    if start is not None and start.tuned:
        return NamedBackbone(f"run:{start.run.path}", None, image_size), start
    return NamedBackbone(backbone, f"random:{recipe.seed}" if from_scratch else weights, image_size), start


def _run_path(source: ImageSource, backbone: str) -> Path:
    """Return ``runs/DATA.BACKBONE-finetune``, numbered if it exists already."""
    return new_run_path(default_cache_path(source.root, backbone), "finetune")


def _train(tuning: Tuning, name: str, log_to: LogTo | None, report: Reporter) -> TrainingResult:
    """Train, and report each epoch."""
    job, history = tuning.job, list[Epoch]()
    job.folder.mkdir(parents=True, exist_ok=True)
    leads = job.processes.leads
    logger: Logger | None = (
        open_logger(log_to, job.folder, name, dataclasses.asdict(job.recipe)) if log_to and leads else None
    )

    def on_epoch(epoch: Epoch) -> None:
        history.append(epoch)
        report.note(str(epoch))
        if leads:
            write_history(history, job.folder / HISTORY)
        if logger:
            logger.epoch(epoch)

    with report.task("Training", job.recipe.epochs * job.sampler.epoch_rows) as advance:
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
    """Write the network, the head and the curves."""
    save_tuned(folder, tuning.plan.net, tuning.trunk, tuning.plan.net.transform)
    save_head(head, folder)
    write_history(result.history, folder / HISTORY)
    if head.curve:
        title = f"{result.backbone}, frost line: {result.frost_line}"
        plot_curve(head.curve, folder / "curve.png", title=title)
    logs = tuning.job.folder / "tensorboard"
    if logs.exists():
        shutil.copytree(logs, folder / logs.name)


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


def _record(
    result: FinetuneResult,
    tuning: Tuning,
    tuned: Backbone,
    head: FittedHead,
    *,
    fractions: tuple[float, float, float],
    from_run: str | Path | None,
) -> TunedRun:
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
        weights=None,
        rows=len(images.ok),
    )
    return TunedRun(
        created=now(),
        caches=(features,),
        layer=layers[0].key,
        classes=images.classes,
        split=SplitRecord(
            fractions=fractions, counts=Counts(**plan.rows.counts), problems=plan.rows.problems
        ),
        head=describe_head(head, head.name),
        finetune=_tuning_record(result, plan, from_run),
        seed=plan.recipe.seed,
        trials=(),
        metrics=describe_metrics(head),
        seconds=Durations(fit=result.training_seconds, total=result.seconds),
        versions=library_versions(),
    )


def _tuning_record(result: FinetuneResult, plan: Plan, from_run: str | Path | None) -> TuningRecord:
    named = plan.named
    return TuningRecord(
        recipe=dataclasses.asdict(plan.recipe),
        backbone=named.backbone,
        weights=None if named.weights is None else str(named.weights),
        weights_sha256=plan.net.weights_sha256,
        image_size=named.image_size,
        limit=plan.limit,
        from_scratch=plan.from_scratch,
        from_run=None if from_run is None else str(Path(from_run).resolve()),
        cache=None if result.cache is None else str(result.cache.resolve()),
        trained=result.trained,
        frozen=result.frozen,
        frozen_sha256=result.frozen_sha256,
        best_epoch=result.best_epoch,
    )
