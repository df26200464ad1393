"""Which pixels of a measurement were observed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.arrays import Image, check_finite, fill_unobserved
from napari_fidelity.operators.compose import Compose
from napari_fidelity.operators.mask import Mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_fidelity.methods.base import LinearOperator
    from napari_fidelity.pipeline.recipe import Recipe


def observed_part(
    image: Image, operator: LinearOperator, recipe: Recipe
) -> tuple[Image, NDArray[np.bool_] | None]:
    """Return the image with unobserved pixels filled in, and which ones were observed; ``None`` for all.

    Where the image formation model ends in a mask, nothing is known of the pixels that it hides: whatever is
    recorded there must not reach the network as if it had been seen.
    """
    observed = np.isfinite(image.data)
    last = operator.operators[-1] if isinstance(operator, Compose) else operator
    hidden: Any = False
    spatial = recipe.spatial
    if isinstance(last, Mask) and last.mask.shape == tuple(image.sizes.get(axis) for axis in spatial):
        part = last.mask.transpose([spatial.index(axis) for axis in image.axes if axis in spatial])
        hidden = np.expand_dims(part == 0, [i for i, axis in enumerate(image.axes) if axis not in spatial])
    if recipe.nonfinite == "error" and not (observed | hidden).all():
        check_finite(image.replace(data=np.where(hidden, np.zeros((), image.dtype), image.data)))
    observed = observed & ~np.broadcast_to(hidden, image.shape)
    if observed.all():
        return image, None
    return fill_unobserved(image, observed), observed
