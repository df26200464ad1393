"""Non-local means."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.lazy import torch
from napari_fidelity.denoisers.base import Denoiser, on_arrays, reflected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from napari_fidelity.denoisers.base import Network

_FARTHEST = 5.0  # distance beyond which a patch does not count, as in scikit-image


class NLM(Denoiser):
    """Non-local means: each pixel becomes a mean over pixels around it, weighted by how alike their patches are.

    Buades, Coll, Morel, CVPR 2005, doi:10.1109/CVPR.2005.38; computed as Froment, Image Processing On Line 2014,
    doi:10.5201/ipol.2014.120, with the noise's share taken off the distances. Patches are compared over all
    channels together unless `joint` is off: on colour images that gains about a decibel. Volumes are denoised with
    patches that are cubes.

    The definition is that of scikit-image's ``denoise_nl_means`` with ``fast_mode``, whose patches are one pixel
    smaller than `patch_size` says; volumes and what is on a GPU are computed by torch.
    """

    kind: Literal["nlm"] = "nlm"
    title: ClassVar[str] = "non-local means"
    patch_size: int = Field(
        5,
        ge=3,
        le=31,
        description="Side of the patches that are compared; an even number counts as the next odd one.",
        json_schema_extra={"unit": "px"},
    )
    patch_distance: int = Field(
        6,
        ge=1,
        le=50,
        description="Farthest patch along each axis; the time grows with its square, in volumes with its cube.",
        json_schema_extra={"unit": "px"},
    )
    h: float = Field(
        0.6,
        gt=0,
        le=100,
        description="How unlike patches may be, in units of the noise level; larger is smoother.",
        json_schema_extra={"unit": "σ"},
    )
    joint: bool = Field(True, description="Compare patches over all channels together, not in each by itself.")
    backend: Literal["auto", "skimage", "torch"] = Field(
        "auto",
        description="What computes it: scikit-image for 2-D images on the processor, torch otherwise; the result "
        "is the same but for scikit-image's approximate exponential.",
    )

    def _denoise(self, x: Tensor, sigma: float, network: Network | None) -> Tensor:
        images = x if self.joint else x.flatten(0, 1)[:, None]
        # in volumes scikit-image takes three times the processor time
        faster = x.device.type != "cpu" or x.ndim == 5
        if self.backend == "torch" or (self.backend == "auto" and faster):
            output = self._by_torch(images, sigma)
        else:
            output = on_arrays(images, lambda array: self._by_skimage(array, sigma))
        return output.reshape(x.shape)

    def _by_skimage(self, image: NDArray[np.float64], sigma: float) -> NDArray[np.floating]:
        from skimage.restoration import denoise_nl_means

        output: NDArray[np.floating] = denoise_nl_means(
            image,
            patch_size=self.patch_size,
            patch_distance=self.patch_distance,
            h=self.h * sigma,
            sigma=sigma,
            fast_mode=True,
            preserve_range=True,
            channel_axis=-1,
        )
        return output.reshape(image.shape)  # a single channel may have been dropped

    def _by_torch(self, x: Tensor, sigma: float) -> Tensor:
        """Denoise images (N, C, *spatial).

        The weight of a pair of pixels counts for both: it is computed once, wherever one of them is in the image.
        """
        channels, shape, reach, half = x.shape[1], tuple(x.shape[2:]), self.patch_distance, self.patch_size // 2
        border = half + 2 * reach
        padded = reflected(x, [(border, border)] * len(shape))
        count = (2 * half) ** len(shape)  # pixels of a patch, in each channel
        expected = 2 * channels * count * sigma**2  # distance of two patches that differ by nothing but noise
        unit = channels * (self.h * sigma) ** 2 * (2 * half + 1) ** len(shape)
        total, weights = x.clone(), torch.ones_like(x[:, :1])
        for shift in itertools.product(range(-reach, reach + 1), repeat=len(shape)):
            if shift <= (0,) * len(shape):
                continue  # the shift itself, or the other one of a pair
            first = [border - max(0, t) for t in shift]
            pairs = [n + abs(t) for n, t in zip(shape, shift, strict=True)]
            framed = [n + 2 * half - 1 for n in pairs]
            here = _window(padded, [i - half + 1 for i in first], framed)
            there = _window(padded, [i - half + 1 + t for i, t in zip(first, shift, strict=True)], framed)
            distance = _box_sums((here - there).square_().sum(1, keepdim=True), pairs)
            distance = distance.sub_(expected).clamp_min_(0).div_(unit)
            weight = torch.exp(-distance).masked_fill_(distance > _FARTHEST, 0)
            for sign in (1, -1):
                own = _window(weight, [max(0, sign * t) for t in shift], shape)
                weights += own
                total.addcmul_(own, _window(padded, [border + sign * t for t in shift], shape))
        return total / weights


def _window(x: Tensor, start: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return the part (N, C, *shape) of images that begins at a place."""
    for axis, (i, n) in enumerate(zip(start, shape, strict=True), start=2):
        x = x.narrow(axis, i, n)
    return x


def _box_sums(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the sums over all boxes of which so many fit in along each axis; without a running sum's rounding."""
    for axis, n in enumerate(shape, start=2):
        sums = values.narrow(axis, 0, n).clone()
        for i in range(1, values.shape[axis] - n + 1):
            sums += values.narrow(axis, i, n)
        values = sums
    return values
