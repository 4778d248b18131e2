"""Networks and engines of estimators, shared by all estimators of a process."""

import threading
from collections.abc import Callable, Hashable
from pathlib import Path

from frostline.features.backbones import Backbone
from frostline.features.backbones.tuned import TUNED
from frostline.features.cache import made_with
from frostline.features.cache.store import FeatureStore
from frostline.features.engines import Plan, plan_engines
from frostline.features.errors import ConversionError
from frostline.features.sources.stats import Stat, file_stat
from frostline.features.spec import MIN_COSINE, FeatureSpec, Layer
from frostline.features.table import ImageSource
from frostline.pipeline.extraction.compute import FillResult, compute
from frostline.pipeline.extraction.engine_choice import Computation, plan_computation, specify
from frostline.pipeline.inputs.networks import load_network
from frostline.pipeline.options.extraction import CacheOptions, ExtractOptions
from frostline.system.atomic import names_in

_MANY_IMAGES = 1 << 31
"""Number of images for which ``auto`` chooses an engine. The features must not depend on how many rows a fold has."""

_decided: dict[tuple[Hashable, str], Computation] = {}
"""Computation of each combination of options, without its engine, by the specification that was preferred."""

_loaded: dict[Hashable, tuple[Backbone, Computation | None]] = {}
"""The network that was used last, with its engine if one was built."""

_lock = threading.RLock()


class Extractor:
    """Computation of features with certain options.

    Args:
        options: The options.
        root: Folder of the stores.
    """

    def __init__(self, options: ExtractOptions, root: Path) -> None:
        self._options, self._root = options, root
        self._key = (
            *(options.backbone, options.weights, options.image_size, tuple(options.layers)),
            *(options.engine, options.precision, options.device, options.batch_size, options.decoder),
            *_state(options),
        )

    def store(self, spec: FeatureSpec) -> FeatureStore:
        """Return the store of a specification."""
        name = spec.backbone.rpartition(":")[2]
        folder = "".join(each if each.isalnum() or each in "._-" else "-" for each in name)
        return FeatureStore(
            self._root / f"{folder}-{spec.digest[:32]}", spec.digest, self._options.report.warn
        )

    def spec(self, images: Callable[[], ImageSource], fitted: FeatureSpec | None = None) -> FeatureSpec:
        """Return the specification of the features.

        With ``auto``, the engine and precision are those of `fitted`, else those of features that are stored, else the
        fastest. The choice is made once in a process.

        Args:
            images: Function that returns images to compare the engine with the reference on.
            fitted: Specification of earlier features, which is preferred.

        Raises:
            FeaturesError: The backbone, its weights, the layer or the engine are not available.
        """
        with _lock:
            key, wanted = self._key, fitted.digest if fitted else ""
            known = _decided.get((key, wanted)) or _decided.get((key, ""))
            if known is None or (fitted and known.spec.digest != wanted and (key, wanted) not in _decided):
                known = self._decide(images, fitted)
            _decided[key, wanted] = self._planned = known.with_engine(None)
            _decided.setdefault((key, ""), self._planned)
            return known.spec

    def output(self) -> tuple[str, Layer]:
        """Return the full name of the backbone, and the layer.

        Raises:
            FeaturesError: The backbone, its weights or the layer are not available.
        """
        with _lock:
            net, _ = self._network()
            (layer,) = net.resolve_layers(self._options.layers)
            return net.name, layer

    def fill(self, path: Path, source: ImageSource) -> FillResult:
        """Compute the features of images into a new cache, as `spec` has chosen."""
        with _lock:
            net, built = self._network()
            if built is None or built.spec != self._planned.spec:
                built = self._planned.with_engine(self._planned.engine(net, path, len(source.table)))
                _loaded[self._key] = net, built
        return compute(source, net, built, path, self._options)

    def _network(self) -> tuple[Backbone, Computation | None]:
        if self._key not in _loaded:
            _loaded.clear()
            _loaded[self._key] = load_network(self._options), None
        return _loaded[self._key]

    def _decide(self, images: Callable[[], ImageSource], fitted: FeatureSpec | None) -> Computation:
        net, _ = self._network()
        layers = net.resolve_layers(self._options.layers)
        plans = plan_engines(
            net,
            engine=self._options.engine,
            precision=self._options.precision,
            device=self._options.device,
            batch_size=self._options.batch_size,
            images=_MANY_IMAGES,
        )
        specs = {plan: specify(net, layers, plan, decoder=self._options.decoder) for plan in plans}
        ordered = sorted(plans, key=lambda plan: specs[plan] != fitted)  # stable
        for plan in ordered:
            path = self.store(specs[plan]).any_path()
            earlier = made_with(path) if path else None
            if earlier and earlier.spec == specs[plan]:
                return Computation(plan, specs[plan], earlier.origin.check)
        for plan in ordered:
            last = plan == ordered[-1]
            path = self.store(specs[plan]).new_path()
            try:
                built = plan_computation(net, layers, images(), path, self._options_of(plan))
            except ConversionError:
                if last:
                    raise
                continue
            if last or built.check is None or built.check.min_cosine >= MIN_COSINE:
                _loaded[self._key] = net, built
                return built
        raise ValueError("no plans; expected those of plan_engines")

    def _options_of(self, plan: Plan) -> CacheOptions:
        given = self._options
        return CacheOptions.of(
            given, engine=plan.kind, precision=plan.precision, device=plan.device, report=given.report
        )


def _state(options: ExtractOptions) -> tuple[Stat, ...]:
    """Return what tells that files of weights have changed."""
    paths = [str(options.weights)] if options.weights is not None else []
    if options.backbone.startswith(TUNED):
        folder = Path(options.backbone.removeprefix(TUNED))
        paths += [str(folder / name) for name in sorted(names_in(folder))]
    return tuple(map(file_stat, paths))
