"""How large the result of a run will be and how much memory it needs, told before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.assemble import result_axes
from napari_fidelity.core.blocks import channel_axis
from napari_fidelity.core.device import choose_device, free_memory
from napari_fidelity.pipeline._blocks import adapted, check_dimensions, settled
from napari_fidelity.pipeline.models import loaded, with_members
from napari_fidelity.pipeline.recipe import outputs_of
from napari_fidelity.pipeline.restoration import check_dtype
from napari_fidelity.pipeline.series import as_run, cost_of, plan_for, without_snapshots
from napari_fidelity.uncertainty.base import judged_method

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.trust import Trust
    from napari_fidelity.methods.base import Network
    from napari_fidelity.pipeline.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a run, in bytes.

    Attributes
    ----------
    image
        Of the result, with all images of a map.
    method
        What the method holds while it works on one block; an estimate, good to a factor of about 1.5.
    free
        What there is on the device; ``None`` if that cannot be told.
    tile
        Side of the tiles in which the network will be run, in pixels of the measurement; ``None`` for none.
    """

    image: int
    method: int
    free: int | None
    tile: int | None = None


def result_sizes(recipe: Recipe, image: Image) -> dict[str, int]:
    """Return the axes of the image that a recipe will give, in their order, with their lengths.

    Raises
    ------
    FidelityError
        If method, operator and image cannot go together.
    """
    check_dimensions(recipe, image, recipe.operator)
    if recipe.operator is None:
        return image.sizes
    before = image.sizes.get(channel_axis(image.axes, recipe.channels_of(image)), 1)
    after = recipe.operator.image_channels(before)
    axes, channel = result_axes(image.axes, recipe.channels_of(image), before, after)
    restored = recipe.operator.image_shape([image.sizes[axis] for axis in recipe.spatial])
    sizes = image.sizes | dict(zip(recipe.spatial, restored, strict=True)) | {channel: after}
    return {axis: sizes[axis] for axis in axes}


def memory_needed(
    recipe: Recipe,
    image: Image,
    device: str = "auto",
    *,
    network: Network | None = None,
    dtype: DTypeLike = "float32",
    trust: Trust = False,
) -> Memory:
    """Return what a recipe will need on an image: a fraction of a second, no large arrays.

    Parameters
    ----------
    recipe
        What to do.
    image
        The measurement, of which only axes, shape and dtype are looked at.
    device, network, dtype, trust
        As for :func:`run_recipe`. Without a network, and without a model in the recipe, the method counts as one
        that holds a few copies of the measurement.

    Raises
    ------
    FidelityError
        If model, operator and image cannot go together.
    """
    check_dtype(dtype)
    where = choose_device(device, announce=False)
    if network is None:
        network, recipe = loaded(recipe, recipe.operator, trust=trust)
    recipe = as_run(recipe, image, network)
    written = image.dtype if isinstance(dtype, str) and dtype == "input" else np.dtype(dtype)
    kinds = [output.quantity for output in outputs_of(recipe).values()] or ["intensity"]
    # differences and ratios are float32 whatever is asked for; all count as if they lay on the result's grid
    each = sum(written.itemsize if kind == "intensity" else 4 for kind in kinds)
    size = prod(result_sizes(recipe, image).values()) * each
    measured = [image.sizes[axis] for axis in recipe.spatial]
    channels = image.sizes.get(channel_axis(image.axes, recipe.channels_of(image)), 1)
    frames = cost_of(plan_for(recipe, image, network), image.sizes.get("T", 1)).at_once
    network, fold = adapted(network, channels, recipe.method, recipe.operator)
    shape = (frames * channels, 1, *measured) if fold else (frames, channels, *measured)
    method = with_members(recipe, recipe.operator, trust).method
    made = shape
    if recipe.operator is not None:
        made = (shape[0], recipe.operator.image_channels(shape[1]), *recipe.operator.image_shape(measured))
    if prod(image.shape) > channels * prod(measured):
        method = without_snapshots(method)
    chosen: Any = judged_method(settled(method, shape, network, where))
    return Memory(
        image=size,
        method=method.memory(shape, network, where, made),
        free=free_memory(where),
        tile=getattr(chosen, "tile", None),
    )
