"""Fathers and sons: what :class:`napari_fidelity.methods.ZSSR` learns from.

A father is an image made of the measurement, its son the measurement of it by the very operator, on the father's
grid again (``base``): what the network is shown, beside what it is to make of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from napari_fidelity.core.errors import OperatorError, ShapeError
from napari_fidelity.methods._start import starting_image
from napari_fidelity.methods.calls import call_operator
from napari_fidelity.methods.projection import proximal, ridge_for
from napari_fidelity.methods.scores import known_variance
from napari_fidelity.operators.base import Operator
from napari_fidelity.operators.noise import GaussianNoise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.methods.zssr import ZSSR
    from napari_fidelity.operators.noise import Noise

SMALLEST = 16
"""Pixels of the measurement along an axis below which there is nothing to learn from."""
WHOLE = 0.999
"""Share of a scaled pixel that must have been seen for it to count."""
_TOLERANCE = 1e-3  # of bases that conjugate gradients solve for
_SMALLEST_SON = 4  # pixels along an axis


class Pair(NamedTuple):
    """A father ``(N, C, H, W)``, its son on the same grid, and 1 where the father was seen or ``None``."""

    father: torch.Tensor
    base: torch.Tensor
    seen: torch.Tensor | None


@dataclass(frozen=True)
class Source:
    """An image that fathers are made of.

    Attributes
    ----------
    image
        The measurement, or what was made of it ``(N, C, H, W)``.
    seen
        1 where it was observed, or ``None`` for all over.
    size
        Its size over that of the measurement, along the shorter axis.
    """

    image: torch.Tensor
    seen: torch.Tensor | None = None
    size: float = 1.0


@dataclass(frozen=True)
class Making:
    """How a son is made of its father.

    Attributes
    ----------
    options
        Of the method.
    operator
        The operator without masks, which belong to one size.
    noise
        Noise of the measurement, or ``None``.
    scale
        Image samples per measurement sample, along each axis.
    """

    options: ZSSR
    operator: LinearOperator
    noise: Noise | None
    scale: tuple[float, float]

    def pair(self, father: torch.Tensor, seen: torch.Tensor | None, rng: torch.Generator) -> Pair:
        """Return a father, cut to a size that an image can have, with its son.

        Raises
        ------
        ShapeError
            If it is too small for a son.
        OperatorError
            If the operator does not take an image of its size.
        """
        try:
            height, width = self.fitting(father.shape[2:])
        except OperatorError as error:
            raise OperatorError(
                "The kernel is larger than the measurement, which is measured once more to learn from",
                found=error.found,
                do="Take a larger part, cut the kernel, or choose RED",
            ) from error
        father = father[..., :height, :width].contiguous(memory_format=torch.channels_last)
        son = call_operator(self.operator, father)
        if min(son.shape[2:]) < _SMALLEST_SON:
            raise too_small(father.shape[2:], son.shape[2:])
        son = self._noisy(son, rng)
        base = self.base(son)
        if base.shape != father.shape:
            raise OperatorError(
                "The operator does not say what image belongs to a measurement of another size",
                found=f"{tuple(base.shape[2:])} beside {tuple(father.shape[2:])}",
            )
        seen = None if seen is None else seen[..., :height, :width].expand_as(father)
        return Pair(father, base.contiguous(memory_format=torch.channels_last), seen)

    def base(self, y: torch.Tensor) -> torch.Tensor:
        """Return a measurement on the grid of its image: what the network is shown."""
        x = starting_image("measurement", y, self.operator)
        if self.options.base == "bicubic":
            return x
        ridge = ridge_for(x, y, self.operator, noise=self.noise)
        if math.isinf(ridge):
            return x
        variance = known_variance(self.noise, y)
        return proximal(x, y, self.operator, ridge, variance=variance, tolerance=_TOLERANCE)

    def fitting(self, shape: Sequence[int]) -> list[int]:
        """Return the largest size up to ``shape`` that an image of this operator can have."""
        sizes = [int(n) for n in shape]
        if not isinstance(self.operator, Operator):
            return [int(n // s * s) for n, s in zip(sizes, self.scale, strict=True)]
        for axis in range(len(sizes)):
            while sizes[axis] > 1:
                found = self.operator.image_shape(self.operator.measurement_shape(sizes))
                if found[axis] <= sizes[axis]:
                    break
                sizes[axis] -= 1
        return sizes

    def _noisy(self, son: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        # drawn on the processor, whose generator it is, whatever the device
        clean = son.cpu()
        if self.noise is not None:
            clean = self.noise.sample(clean, rng)
        if self.options.noise_level:
            clean = GaussianNoise(sigma=self.options.noise_level).sample(clean, rng)
        if self.options.clip:
            clean = clean.clamp(0, 1)
        return clean.to(son)


def too_small(father: Sequence[int], son: Sequence[int]) -> ShapeError:
    """Return the error for a measurement that is too small to learn from."""
    return ShapeError(
        "The measurement is too small to learn from its own reduced copy",
        found=f"{' × '.join(map(str, father))} pixels, reduced to {' × '.join(map(str, son))}",
        do=f"Take a part of at least {SMALLEST} pixels, and {_SMALLEST_SON} when reduced, along each axis, or a "
        "method with a trained prior, such as RED or FineTune",
    )
