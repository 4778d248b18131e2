"""From pixel values to what a network was trained on."""

import torch
from torch import Tensor, nn

from frostline.features.spec import Transform


class Normalise(nn.Module):
    """Pixels from 0 to 255 to (pixel / 255 - mean) / std, channel by channel.

    Its constants are no part of a state dict.

    Args:
        transform: Whose mean and standard deviation.
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
        """(b, 3, h, w) of any type to (b, 3, h, w) float32."""
        return torch.addcmul(self.shift, images.float(), self.scale)
