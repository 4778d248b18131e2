"""Loading of backbones: the one that options name, and the one that computed existing features."""

from pathlib import Path

from frostline.features.backbones import Backbone, load_backbone
from frostline.features.cache.imported.facts import describe_imported
from frostline.features.errors import BackboneError
from frostline.features.spec import FeatureSpec
from frostline.pipeline.errors import RunError
from frostline.pipeline.options.extraction import BackboneOptions


def load_network(options: BackboneOptions) -> Backbone:
    """Load the backbone with the weights and the image size of the options, and report how a file was read.

    Raises:
        FeaturesError: The backbone or its weights are not available, or it does not support the image size.
    """
    net = load_backbone(options.backbone, weights=options.weights)
    if net.note:
        options.report.note(net.note)
    size = options.image_size
    return net if size is None else net.with_transform(net.transform.at_size(size))


def load_matching(
    spec: FeatureSpec,
    owner: str,
    *,
    recorded: str | None,
    weights: str | Path | None,
    tuned: str | None = None,
) -> Backbone:
    """Load the backbone that computed existing features, with their transform.

    Args:
        spec: Specification of the features.
        owner: What has these features, for messages, such as ``runs/a was trained on``.
        recorded: Weights that were named when the features were computed; None for those of the backbone itself.
        weights: Path of the weights, if the file was moved.
        tuned: Folder of a fine-tuned backbone that is loaded instead of the named one.

    Raises:
        RunError: The weights are missing, or differ from those of the features.
        FeaturesError: The backbone can't be built here.
    """
    if spec.is_imported:
        raise BackboneError(
            f"{owner} vectors that were {describe_imported(spec)}, and the network that made them is not known here"
        )
    if tuned is not None:
        net = load_backbone(f"run:{tuned}")
    else:
        if (
            weights is None
            and recorded is not None
            and Path(recorded).is_absolute()
            and not Path(recorded).exists()
        ):
            raise RunError(
                f"{owner} features of the weights {recorded}, which are missing. Pass the file with --weights FILE."
            )
        net = load_backbone(spec.backbone, weights=weights or recorded)
    if net.weights_sha256 != spec.weights_sha256:
        raise RunError(
            f"{owner} features of {spec.backbone} with weights {spec.weights_sha256[:12]};"
            f" the weights found are {net.weights_sha256[:12]}. Pass the original ones with --weights FILE."
        )
    return net.with_transform(spec.transform)
