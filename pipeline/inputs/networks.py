"""Loading of the backbone that options name."""

from frostline.features.backbones import Backbone, load_backbone
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
