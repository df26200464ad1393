"""What the untrained networks share: layers for images and volumes, random weights from a generator."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional as F

from napari_fidelity.core.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class UntrainedModule(nn.Module, ABC):
    """A network ``z → image`` for one size of image, with an optional sigmoid at its end.

    Under autocast the convolutions run in its dtype and the layout is channels-last; statistics of the
    normalisation, and the image, are float32.

    Attributes
    ----------
    input_shape
        Shape of ``z`` without the batch: channels and size.
    output_shape
        Shape of the image without the batch.
    sigmoid
        Whether the image goes through a sigmoid, which keeps it between 0 and 1.
    """

    def __init__(self, input_shape: Sequence[int], output_shape: Sequence[int]) -> None:
        super().__init__()
        self.input_shape, self.output_shape = tuple(input_shape), tuple(output_shape)
        self.sigmoid = True

    def forward(self, z: Tensor) -> Tensor:
        """Return the image (N, out, *shape) that belongs to ``z`` (N, *input_shape).

        Raises
        ------
        ShapeError
            If ``z`` has another shape.
        """
        if tuple(z.shape[1:]) != self.input_shape:
            raise ShapeError(
                f"This network's input has shape (N, {', '.join(map(str, self.input_shape))})",
                found=str(tuple(z.shape)),
            )
        kind = z.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
        x = self.features(z.to(dtype=dtype, memory_format=channels_last(z.ndim - 2)))
        x = x if x.dtype == torch.float64 else x.float()
        return torch.sigmoid(x) if self.sigmoid else x

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Return the image before the sigmoid."""


class Conv(nn.Module):
    """Weights of a convolution for 2 or 3 axes, drawn as torch does (He 2015): uniform, ± 1 / √(inputs × taps).

    There is no bias unless asked for: batch normalisation takes it out again.
    """

    def __init__(
        self, inputs: int, outputs: int, size: int, ndim: int, rng: torch.Generator, *, bias: bool = False
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs * size**ndim)
        weight = torch.empty(outputs, inputs, *[size] * ndim).uniform_(-bound, bound, generator=rng)
        self.weight = nn.Parameter(weight.contiguous(memory_format=channels_last(ndim)))
        drawn = torch.empty(outputs).uniform_(-bound, bound, generator=rng) if bias else None
        self.bias = nn.Parameter(drawn) if drawn is not None else None

    def forward(self, x: Tensor, stride: Sequence[int] | int = 1) -> Tensor:
        return convolve(x.ndim - 2)(x, self.weight, self.bias, stride)


class Norm(nn.Module):
    """Batch normalisation with the statistics of the batch at hand, always; they are computed in float32."""

    eps = 1e-5

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        # F.batch_norm refuses a single value per channel, which images of one pixel have.
        return torch.batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, self.eps, torch.backends.cudnn.enabled
        )


def channels_last(ndim: int) -> torch.memory_format:
    """Return the channels-last layout for images of 2 or 3 axes."""
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def convolve(ndim: int) -> Callable[..., Tensor]:
    """Return torch's convolution over so many axes."""
    return F.conv2d if ndim == 2 else F.conv3d


def doubled(x: Tensor, factors: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Enlarge linearly by 1 or 2 along each axis and cut to a shape that is at most one pixel smaller."""
    if max(factors) > 1:
        mode = _LINEAR[len(factors)]
        x = F.interpolate(x, scale_factor=[float(f) for f in factors], mode=mode, align_corners=False)
    for axis, size in enumerate(shape, start=2):
        x = x.narrow(axis, 0, size)
    return x


def extended(x: Tensor, axes: Sequence[int], *, reflect: bool = True) -> Tensor:
    """Extend axes by one pixel at both ends: by reflection, or by repetition where asked for or of an only pixel.

    Parameters
    ----------
    x
        Image (N, C, *shape).
    axes
        The axes, counted from 2.
    reflect
        Whether to reflect.
    """
    reflected = [axis for axis in axes if reflect and x.shape[axis] > 1]
    repeated = [axis for axis in axes if axis not in reflected]
    for some, mode in ((reflected, "reflect"), (repeated, "replicate")):
        if some:
            x = F.pad(x, [int(axis in some) for axis in range(x.ndim - 1, 1, -1) for _ in "01"], mode=mode)
    return x


def pyramid(shape: Sequence[int], scales: int, shortest: int) -> list[tuple[int, ...]]:
    """Return the sizes of an image as it is halved: an axis is halved while it has at least so many pixels.

    The first size is the image's own; there are at most ``scales`` more.
    """
    sizes = [tuple(shape)]
    while len(sizes) <= scales and max(sizes[-1]) >= shortest:
        sizes.append(tuple((n + 1) // 2 if n >= shortest else n for n in sizes[-1]))
    return sizes
