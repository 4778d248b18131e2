"""Loading of the backbone that options name."""

from frostline.features.backbones import Backbone, load_backbone
from frostline.pipeline.options.extraction import BackboneOptions


def load_network(options: BackboneOptions) -> Backbone:
    """Load the backbone with the weights and the image size of the options.

    Raises:
        FeaturesError: The backbone or its weights are not available, or it does not support the image size.
    """
    net = load_backbone(options.backbone, weights=options.weights)
    size = options.image_size
    return net if size is None else net.with_transform(net.transform.at_size(size))
