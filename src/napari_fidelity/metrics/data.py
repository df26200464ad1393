"""Metrics against the measurement: how well an image explains the data it was restored from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from napari_fidelity.core.errors import NonFiniteError, OptionError, ShapeError
from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from napari_fidelity.core.step import Record


class Forward(Protocol):
    """Anything with an image formation model ``A``, our operators and deepinv's physics among them."""

    def A(self, x: torch.Tensor) -> torch.Tensor:
        """Image ``(1, C, *spatial)`` to measurement."""
        ...


def residual_image(
    estimate: ArrayLike, measurement: ArrayLike, operator: Forward, *, spatial_dims: Literal[2, 3] = 2
) -> NDArray[np.float64]:
    """Return ``A x̂ − y``, in the units of the measurement.

    Parameters
    ----------
    estimate
        The image ``x̂``: ``(H, W)`` or ``(H, W, C)``; a volume ``(D, H, W)`` or ``(D, H, W, C)``.
    measurement
        ``y``, with as many channels, on the operator's own grid.
    operator
        The image formation model.
    spatial_dims
        3 for volumes.

    Returns
    -------
    numpy.ndarray
        Of the measurement's shape, computed in float64 (a torch module that holds tensors is used in their dtype).

    Raises
    ------
    ShapeError
        If ``A x̂`` does not have the shape of the measurement.
    NonFiniteError
        If the images hold NaN or infinity.
    """
    image, data = (_channel_first(array, spatial_dims) for array in (estimate, measurement))
    with torch.no_grad():
        explained = operator.A(torch.from_numpy(image).to(_dtype(operator))).cpu().double().numpy()
    if explained.shape != data.shape:
        raise ShapeError(
            "A x and the measurement differ in shape", found=f"{explained.shape[2:]} and {data.shape[2:]}"
        )
    left: NDArray[np.float64] = np.moveaxis((explained - data)[0], 0, -1)
    return left.reshape(np.shape(measurement))


def residual(
    estimate: ArrayLike, measurement: ArrayLike, operator: Forward, *, spatial_dims: Literal[2, 3] = 2
) -> float:
    """Return the root mean square of ``A x̂ − y``; the rest is as for :func:`residual_image`."""
    left = residual_image(estimate, measurement, operator, spatial_dims=spatial_dims)
    return math.sqrt(float(np.mean(left**2)))


def lr_psnr(
    estimate: ArrayLike,
    measurement: ArrayLike,
    operator: Forward,
    *,
    data_range: float,
    spatial_dims: Literal[2, 3] = 2,
) -> float:
    """PSNR of ``A x̂`` against the measurement, ``20 log10(data_range / residual)``, in dB.

    Parameters as for :func:`residual`; infinity where the image explains the measurement exactly.
    """
    if not (math.isfinite(data_range) and data_range > 0):
        raise OptionError("data_range must be a positive number", found=str(data_range))
    error = residual(estimate, measurement, operator, spatial_dims=spatial_dims)
    return math.inf if error == 0 else 20 * math.log10(data_range / error)


def _channel_first(array: ArrayLike, spatial_dims: int) -> NDArray[np.float64]:
    image = np.array(array, np.float64)
    if image.ndim not in (spatial_dims, spatial_dims + 1):
        raise ShapeError(f"An image with {spatial_dims} spatial axes is needed", found=f"shape {image.shape}")
    if not np.isfinite(image).all():
        raise NonFiniteError("A metric needs finite numbers", found=f"{int((~np.isfinite(image)).sum())} others")
    image = image[..., None] if image.ndim == spatial_dims else image
    return np.ascontiguousarray(np.moveaxis(image, -1, 0))[None]


def _dtype(operator: Forward) -> torch.dtype:
    if isinstance(operator, torch.nn.Module):
        for tensor in (*operator.parameters(), *operator.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.float32
    return torch.float64


def noise_left(history: Sequence[Record]) -> str:
    """Say how large the residual at the end of a run is beside the noise, if it was measured; else ``""``.

    Parameters
    ----------
    history
        The run's records; of several slices the mean is said.
    """
    last = {record.block: record.scores for record in history}
    ratios = [scores["discrepancy"] for scores in last.values() if "discrepancy" in scores]
    if not ratios:
        return ""
    ratio = sum(ratios) / len(ratios)
    return f"The residual has {ratio:.2f} of the noise's variance; 1 is to be expected."
