"""The image that a method starts from, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.assemble import result_axes
from napari_fidelity.core.blocks import view_of
from napari_fidelity.core.errors import ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Block
    from napari_fidelity.core.scaling import Scaling
    from napari_fidelity.methods import AnyMethod
    from napari_fidelity.pipeline.recipe import Recipe


def starting_at(
    recipe: Recipe, image: Image, block: Block, scaling: Scaling, shape: Callable[[], Sequence[int]]
) -> AnyMethod:
    """Return the recipe's method for one block: an image that it starts from is cut and scaled like the block.

    Parameters
    ----------
    recipe
        Its method's option ``start`` may be an array, in the measurement's intensity units: of the whole result,
        with its axes in the result's order, or of the result of one block, which then every block starts from.
    image
        The measurement.
    block, scaling
        The block, and its own scaling.
    shape
        Returns that of the block's result, ``(C, *n)``.

    Raises
    ------
    ShapeError
        If the array has another shape.
    """
    method: Any = recipe.method
    start = getattr(method, "start", None)
    if not isinstance(start, np.ndarray):
        return recipe.method
    changed: AnyMethod = method.replace(start=scaling.apply(_part(start, recipe, image, block, tuple(shape()))))
    return changed


def _part(start: NDArray[Any], recipe: Recipe, image: Image, block: Block, shape: tuple[int, ...]) -> NDArray[Any]:
    axes, channel = result_axes(image.axes, recipe.channels_of(image), len(block.data), shape[0])
    sizes = image.sizes | dict(zip(recipe.spatial, shape[1:], strict=True)) | {channel: shape[0]}
    whole = tuple(sizes[axis] for axis in axes)
    if start.shape == whole:
        return view_of(start, axes, block.index, channel, recipe.spatial)
    if start.shape in (shape, (1, *shape[1:]), shape[1:]):
        return start
    raise ShapeError(
        f"The image to start from must have the shape of the result, {whole} ({axes}), or of one block's, {shape}",
        found=str(start.shape),
        do="Give an image on the result's grid",
    )
