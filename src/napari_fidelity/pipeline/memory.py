"""How much memory a run will need, told before it begins."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.device import choose_device, free_memory
from napari_fidelity.pipeline._blocks import adapted
from napari_fidelity.pipeline.restoration import check_dtype, load_reference

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.methods.base import Network
    from napari_fidelity.pipeline.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a run, in bytes.

    Attributes
    ----------
    image
        Of the result.
    method
        What the method holds while it works on one block; an estimate, good to a factor of about 1.5.
    free
        What there is on the device; ``None`` if that cannot be told.
    """

    image: int
    method: int
    free: int | None


def memory_needed(
    recipe: Recipe,
    image: Image,
    device: str = "auto",
    *,
    network: Network | None = None,
    dtype: DTypeLike = "float32",
) -> Memory:
    """Return what a recipe will need on an image: a fraction of a second, no large arrays.

    Parameters
    ----------
    recipe
        What to do.
    image
        The measurement, of which only axes, shape and dtype are looked at.
    device, network, dtype
        As for :func:`run_recipe`. Without a network, and without a model in the recipe, the method counts as one
        that holds a few copies of the measurement.

    Raises
    ------
    FidelityError
        If model, operator and image cannot go together.
    """
    check_dtype(dtype)
    where = choose_device(device, announce=False)
    if network is None and recipe.model is not None:
        network = load_reference(recipe.model)
    sizes = image.sizes
    measured = (sizes["Y"], sizes["X"])
    restored = measured if recipe.operator is None else recipe.operator.image_shape(measured)
    channels = 1
    if recipe.channels == "joint":
        channels = sizes.get("S", sizes.get("C", 1))
    network, fold = adapted(network, channels)
    shape = (channels, 1, *measured) if fold else (1, channels, *measured)
    written = image.dtype if isinstance(dtype, str) and dtype == "input" else np.dtype(dtype)
    blocks = prod(n for axis, n in sizes.items() if axis not in "YX")
    return Memory(
        image=blocks * prod(restored) * written.itemsize,
        method=recipe.method.memory(shape, network, where),
        free=free_memory(where),
    )
