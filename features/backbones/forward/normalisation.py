"""Normalisation of pixel values to a network's input range."""

import torch
from torch import Tensor, nn

from frostline.features.spec import Transform


class Normalise(nn.Module):
    """Normalisation of pixels from 0 to 255 as (pixel / 255 - mean) / std per channel.

    Its constants are not saved in the state dict.

    Args:
        transform: Transform that defines the mean and standard deviation.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, transform: Transform) -> None:
        super().__init__()
        mean = torch.tensor(transform.mean, dtype=torch.float64).view(1, 3, 1, 1)
        std = torch.tensor(transform.std, dtype=torch.float64).view(1, 3, 1, 1)
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (b, 3, h, w) pixels of any dtype to (b, 3, h, w) float32."""
        return torch.addcmul(self.shift, images.float(), self.scale)
