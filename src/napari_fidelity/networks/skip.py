"""The skip network of the deep image prior.

Ulyanov, Vedaldi, Lempitsky, "Deep Image Prior", CVPR 2018, doi:10.1109/CVPR.2018.00984; with the settings of
Mataev, Elad, Milanfar, "DeepRED", ICCV workshops 2019, arXiv:1903.10176.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import torch
from torch import nn
from torch.nn import functional as F

from napari_fidelity.networks._enlarged import convolve_enlarged, in_place
from napari_fidelity.networks._untrained_module import Conv, Norm, UntrainedModule, doubled, extended, pyramid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

_SLOPE = 0.2  # of the LeakyReLU
_SHORTEST = 8  # pixels; a shorter axis is not halved any more
_LEAST = 1000  # pixels before enlargement from which on it is faster not to write the enlarged image


class SkipNetwork(UntrainedModule):
    """Halves the input ``scales`` times and doubles it again, with a thin skip connection at each scale.

    At each scale: convolution 3 × 3 with stride 2, convolution 3 × 3; the coarser scales; linear enlargement,
    concatenation with the skip connection (1 × 1), batch normalisation, convolution 3 × 3, convolution 1 × 1. Each
    convolution pads by reflection and is followed by batch normalisation and LeakyReLU 0.2; a last one, 1 × 1,
    makes the image. Convolutions have no bias where batch normalisation follows, which takes it out. The enlarged
    and concatenated image is written only where it is small or has an odd size: see :mod:`._enlarged`.

    Images (N, C, H, W) and volumes (N, C, D, H, W) of any size: an axis of fewer than 8 pixels is not halved, odd
    sizes are rounded up and cut after enlargement, as published.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the input, which has the image's size, and of the image.
    shape
        Size of the image along its 2 or 3 axes.
    rng
        Source of the weights, on the CPU.
    width
        Features of each layer.
    scales
        How often the image is halved at most.
    skip
        Features of each skip connection; 0 leaves them out.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: Sequence[int],
        rng: torch.Generator,
        *,
        width: int = 128,
        scales: int = 5,
        skip: int = 4,
    ) -> None:
        super().__init__((in_channels, *shape), (out_channels, *shape))
        sizes = pyramid(shape, scales, _SHORTEST)
        coarser = sizes[1:] or sizes  # an image too small to be halved has one scale of the same size
        inputs = [in_channels] + [width] * (len(coarser) - 1)
        self.scales = nn.ModuleList(
            _Scale(n, width, skip, fine, coarse, rng)
            for n, fine, coarse in zip(inputs, sizes, coarser, strict=False)
        )
        self.last = Conv(width, out_channels, 1, len(shape), rng, bias=True)

    def features(self, x: Tensor) -> Tensor:
        """Return the image before the sigmoid."""
        scales = [cast("_Scale", scale) for scale in self.scales]
        skipped = []
        for scale in scales:
            skipped.append(scale.across(x))
            x = scale.down(x)
        for scale in scales[:0:-1]:
            x = scale.placed(scale.up(x, skipped.pop()))
        image: Tensor = self.last(scales[0].up(x, skipped.pop()))
        return scales[0].placed(image)


class _Scale(nn.Module):
    """One scale: the way down, the skip connection and the way up."""

    def __init__(
        self,
        inputs: int,
        width: int,
        skip: int,
        fine: tuple[int, ...],
        coarse: tuple[int, ...],
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        ndim = len(fine)
        self.fine = fine
        self.factors = tuple(1 if n == m else 2 for n, m in zip(fine, coarse, strict=True))
        halved = [axis for axis, factor in enumerate(self.factors, start=2) if factor == 2]
        # Odd sizes are cut after enlargement, which has to be written then.
        written = math.prod(coarse) < _LEAST or any(fine[axis - 2] % 2 for axis in halved)
        self.axes = () if written else tuple(halved)
        self.skip = _Layer(inputs, skip, 1, ndim, rng) if skip else None
        self.halve = _Layer(inputs, width, 3, ndim, rng)
        self.deepen = _Layer(width, width, 3, ndim, rng)
        self.norm = Norm(skip + width, bias=False)  # the next normalisation takes it out
        self.join = _Layer(skip + width, width, 3, ndim, rng)
        self.mix = _Layer(width, width, 1, ndim, rng)

    def across(self, x: Tensor) -> Tensor | None:
        return None if self.skip is None else self.skip(x)

    def down(self, x: Tensor) -> Tensor:
        deep: Tensor = self.deepen(self.halve(x, self.factors))
        return deep

    def up(self, x: Tensor, skipped: Tensor | None) -> Tensor:
        """Return the finer features, with their pixels in an order that :meth:`placed` undoes."""
        if self.axes:
            x = convolve_enlarged(x, skipped, self.norm.weight, self.join.conv.weight, self.axes)
            x = self.mix(self.join.activated(x))
            return x
        x = doubled(x, self.factors, self.fine)
        x = x if skipped is None else torch.cat([skipped, x], dim=1)
        x = self.mix(self.join(self.norm(x)))
        return x

    def placed(self, x: Tensor) -> Tensor:
        return in_place(x, self.fine, self.axes) if self.axes else x


class _Layer(nn.Module):
    """Convolution, batch normalisation, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, ndim: int, rng: torch.Generator) -> None:
        super().__init__()
        self.conv = Conv(inputs, outputs, size, ndim, rng)
        self.norm = Norm(outputs)
        self.pads = size > 1

    def forward(self, x: Tensor, stride: Sequence[int] | int = 1) -> Tensor:
        x = extended(x, range(2, x.ndim)) if self.pads else x
        return self.activated(self.conv(x, stride))

    def activated(self, x: Tensor) -> Tensor:
        """Normalise and apply LeakyReLU, which needs for its gradient nothing that it overwrites."""
        return F.leaky_relu(self.norm(x), _SLOPE, inplace=True)
