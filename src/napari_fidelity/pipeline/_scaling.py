"""The intensity scaling of a run, as the image formation model allows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.blocks import to_tensor
from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.scaling import Scaling, fit_scaling, own_axes
from napari_fidelity.operators.base import Operator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block
    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.pipeline.recipe import Recipe

_PERCENTILE = 99.9
_DAMPING = 0.003  # over the squared gain of A on the measurement's adjoint
_TOLERANCE = 1e-2  # of the conjugate gradients
_ROOM = 1.25  # so that fine bright detail, which the damping dims, stays below 1


def scaling_of(
    recipe: Recipe, image: Image, blocks: Sequence[Block], operator: LinearOperator, device: torch.device
) -> Scaling:
    """Return the scaling of a run.

    Where measurement and image share a grid, it brings the measurement to [0, 1] (:func:`fit_scaling`). Where
    they do not (line integrals, spatial frequencies), adding a constant to the image adds none to the
    measurement: there is no offset, and one factor brings the least-norm solution, damped, to about [0, 0.8].

    Parameters
    ----------
    recipe
        Of the run.
    image
        Finite intensities.
    blocks
        Of the image, as the recipe has them.
    operator
        The image formation model.
    device
        Where to apply it.

    Raises
    ------
    OptionError
        If the slices of volumes are to be scaled one by one.
    """
    if recipe.spatial == "ZYX" and recipe.scope == "slice":
        raise OptionError(
            "Slices that are scaled one by one make no volume to work on in 3-D",
            do="Set scope to volume or series, or spatial to YX",
        )
    if not isinstance(operator, Operator) or operator.shares_grid:
        return fit_scaling(image, recipe.scaling, recipe.scope, channels=recipe.channels_of(image))
    if recipe.scaling == "none" or (recipe.scaling == "dtype" and image.dtype.kind == "f"):
        return Scaling(mode=recipe.scaling, scope=recipe.scope)
    if recipe.scaling == "dtype":
        return Scaling(gain=float(np.iinfo(image.dtype).max), mode="dtype", scope=recipe.scope)
    own = own_axes(image.axes, recipe.scope, recipe.channels_of(image))
    percentile = _PERCENTILE if recipe.scaling == "percentile" else 100
    gain = np.zeros([image.sizes[axis] for axis in own])
    for block in blocks:
        where = tuple(block.index[axis] for axis in own)
        gain[where] = max(gain[where], _brightness(to_tensor(block, Scaling(), device), operator, percentile))
    mode = "percentile" if recipe.scaling == "percentile" else "minmax"
    return Scaling(
        offset=np.zeros(gain.shape), gain=np.where(gain > 0, gain, 1.0), axes=own, mode=mode, scope=recipe.scope
    )


def common_scaling(scaling: Scaling, positions: Sequence[Mapping[str, int]]) -> Scaling:
    """Return the scaling that blocks at several positions have in common.

    Raises
    ------
    OptionError
        If each has its own: a noise model in intensity units then has another strength in each of them.
    """
    first, *others = (scaling.at(position) for position in positions)
    for other in others:
        if not (np.array_equal(first.offset, other.offset) and np.array_equal(first.gain, other.gain)):
            raise OptionError(
                "Frames that are scaled one by one have no noise model in common, and are to be restored together",
                found=f"scope: {scaling.scope}",
                do="Set scope to series, or series to frame with a network that looks at single images, or leave "
                "the noise out",
            )
    return first


def _brightness(y: torch.Tensor, operator: Operator, percentile: float) -> float:
    """Return a percentile of the magnitudes of the damped least-norm solution, with some room above it.

    The adjoint itself would not do: that of line integrals shows a phantom at a fifth of its brightness, and small
    things darker still.
    """
    unit = float(y.abs().max())
    if unit == 0:
        return 0.0
    with torch.no_grad():  # a decorator would load torch with this module
        y = y / unit  # squares of what is in metres or in counts may leave the range of float32
        back = operator.A_adjoint(y)
        largest = float(operator.A(back).square().sum() / back.square().sum().clamp_min(torch.finfo(y.dtype).tiny))
        x = operator.A_dagger(y, ridge=_DAMPING * largest, tolerance=_TOLERANCE)
    return unit * _ROOM * float(np.percentile(x.abs().cpu().numpy(), percentile))
