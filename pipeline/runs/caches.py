"""Records of the caches of a run, access to them if they are unchanged, and the check that other caches fit the run."""

import contextlib

from frostline.features.cache import FeatureCache
from frostline.features.cache.contract import Compatibility, Provenance
from frostline.features.cache.imported.facts import describe_vectors
from frostline.features.errors import FeaturesError
from frostline.features.spec import Difference
from frostline.pipeline.errors import RunError
from frostline.pipeline.inputs.joined_caches import AnyCache, members
from frostline.pipeline.inputs.layers import layers_of
from frostline.pipeline.progress import Reporter
from frostline.pipeline.runs.record import CacheRecord
from frostline.pipeline.runs.run import Run
from frostline.system.files import resolved

_NETWORK = ("backbone", "layers", "transform", "weights_sha256")


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


def check_compatible(run: Run, data: AnyCache, report: Reporter) -> None:
    """Check that a run can be used on the features of a cache, or of several joined ones.

    Features of another engine are accepted within the numerical contract, with a note. Imported vectors fit a run on
    imported vectors of the same name and declared facts, and no other.

    Raises:
        RunError: They are features of something else, or no check shows that they agree.
    """
    caches = members(data)
    if len(caches) != len(run.caches):
        raise RunError(
            f"{data.path}: got {len(caches)} caches, expected {len(run.caches)}, as {run.path} was trained on. Join caches"
            " of the same backbones with +, in the same order."
        )
    for index, (trained, cache) in enumerate(zip(run.caches, caches, strict=True)):
        layers = frozenset(layers_of(run.layer, index))
        _check_features(run, trained, cache, layers)
        _check_computation(
            run, Compatibility(provenance_of(trained), Provenance.of(cache), layers), cache, report
        )


def _check_features(run: Run, trained: CacheRecord, cache: FeatureCache, layers: frozenset[str]) -> None:
    """Raise `RunError` for features of another backbone, transform, layer, decoder or number format."""
    if trained.spec.is_imported != cache.spec.is_imported:
        raise RunError(
            f"{cache.path} holds {describe_vectors(cache.spec)}, and {run.path} was trained on {describe_vectors(trained.spec)}: the two are never"
            " used together, because nothing shows that they agree. Use a cache that was made in the same way, or train on"
            " this one."
        )
    differences = [d for d in trained.spec.differences(cache.spec) if _matters(d, tuned=run.tuned)]
    missing = layers.difference(layer.key for layer in cache.layers)
    widths = {layer.key: layer.dim for layer in cache.layers}
    other = [x for x in trained.spec.layers if x.key in layers & widths.keys() and widths[x.key] != x.dim]
    if not missing and not other and all(d.field == "layers" for d in differences):
        return
    shown = "\n".join(f"  {d.field}: trained on {d.ours!r}, the cache has {d.theirs!r}" for d in differences)
    shown += "".join(f"\n  {x.key}: trained on {x.dim} numbers, the cache has {widths[x.key]}" for x in other)
    remedy = (
        "Import the vectors with the name and the facts of the run, if the same model made them"
        if cache.spec.is_imported
        else "Extract the data again with the run's settings"
    )
    raise RunError(
        f"The features of {cache.path} differ from those that {run.path} was trained on:\n{shown.lstrip(chr(10))}\n"
        f"{remedy}, or train on this cache."
    )


def _matters(difference: Difference, *, tuned: bool) -> bool:
    """Return whether the difference makes features unusable; a tuned head depends on its network alone."""
    if tuned:
        return difference.field.partition(".")[0] in _NETWORK
    return not difference.is_of_computation and not difference.is_of_imported_rows


def _check_computation(run: Run, compatibility: Compatibility, cache: FeatureCache, report: Reporter) -> None:
    """Accept features of another engine within the numerical contract, with a note; else raise `RunError`."""
    if not compatibility.computed_otherwise:
        return
    if not compatibility.is_within_contract:
        raise RunError(
            f"The features of {cache.path} were computed by {compatibility.ours.name}, those that {run.path} was trained on by"
            f" {compatibility.theirs.name}, and no check shows that they agree: {'; '.join(compatibility.failures())}.\n"
            f"Extract the data again with {compatibility.theirs.options}."
        )
    report.note(f"The features of {cache.path} fit {run.path}; they were {compatibility}.")
