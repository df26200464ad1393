"""A calibration of standard deviation maps from measurements whose true images are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.pipeline.assessment import map_recipe
from napari_fidelity.pipeline.report import last_scores
from napari_fidelity.pipeline.restoration import run_recipe
from napari_fidelity.uncertainty import Pair, calibrate
from napari_fidelity.uncertainty.deviation import DeviationMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.step import Step
    from napari_fidelity.methods.base import Network
    from napari_fidelity.pipeline.recipe import Recipe
    from napari_fidelity.uncertainty import Calibration, UncertaintyMap


def calibrate_images(
    pairs: Iterable[tuple[Image, Image]],
    map: UncertaintyMap,
    recipe: Recipe,
    network: Network | None = None,
    *,
    device: str = "auto",
    on_step: Callable[[Step[Image]], str | None] | None = None,
) -> Calibration:
    """Restore measurements, map their uncertainty, and find what the maps have to be multiplied with.

    Parameters
    ----------
    pairs
        Measurements with their true images, which have the shape of the restored ones and were seen neither by
        the network nor in choosing the settings; 9 or more for intervals of 90 %.
    map
        A map of standard deviations, such as :class:`Bootstrap`.
    recipe
        How the measurements are restored.
    network, device
        As for :func:`run_recipe`.
    on_step
        Called with each step of each restoration and each map; what it returns is ignored, as half a calibration
        is none.

    Raises
    ------
    OptionError
        If the map is none of standard deviations, or there are no pairs.
    ShapeError
        If a true image does not have the shape of its restored one.
    """
    if not isinstance(map, DeviationMap):
        raise OptionError(
            f"{type(map).__name__} is no standard deviation that could be calibrated",
            do="Choose Bootstrap, Dropout or Ensemble",
        )
    full = map_recipe(map.replace(calibration=None), recipe)
    found: list[Pair] = []
    model: str | None = None

    def look(step: Step[Image]) -> None:
        if on_step is not None:
            on_step(step)

    for measurement, truth in pairs:
        restored = drain(run_recipe(recipe, measurement, network, device=device), look).image
        if (truth.shape, truth.axes) != (restored.shape, restored.axes):
            raise ShapeError(
                "A true image must have the shape and axes of its restored one",
                found=f"{truth.shape} ({truth.axes}) beside {restored.shape} ({restored.axes})",
            )
        shown = drain(run_recipe(full, measurement, network, device=device, judged=restored), look)
        model = (shown.provenance["recipe"].get("model") or {}).get("sha256")
        truth_data = np.asarray(truth.data, np.float64)
        found.append(Pair(restored.data, shown.maps["std"].data, truth_data, last_scores(shown)))
    options = full.method
    assert isinstance(options, DeviationMap)
    return calibrate(found, options, operator=recipe.operator, model=model)
