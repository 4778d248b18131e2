"""Records of the caches of a run, and access to the caches if they are unchanged."""

import contextlib

from frostline.features.cache import FeatureCache
from frostline.features.cache.contract import Provenance
from frostline.features.errors import FeaturesError
from frostline.pipeline.inputs.joined_caches import AnyCache, members
from frostline.pipeline.runs.record import CacheRecord
from frostline.system.files import resolved


def describe_caches(cache: AnyCache) -> tuple[CacheRecord, ...]:
    """Return the record of a cache, or of each of several joined caches."""
    return tuple(
        CacheRecord(
            path=str(resolved(each.path)),
            key=each.key,
            spec=each.spec,
            check=each.check,
            source=each.source,
            reading=each.notes.options,
            weights=each.weights or None,
            rows=each.rows,
        )
        for each in members(cache)
    )


def open_unchanged(trained: CacheRecord) -> FeatureCache | None:
    """Open a cache that a run was trained on; None if it is missing or damaged, or its specification has changed."""
    with contextlib.suppress(OSError, FeaturesError):
        cache = FeatureCache.open(trained.path)
        return cache if cache.key == trained.key else None
    return None


def provenance_of(trained: CacheRecord) -> Provenance:
    """Return how the features of a cache were computed.

    If an earlier version wrote the run without a check, the check is read from the cache.
    """
    check = trained.check
    if check is None and not trained.spec.is_reference:
        cache = open_unchanged(trained)
        check = cache.check if cache else None
    return Provenance(trained.spec, check)
