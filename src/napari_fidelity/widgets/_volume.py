"""An image formation model of slices as one of whole volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari_fidelity.operators import Operator


def in_volume(operator: Operator, slices: int) -> Operator:
    """Return the model of volumes whose slices are each formed as a model of images says.

    Nothing happens along the depth. What has a number for each of three axes, or a kernel or mask of three axes,
    says so itself and stays as it is.

    Parameters
    ----------
    operator
        Of images (y, x).
    slices
        How many slices a volume has.
    """
    from napari_fidelity.operators import Blur, Compose, Downsample, GaussianBlur, Mask, UniformBlur

    if isinstance(operator, Compose):
        return operator.replace(operators=tuple(in_volume(part, slices) for part in operator.operators))
    if isinstance(operator, GaussianBlur):
        return operator.replace(sigma=_beside(operator.sigma, 0.0))
    if isinstance(operator, UniformBlur):
        return operator.replace(size=_beside(operator.size, 1))
    if isinstance(operator, Downsample):
        return operator.replace(scale=_beside(operator.scale, 1.0))
    if isinstance(operator, Blur) and operator.kernel.ndim == 2:
        return operator.replace(kernel=operator.kernel[None])
    if isinstance(operator, Mask) and operator.mask.ndim == 2:
        return operator.replace(mask=np.repeat(operator.mask[None], slices, axis=0))
    return operator


def _beside(value: Any, depth: float) -> Any:
    """Return numbers for z, y and x from one for both y and x or from one for each."""
    values = value if isinstance(value, tuple) else (value, value)
    return values if len(values) == 3 else (depth, *values)
