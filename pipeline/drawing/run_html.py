"""A run as HTML, for notebooks: how it was trained, its scores, and a few thumbnails of its data."""

from typing import TYPE_CHECKING

import msgspec

from frostline.features.cache.html import page, thumbnails
from frostline.features.errors import FeaturesError
from frostline.pipeline.runs.caches import open_unchanged

if TYPE_CHECKING:
    from frostline.pipeline.runs.run import Run

_CLASSES = 20


def run_html(run: "Run") -> str:
    """Return HTML that shows a run; thumbnails need the cache that it was trained on."""
    record = run.record
    params = ", ".join(f"{name}={value}" for name, value in record.head.params.items())
    classes = ", ".join(record.classes[:_CLASSES])
    more = len(record.classes) - _CLASSES
    counts = msgspec.structs.asdict(record.split.counts)
    facts = {
        "backbone": " + ".join(each.spec.backbone for each in run.caches),
        "layer": record.layer,
        "head": f"{record.head.kind} ({params})" if params else record.head.kind,
        "images": ", ".join(f"{count:,} {name}" for name, count in counts.items()),
        "classes": f"{classes} and {more:,} more" if more > 0 else classes,
        "validation": _scores(record.metrics.validation),
        "trained": record.created,
        "data": ", ".join(dict.fromkeys(each.source for each in run.caches)),
    }
    tiles: list[str] = []
    cache = open_unchanged(run.caches[0]) if run.caches else None
    remark = "Images are not shown, because the cache of this run is missing or has changed."
    if cache is not None:
        try:
            tiles, remark = thumbnails(cache)
        except (FeaturesError, OSError) as error:
            remark = str(error)
    return page(f"Run {run.path.name}", facts, tiles, remark)


def _scores(metrics: msgspec.Struct) -> str:
    values = msgspec.structs.asdict(metrics)
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items() if isinstance(value, float))
