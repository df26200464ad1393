"""The small network that zero-shot super-resolution trains on a single image.

Shocher, Cohen, Irani, "“Zero-Shot” Super-Resolution using Deep Internal Learning", CVPR 2018, arXiv:1712.06087.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_VARIANCE = 0.1  # of published starting weights, times the number of inputs


class ZeroShotNetwork(nn.Module):
    """Adds to an enlarged image what it lacks: convolutions 3 × 3 with ReLU between them, and a long skip.

    Images (N, C, H, W) of any size from 1 × 1 to images of the same size. With ``fold`` above 1 the convolutions
    work on a coarser grid, on which each pixel holds those of a block as channels: the same work for a block as
    otherwise for a pixel.

    Parameters
    ----------
    channels
        Channels of the image, 1 or more.
    rng
        Source of the weights, on the CPU; nothing else random is used.
    width
        Features of each layer.
    depth
        Convolutions, 2 or more.
    fold
        Side of a block along each axis, 1 for none.
    residual
        Size (root mean square) of what the enlarged images lack. The last layer's output is multiplied by it, and
        begins as 0: the network begins as the identity, and a step of Adam is as long as the residual asks for.
        ``None``: as published, random weights of variance ``0.1 / inputs`` in all layers, no biases.
    """

    def __init__(
        self,
        channels: int,
        rng: torch.Generator,
        *,
        width: int = 64,
        depth: int = 8,
        fold: Sequence[int] = (1, 1),
        residual: float | None = None,
    ) -> None:
        super().__init__()
        self.fold = tuple(fold)
        self.factor = 1.0 if residual is None else residual
        outside = channels * math.prod(self.fold)
        sizes = [outside, *[width] * (depth - 1), outside]
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=residual is not None) for a, b in pairwise(sizes)
        )
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            variance = (2 if residual is not None else _VARIANCE) / (9 * layer.in_channels)
            weight = math.sqrt(variance) * torch.randn(layer.weight.shape, generator=rng)
            layer.weight.data = weight.contiguous(memory_format=torch.channels_last)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if residual is not None:
            nn.init.zeros_(self.layers[-1].get_parameter("weight"))

    def forward(self, x: Tensor) -> Tensor:
        """Map an enlarged image to one of the same size."""
        height, width = x.shape[2:]
        z = folded(x, self.fold)
        for layer in self.layers[:-1]:
            z = F.relu(layer(z))
        z = unfolded(self.layers[-1](z), self.fold)
        return x + self.factor * z[..., :height, :width]


def folded(x: Tensor, fold: Sequence[int]) -> Tensor:
    """Return an image with the pixels of each block as channels; its border is repeated to whole blocks."""
    if max(fold) == 1:
        return x
    n, c, height, width = x.shape
    x = F.pad(x, (0, -width % fold[1], 0, -height % fold[0]), mode="replicate")
    x = x.reshape(n, c, x.shape[2] // fold[0], fold[0], x.shape[3] // fold[1], fold[1])
    x = x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
    return x.contiguous(memory_format=torch.channels_last)


def unfolded(z: Tensor, fold: Sequence[int]) -> Tensor:
    """Undo :func:`folded`, the border excepted."""
    if max(fold) == 1:
        return z
    n, c, height, width = z.shape
    z = z.reshape(n, c // math.prod(fold), *fold, height, width).permute(0, 1, 4, 2, 5, 3)
    return z.reshape(n, -1, height * fold[0], width * fold[1])
