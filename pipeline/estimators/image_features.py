"""Transformer for scikit-learn: images to feature vectors, of which each is computed once."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

from frostline.errors import OptionError
from frostline.features.spec import FeatureSpec
from frostline.pipeline.errors import EstimatorError
from frostline.pipeline.estimators.columns import ImageColumn, image_column
from frostline.pipeline.estimators.computing import Extractor
from frostline.pipeline.estimators.features import ColumnFeatures, sample_of
from frostline.pipeline.inputs.unreadable import describe_unreadable
from frostline.pipeline.options.extraction import DEFAULT_BACKBONE, AnyDevice, AnyPrecision, ExtractOptions
from frostline.pipeline.progress import Advance
from frostline.system.truncation import no_truncation
from frostline.system.user_folders import user_cache

OnError = Literal["raise", "nan"]

_log = logging.getLogger(__name__)

_OF_FEATURES = (
    "backbone",
    "weights_sha256",
    "transform",
    "layers",
    "dtype",
    "views",
    "seed",
    "format_version",
)
"""Fields of a specification that say what the features are. The others say how they are computed."""


class ImageFeatures(TransformerMixin, BaseEstimator):
    """Transform images to the feature vectors of a frozen, pretrained network, each image once.

    Features are stored on disk and found again by the content of the image, so that cross-validation, a search over
    hyper-parameters, another notebook and another process compute no image twice. An image that has changed at the same
    path is computed anew. The features are those of ``frostline extract`` with the same options.

    Fitting learns nothing from the images. `transform` may be called without `fit`.

    Args:
        backbone: Name of the network; see ``frostline backbones``.
        layer: Output of the network, optionally with a pooling: ``embedding``, ``blocks.4:avg``.
        weights: Local weights file, or ``random:SEED``; None for the pretrained weights.
        image_size: Side of the network's square input in pixels; None for the size that its weights were trained with.
        engine: Engine that executes the forward pass. ``auto``: that of the features that the store holds already, else
            the fastest that is installed and agrees with eager fp32.
        precision: Number format of the forward pass: ``fp32``, ``bf16``, ``fp16``. ``auto``: as for the engine.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        decoder: ``exact``, or ``fast`` for pixels within 3 of 255 of the exact ones.
        batch_size: Images per forward pass; None for a number that suits the device.
        workers: Threads that read and decode images; None for one per core.
        cache: Folder of the stored features, made if it is missing. None for ``features`` in the user's cache folder:
            ``~/.cache/frostline`` on Linux, ``~/Library/Caches/frostline`` on macOS, ``frostline`` in ``LOCALAPPDATA`` on
            Windows, or ``frostline`` in ``XDG_CACHE_HOME`` if that is set. The folder grows by about 4 bytes per number,
            5.4 kB per image for the default network, has no bound, and may be deleted at any time.
        on_error: What to do with images that can't be read: ``raise`` an error that names them, or give them a row of
            ``nan`` and warn.

    Attributes:
        n_features_out_: Length d of a feature vector.
        n_features_in_: 1, the column of images.
        feature_names_in_: Name of the column, if the input of `fit` was a data frame.
        spec_: `FeatureSpec`, all that the features depend on.

    Examples:
        >>> import numpy as np
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.model_selection import cross_val_score
        >>> from sklearn.pipeline import make_pipeline
        >>> from frostline import ImageFeatures
        >>> digits = load_digits(n_class=3)
        >>> images = (digits.images[:60] * 15).astype(np.uint8)  # or a list of paths
        >>> features = ImageFeatures(image_size=32, engine="eager")
        >>> model = make_pipeline(features, LogisticRegression(max_iter=1000))
        >>> scores = cross_val_score(model, images, digits.target[:60], cv=3)  # computes each image once
        >>> bool(scores.mean() > 0.8)
        True
        >>> features.fit_transform(images).shape  # from the store
        (60, 1280)
    """

    def __init__(
        self,
        backbone: str = DEFAULT_BACKBONE,
        *,
        layer: str = "embedding",
        weights: str | Path | None = None,
        image_size: int | None = None,
        engine: str = "auto",
        precision: AnyPrecision = "fp32",
        device: AnyDevice = "auto",
        decoder: str = "exact",
        batch_size: int | None = None,
        workers: int | None = None,
        cache: str | Path | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self.backbone = backbone
        self.layer = layer
        self.weights = weights
        self.image_size = image_size
        self.engine = engine
        self.precision = precision
        self.device = device
        self.decoder = decoder
        self.batch_size = batch_size
        self.workers = workers
        self.cache = cache
        self.on_error = on_error

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: ARG002  # scikit-learn's signature
        """Check the parameters and the type of the input, and find out the length of a feature vector.

        Args:
            X: Images, see `transform`.
            y: Ignored.

        Raises:
            OptionError: A parameter is not valid.
            SourceError: The input is not one column of images.
            FeaturesError: The backbone, its weights, the layer or the engine are not available.
        """
        extractor = self._extractor()
        column = image_column(X)
        validate_data(self, X, reset=True, skip_check_array=True, ensure_2d=False)
        self.n_features_in_ = 1
        self.spec_ = extractor.spec(lambda: sample_of(column))
        self.n_features_out_ = self.spec_.layers[0].dim
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the feature vectors of images.

        Args:
            X: n images: paths, bytes of image files, pictures of Pillow, or uint8 arrays (height, width) or (height,
                width, channels), mixed if need be. They may be in a list, in an array of type object or str with one
                column, in a uint8 array (n, height, width) or (n, height, width, channels), or in a series or a data
                frame with one column of pandas or polars.

        Returns:
            (n, d) float32, or a data frame after `set_output`. Rows of unreadable images are NaN with
            ``on_error="nan"``.

        Raises:
            OptionError: A parameter is not valid.
            SourceError: The input is not one column of images, is empty, or has a missing value.
            EstimatorError: An image can't be read, or the transformer was fitted with other parameters.
            FeaturesError: The backbone, its weights, the layer or the engine are not available.
            OSError: The features can't be stored.
        """
        extractor = self._extractor()
        column = image_column(X)
        fitted: FeatureSpec | None = getattr(self, "spec_", None)
        if fitted:
            validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
        with no_truncation():
            spec = extractor.spec(lambda: sample_of(column), fitted)
            if fitted and fitted != spec:
                _check_same(fitted, spec)
            found = ColumnFeatures(column, extractor, spec, workers=self.workers, report=_REPORT)
        if found.errors:
            self._tell(found.errors, column)
        return found.values

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the d features: ``efficientnet_lite0_0`` and so on, or with the layer ``NAME_LAYER_0``.

        Args:
            input_features: None, or a list with the name of the column of images, which is checked and not used.

        Raises:
            EstimatorError: It is not a list of one name, or another name than that of the column in `fit`.
            FeaturesError: It was not fitted, and the backbone, its weights or the layer are not available.
        """
        spec: FeatureSpec | None = getattr(self, "spec_", None)
        if input_features is not None:
            _check_name(input_features, getattr(self, "feature_names_in_", None))
        name, layer = (spec.backbone, spec.layers[0]) if spec else self._extractor().output()
        parts = [name.rpartition(":")[2], *([layer.key] if layer.key != "embedding" else [])]
        return np.array([f"{'_'.join(parts)}_{index}" for index in range(layer.dim)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False  # of numbers
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        tags.requires_fit = False
        return tags

    def _extractor(self) -> Extractor:
        """Check all parameters.

        Raises:
            OptionError: One is not valid.
        """
        if self.on_error not in get_args(OnError):
            raise OptionError(
                f"on_error: got {self.on_error!r}, expected one of {', '.join(get_args(OnError))}"
            )
        if not isinstance(self.layer, str):
            raise OptionError(
                f"layer: got {self.layer!r}, expected one name; for several layers use a FeatureUnion"
            )
        if not isinstance(self.cache, str | os.PathLike | None):
            raise OptionError(f"cache: got {self.cache!r}, expected the path of a folder, or None")
        options = ExtractOptions(
            backbone=self.backbone,
            layers=(self.layer,),
            weights=self.weights,
            image_size=self.image_size,
            engine=self.engine,
            precision=self.precision,
            device=self.device,
            decoder=self.decoder,
            batch_size=self.batch_size,
            workers=self.workers,
            report=_REPORT,
        )
        return Extractor(options, Path(self.cache) if self.cache is not None else user_cache() / "features")

    def _tell(self, errors: Mapping[int, str], column: ImageColumn) -> None:
        """Raise an error or warn about unreadable images, as the user chose."""
        shown = {column.name(row): reason for row, reason in errors.items()}
        text = describe_unreadable(shown, len(errors), len(column))
        if self.on_error == "raise":
            raise EstimatorError(
                f"{text}\nRemove or repair them, or pass on_error='nan', which gives them a row of NaN"
            )
        warnings.warn(f"{text}\nTheir features are NaN.", UserWarning, stacklevel=3)


def _check_name(given: Any, fitted: NDArray[np.object_] | None) -> None:
    """Check the name of the column of images, in the words that the checks of scikit-learn expect."""
    names = np.asarray(given, object)
    if names.shape != (1,):
        raise EstimatorError(
            "input_features should have length equal to number of features (1), the name of the column of images in a list;"
            f" got {given!r}"
        )
    if not isinstance(names[0], str):
        raise EstimatorError(
            f"input_features: got {given!r}, expected the name of the column of images as text"
        )
    if fitted is not None and names[0] != fitted[0]:
        raise EstimatorError(
            f"input_features is not equal to feature_names_in_: got {names[0]!r}, and the column was named {fitted[0]!r} in"
            " fit"
        )


def _check_same(fitted: FeatureSpec, spec: FeatureSpec) -> None:
    """Refuse other features than those that a transformer was fitted with, and warn if they are computed otherwise."""
    differences = spec.differences(fitted)
    text = ", ".join(f"{each.field} {each.ours!r} instead of {each.theirs!r}" for each in differences)
    if any(each.field.partition(".")[0] in _OF_FEATURES for each in differences):
        raise EstimatorError(
            f"ImageFeatures was fitted with other parameters or weights: now {text}. Fit it again, with what follows it"
        )
    warnings.warn(
        f"Features are computed otherwise than when ImageFeatures was fitted: {text}.",
        UserWarning,
        stacklevel=3,
    )


class _Report:
    """Reporter that passes warnings on to Python's, and notes to its log."""

    def note(self, message: str) -> None:
        _log.info("%s", message)

    def warn(self, message: str) -> None:
        warnings.warn(message, UserWarning, stacklevel=3)

    @contextmanager
    def task(self, description: str, total: int | None) -> Iterator[Advance]:  # noqa: ARG002
        yield lambda _done, _status="": None


_REPORT = _Report()
