"""The deep decoder.

Heckel, Hand, "Deep Decoder: Concise Image Representations from Untrained Non-convolutional Networks", ICLR 2019,
arXiv:1810.03982.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.networks._untrained_module import Conv, Norm, UntrainedModule, doubled, pyramid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_SHORTEST = 8  # pixels of an axis that is halved on the way to the coarse input


class DeepDecoderNetwork(UntrainedModule):
    """Doubles a coarse input ``scales`` times: convolution 1 × 1, linear enlargement, ReLU, channel normalisation.

    One more convolution 1 × 1, ReLU and normalisation follow at full size, as published, and a last convolution
    makes the image. The coarse input has ``in_channels`` channels (``width`` in the paper) and, along each axis,
    the size of the image halved ``scales`` times, rounded up, but not below 4; see ``input_shape``.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the coarse input and of the image.
    shape
        Size of the image along its 2 or 3 axes.
    rng
        Source of the weights, on the CPU.
    width
        Features of each layer.
    scales
        How often the input is doubled at most.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: Sequence[int],
        rng: torch.Generator,
        *,
        width: int = 128,
        scales: int = 6,
    ) -> None:
        sizes = pyramid(shape, scales, _SHORTEST)[::-1]
        super().__init__((in_channels, *sizes[0]), (out_channels, *shape))
        ndim = len(shape)
        targets = [*sizes[1:], sizes[-1]]  # the last layer does not enlarge
        inputs = [in_channels] + [width] * (len(targets) - 1)
        self.layers = nn.ModuleList(
            _Layer(n, width, coarse, fine, rng) for n, coarse, fine in zip(inputs, sizes, targets, strict=True)
        )
        self.last = Conv(width, out_channels, 1, ndim, rng)

    def features(self, x: Tensor) -> Tensor:
        """Return the image before the sigmoid."""
        for layer in self.layers:
            x = layer(x)
        image: Tensor = self.last(x)
        return image


class _Layer(nn.Module):
    """Convolution 1 × 1, enlargement, ReLU, channel normalisation."""

    def __init__(
        self, inputs: int, outputs: int, coarse: tuple[int, ...], fine: tuple[int, ...], rng: torch.Generator
    ) -> None:
        super().__init__()
        self.fine = fine
        self.factors = tuple(1 if n == m else 2 for n, m in zip(fine, coarse, strict=True))
        self.conv = Conv(inputs, outputs, 1, len(fine), rng)
        self.norm = Norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(torch.relu_(doubled(self.conv(x), self.factors, self.fine)))
        return x
