"""The result that a map is to judge, and when the recipe in its record must hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.arrays import Image
from napari_fidelity.core.errors import OptionError, RecipeError
from napari_fidelity.pipeline.provenance import digest
from napari_fidelity.pipeline.recipe import Recipe
from napari_fidelity.uncertainty.base import UncertaintyMap

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def check_judged(recipe: Recipe, judged: Image | ArrayLike | None) -> None:
    """Raise :class:`OptionError` where a result is to be judged that is none, or by a method that judges none."""
    if judged is not None and not isinstance(recipe.method, UncertaintyMap):
        raise OptionError(
            f"{type(recipe.method).__name__} judges no result", do="Choose a map, such as Bootstrap or NullSpace"
        )
    output = record_of(judged).get("output", {})
    if output.get("quantity", "intensity") != "intensity":
        raise OptionError(
            "A map is no image that could be judged",
            found=f"the map '{output.get('title', output.get('name'))}'",
            do="Give the restored image that the map belongs to",
        )


def with_judged(recipe: Recipe, judged: Image | ArrayLike | None, measured: str) -> Recipe:
    """Return the recipe that makes the same map again, without being given the judged image.

    An image that the recipe makes by itself is left out: a record as large as the image would go with every map.
    The map is then the same to rounding, as the image has been through the measurement's units meanwhile.

    Parameters
    ----------
    recipe, judged
        As for :func:`run_recipe`.
    measured
        Hash of the measurement.
    """
    method: Any = recipe.method
    if judged is None or made_by(recipe, judged, measured):
        return recipe
    data = judged.data if isinstance(judged, Image) else np.asarray(judged)
    # what is not finite lies in slices that were not reached: the others have been refused
    return recipe.replace(method=method.replace(image=np.nan_to_num(data)))


def made_by(recipe: Recipe, judged: Image | ArrayLike, measured: str) -> bool:
    """Tell whether an image is what the method that a map judges makes of the measurement of that hash."""
    record = record_of(judged)
    method = recipe.method
    if not isinstance(method, UncertaintyMap) or not isinstance(judged, Image) or not record:
        return False
    try:
        made = Recipe.from_plain(record)
    except RecipeError:
        return False
    if record.get("measurement", {}).get("sha256") != measured:
        return False
    same = _settings(made) == _settings(recipe.replace(method=method.of))
    return same and judged.dtype == np.float32 and record.get("sha256") == digest(judged)


def record_of(image: object) -> dict[str, Any]:
    """Return what an image's metadata tell of how it was made, empty if nothing."""
    record = image.metadata.get("napari-fidelity", {}) if isinstance(image, Image) else {}
    return dict(record) if isinstance(record, dict) else {}


def _settings(recipe: Recipe) -> Recipe:
    """Return a recipe without what has no effect on the image."""
    method: Any = recipe.method
    method = method.replace(snapshots=0) if method.iterative else method
    return recipe.replace(method=method, software={}, threads=None)
