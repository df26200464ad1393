"""Wavelet shrinkage."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.lazy import torch
from napari_fidelity.denoisers.base import Denoiser, reflected
from napari_fidelity.denoisers.colour import from_opponent, opponent

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fidelity.denoisers.base import Network

_ROOT_HALF = 0.5**0.5


class Wavelet(Denoiser):
    """Haar wavelets, their coefficients shrunk by BayesShrink, averaged over shifts of the image.

    Thresholds ``σ²/σ_x`` for each band (Chang, Yu, Vetterli, IEEE TIP 2000, doi:10.1109/83.862633); the mean over
    shifts, which takes away the blocks (Coifman and Donoho 1995, doi:10.1007/978-1-4612-2544-7_9), gains more
    than smoother wavelets do. Three channels are taken for a colour image and denoised in opponent colours.
    """

    kind: Literal["wavelet"] = "wavelet"
    title: ClassVar[str] = "wavelet shrinkage"
    levels: int = Field(4, ge=1, le=12, description="Number of scales; fewer along an axis that is too short.")
    shifts: int = Field(
        4, ge=1, le=64, description="Number of shifts to average over; 1 is fastest and leaves blocks."
    )

    def _denoise(self, x: Tensor, sigma: float, network: Network | None) -> Tensor:
        colours, total = opponent(x), torch.zeros_like(x)
        depths = [min(self.levels, n.bit_length() - 1) for n in x.shape[2:]]
        for i in range(self.shifts):
            # axes shift at different paces, so that few shifts meet many positions of the blocks
            before = [(i * (2 * a + 1)) % 2**depth for a, depth in enumerate(depths)]
            total += self._shrunk(colours, sigma, depths, before)
        return from_opponent(total / self.shifts)

    def _shrunk(self, x: Tensor, sigma: float, depths: list[int], before: list[int]) -> Tensor:
        """Shrink images whose coarsest blocks begin so many pixels before the first one."""
        after = [-(n + b) % 2**depth for n, b, depth in zip(x.shape[2:], before, depths, strict=True)]
        shrunk = _shrink(reflected(x, list(zip(before, after, strict=True))), sigma, depths)
        for axis, (start, n) in enumerate(zip(before, x.shape[2:], strict=True), start=2):
            shrunk = shrunk.narrow(axis, start, n)
        return shrunk


def _shrink(x: Tensor, sigma: float, depths: list[int]) -> Tensor:
    """Shrink the Haar coefficients of images whose sizes are divisible by ``2^depth``."""
    axes = [axis for axis, depth in enumerate(depths, start=2) if depth > 0]
    if not axes:
        return x
    for axis in axes:
        even, odd = x.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :]).unbind(axis + 1)
        x = torch.cat([even + odd, even - odd], dim=axis).mul_(_ROOT_HALF)
    for corner in itertools.product((0, 1), repeat=len(axes)):
        band = x
        for axis, half in zip(axes, corner, strict=True):
            band = band.chunk(2, axis)[half]
        fewer = [max(0, depth - 1) for depth in depths]
        band.copy_(_soft(band, sigma) if any(corner) else _shrink(band, sigma, fewer))
    for axis in axes:
        low, high = x.chunk(2, axis)
        x = torch.stack([low + high, low - high], dim=axis + 1).mul_(_ROOT_HALF).flatten(axis, axis + 1)
    return x


def _soft(band: Tensor, sigma: float) -> Tensor:
    """Shrink the coefficients of one band by ``σ² / σ_x``; ``σ_x²`` is their variance less the noise's."""
    variance = (band / sigma).square_().flatten(2).mean(2) - 1  # in units of that of the noise
    threshold = sigma / variance.clamp_min_(torch.finfo(band.dtype).eps).sqrt_()
    threshold = threshold.reshape(*threshold.shape, *[1] * (band.ndim - 2))
    return band.sign() * (band.abs() - threshold).clamp_min_(0)
