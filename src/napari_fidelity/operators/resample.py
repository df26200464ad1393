"""Bicubic resampling as MATLAB's ``imresize`` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from napari_fidelity.core.errors import ShapeError
from napari_fidelity.operators._axes import Chain, Resample, Resize
from napari_fidelity.operators._fields import PerAxis, per_axis
from napari_fidelity.operators.base import check_tensor
from napari_fidelity.operators.separable import SeparableOperator, forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Downsample(SeparableOperator):
    """Antialiased bicubic downsampling, equal to MATLAB's ``imresize(x, 1/scale)`` to float accuracy.

    One matrix per axis: cubic convolution (a = -0.5) stretched by the scale, half-sample symmetric border,
    weights normalised. Any size and any scale from 1 upward, whole or not; the measurement has
    ``ceil(n / scale)`` samples, and :meth:`image_shape` gives the largest image with that measurement.

    References
    ----------
    Keys 1981, Cubic convolution interpolation for digital image processing, doi:10.1109/TASSP.1981.1163711.
    """

    kind: Literal["downsample"] = "downsample"
    scale: PerAxis[Annotated[float, Field(ge=1, le=64)]] = Field(
        4.0,
        description="Image samples per measurement sample, one number or one per axis (1 leaves an axis alone).",
        json_schema_extra={"unit": "×"},
    )

    def chains(self, ndim: int) -> tuple[Chain, ...]:  # noqa: D102 - inherited
        return tuple((Resample(s),) if s > 1 else () for s in per_axis("scale", self.scale, ndim))


def resize(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Resize by MATLAB's bicubic ``imresize(x, shape)``, up or down, antialiased where it shrinks.

    Parameters
    ----------
    x
        Image ``(N, C, *spatial)``, 2-D or 3-D, floating-point.
    shape
        Spatial shape wanted, every size at least 1.

    Raises
    ------
    ImageError
        If ``x`` is not a real floating-point tensor of that layout.
    ShapeError
        If ``shape`` has another number of axes or a size below 1.
    """
    check_tensor(x)
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != x.ndim - 2 or min(sizes) < 1:
        raise ShapeError(
            f"Cannot resize an image of shape {tuple(x.shape[2:])}", found=f"the wanted shape {sizes}"
        )
    return forward([(Resize(m),) if m != n else () for m, n in zip(sizes, x.shape[2:], strict=True)], x)
