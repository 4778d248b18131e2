"""Commands that explore the vectors of a cache: ``search``, ``dedupe``, ``outliers``, ``clusters`` and ``suggest``."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from frostline import pipeline
from frostline.commands.interface.options import (
    DATA,
    PATH,
    example,
    format_option,
    options_of,
    output_options,
)
from frostline.commands.interface.output import CsvTable, Output, Table, Text
from frostline.pipeline.options.vectors.clusters import ClusterOptions
from frostline.pipeline.options.vectors.quality import DedupeOptions, OutlierOptions
from frostline.pipeline.options.vectors.search import SearchOptions
from frostline.pipeline.options.vectors.suggest import SuggestOptions

_CLUSTER_COLUMNS = ("cluster", "size", "labelled", "label", "purity", "spread", "nearest")


@click.command(
    epilog=example(
        "frostline search photos.h5 new.jpg -k 12 --out nearest.html",
        "frostline search photos.h5 --row cats/0017.jpg --in-split train",
    )
)
@click.argument("cache", type=PATH)
@click.argument("images", type=DATA, nargs=-1, metavar="[IMAGE|FOLDER...]")
@format_option("text", "csv", "json")
@options_of(SearchOptions)
@output_options
def search(*, output: Output, cache: Path, images: tuple[str | Path, ...], **options: Any) -> None:
    """Find the nearest images of CACHE for new images, or for --row.

    New images go through the backbone, transform and layer of CACHE. The search is exact. An image of the cache is not
    among its own neighbours, but its copies are. An image that cannot be read gets the reason in place of neighbours,
    and the exit code is 1.
    """
    from frostline.pipeline.exploring.search import COLUMNS, as_rows

    result = pipeline.search(cache, images, report=output.report, **options)
    output.show(
        result, _csv(COLUMNS, as_rows(result.queries)) if output.style == "csv" else _search_text(result)
    )
    if result.unread:
        raise click.ClickException(f"{result.unread} of {len(result.queries)} images could not be read.")


def _search_text(result: "pipeline.SearchResult") -> Text:
    measure = "1 - cosine" if result.metric == "cosine" else "distance"
    for each in result.queries:
        title = f"{each.query}{f' ({each.label})' if each.label else ''}"
        if each.error is not None:
            yield f"{title}: {each.error}"
            continue
        rows = [
            [str(rank), f"{one.distance:.4f}", one.image, one.label, one.split]
            for rank, one in enumerate(each.neighbours, 1)
        ]
        yield Table(["rank", measure, "image", "label", "split"], rows, title=title)
        yield ""
    yield f"{result.cache}: {result.searched} images searched in layer {result.layer}"
    yield from _written(result)


@click.command(
    epilog=example(
        "frostline dedupe photos.h5 --out duplicates.html   # to look at",
        "frostline dedupe photos.h5 --out photos-once.csv && frostline extract photos-once.csv",
    )
)
@click.argument("cache", type=PATH)
@format_option("text", "csv", "json")
@options_of(DedupeOptions)
@output_options
def dedupe(*, output: Output, cache: Path, **options: Any) -> None:
    """Find groups of equal and nearly equal images of CACHE.

    One image of each group is kept. The others are listed, and left out of the manifest that --out writes; no file is
    deleted. Groups across splits and with different labels are named.
    """
    from frostline.pipeline.exploring.dedupe import COLUMNS, as_rows

    result = pipeline.dedupe(cache, report=output.report, **options)
    output.show(
        result, _csv(COLUMNS, as_rows(result.images)) if output.style == "csv" else _dedupe_text(result)
    )


def _dedupe_text(result: "pipeline.Duplicates") -> Text:
    if result.images:
        rows = [
            [
                str(each.group),
                "kept" if each.kept else "",
                "equal bytes" if each.equal and not each.kept else f"{each.similarity:.4f}",
                each.image,
                each.label,
                each.split,
            ]
            for each in result.images
        ]
        yield Table(["group", "kept", "similarity", "image", "label", "split"], rows)
        yield ""
    yield (
        f"{result.cache}: {result.groups} groups among {result.compared} images (centred cosine of {result.layer} at least"
        f" {result.threshold:g}); {result.dropped} images are not kept (rule: {result.keep})"
    )
    for what, numbers in (
        ("images in several splits", result.across_splits),
        ("different labels", result.different_labels),
        ("a label that the kept image does not have", result.lost_labels),
    ):
        if numbers:
            yield f"Warning: {len(numbers)} groups with {what}: {', '.join(map(str, numbers[:20]))}{' ...' * (len(numbers) > 20)}"
    yield from _written(result)


@click.command(epilog=example("frostline outliers photos.h5 --out outliers.html"))
@click.argument("cache", type=PATH)
@format_option("text", "csv", "json")
@options_of(OutlierOptions)
@output_options
def outliers(*, output: Output, cache: Path, **options: Any) -> None:
    """List images of CACHE that are unlike the others.

    Images that are far from all others, nearer to another class than to their own, dark, blurred, or of unusual size
    or shape. The last four need the images themselves.
    """
    from frostline.pipeline.exploring.outliers import COLUMNS, as_rows

    result = pipeline.outliers(cache, report=output.report, **options)
    output.show(
        result, _csv(COLUMNS, as_rows(result.found)) if output.style == "csv" else _outliers_text(result)
    )


def _outliers_text(result: "pipeline.Outliers") -> Text:
    from frostline.pipeline.exploring.outliers import KINDS

    for kind in result.counts:
        rows = [
            [f"{each.z:.1f}", f"{each.value:.4g}", each.image, each.label, each.remark]
            for each in result.found
            if each.kind == kind
        ]
        if rows:
            yield Table(
                ["z", "value", "image", "label", ""], rows, title=f"{KINDS[kind].capitalize()}: {len(rows)}"
            )
            yield ""
    found = ", ".join(f"{count} {kind}" for kind, count in result.counts.items())
    pixels = f", pixels of {result.measured}" if result.measured else ""
    yield f"{result.cache}: {result.images} images compared in layer {result.layer}{pixels}: {found}"
    yield from _written(result)


@click.command(
    epilog=example(
        "frostline clusters photos.h5 --out clusters.html",
        "frostline clusters photos.h5 --count auto --project pca:64",
    )
)
@click.argument("cache", type=PATH)
@format_option("text", "csv", "json")
@options_of(ClusterOptions)
@output_options
def clusters(*, output: Output, cache: Path, **options: Any) -> None:
    """Cluster the images of CACHE, and compare the clusters with the labels.

    No label is used to form clusters. The labels of test images are not read. The table that --out writes has one line
    per image; --format csv prints one line per cluster.
    """
    result = pipeline.clusters(cache, report=output.report, **options)
    output.show(
        result,
        _csv(_CLUSTER_COLUMNS, _cluster_rows(result)) if output.style == "csv" else _clusters_text(result),
    )


def _cluster_rows(result: "pipeline.ClusterResult") -> list[dict[str, Any]]:
    return [
        {
            "cluster": each.number,
            "size": each.size,
            "labelled": each.labelled,
            "label": each.label,
            "purity": "" if each.purity is None else f"{each.purity:.6f}",
            "spread": "" if each.spread is None else f"{each.spread:.6f}",
            "nearest": each.nearest[0],
        }
        for each in result.clusters
    ]


def _clusters_text(result: "pipeline.ClusterResult") -> Text:
    if result.silhouettes:
        rows = [[str(count), f"{value:.4f}"] for count, value in result.silhouettes.items()]
        yield Table(["clusters", "silhouette"], rows)
        yield ""
    rows = [
        [
            str(each.number),
            str(each.size),
            "" if each.spread is None else f"{each.spread:.3f}",
            "" if each.purity is None else f"{each.purity:.3f}",
            each.label,
            "" if each.number < 0 else each.nearest[0],
        ]
        for each in result.clusters
    ]
    yield Table(["cluster", "images", "spread", "purity", "most frequent class", "nearest the centre"], rows)
    yield ""
    noise = f", {result.noise} images of noise (cluster -1)" if result.method == "hdbscan" else ""
    yield (
        f"{result.cache}: {result.count} clusters of {result.images} images by {result.method} in layer {result.layer}{noise}"
    )
    if found := result.agreement:
        labelled = sum(each.labelled for each in result.clusters)
        of = f"{found.rows} of {labelled}" if found.rows < labelled else str(found.rows)
        yield (
            f"agreement with {of} labels of train and val{', without noise' * (found.rows < labelled)}: NMI {found.nmi:.4f},"
            f" adjusted Rand index {found.ari:.4f}, purity {found.purity:.4f}"
        )
    pure = sorted(
        (each for each in result.clusters if each.purity is not None and each.number >= 0),
        key=lambda each: each.purity or 0,
    )
    if shown := min(3, len(pure) // 2):
        least, most = (
            ", ".join(str(each.number) for each in part) for part in (pure[:shown], pure[: -shown - 1 : -1])
        )
        yield f"least pure: {least}; purest: {most}"
    yield from _written(result)


@click.command(
    epilog=example(
        "frostline suggest photos.h5 -n 50 --out to-label.csv",
        "frostline suggest photos.h5 -n 50 --run runs/photos-linear --out next/",
    )
)
@click.argument("cache", type=PATH, metavar="CACHE[+CACHE...]")
@format_option("text", "csv", "json")
@options_of(SuggestOptions)
@output_options
def suggest(*, output: Output, cache: Path, **options: Any) -> None:
    """Suggest which unlabelled images of CACHE to label next.

    Unreadable images, images that are declared to be in test, and copies are not suggested. Fill in the labels in the
    manifest that --out writes, and extract it.
    """
    from frostline.pipeline.exploring.suggest import COLUMNS, as_rows

    result = pipeline.suggest(cache, report=output.report, **options)
    output.show(
        result, _csv(COLUMNS, as_rows(result.images)) if output.style == "csv" else _suggest_text(result)
    )


def _suggest_text(result: "pipeline.Suggestions") -> Text:
    from frostline.pipeline.exploring.suggest import COLUMNS

    listed = [
        [
            str(rank),
            each.image,
            each.split,
            _four_digits(each.distance),
            each.predicted or "",
            _four_digits(each.probability),
            _four_digits(each.uncertainty),
        ]
        for rank, each in enumerate(result.images, 1)
    ]
    used = [place for place in range(len(COLUMNS)) if any(row[place] for row in listed)]
    yield Table([COLUMNS[place] for place in used], [[row[place] for place in used] for row in listed])
    yield ""
    copies = f" ({result.copies} copies left out)" if result.copies else ""
    by = f"{result.by} in layer {result.layer}" if result.by != "uncertainty" else result.by
    yield (
        f"{result.cache}: {len(result.images)} of {result.unlabelled} unlabelled images{copies} by {by};"
        f" {result.labelled} labelled images of train and val"
    )
    yield from _written(result)


def _four_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _written(result: Any) -> Text:
    for what in ("table", "listing", "manifest", "picture", "page"):
        if path := getattr(result, what, None):
            yield f"{'list' if what == 'listing' else what}: {path}"


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Text:
    yield CsvTable(columns, [[row[name] for name in columns] for row in rows])
