"""A calibration of standard deviation maps from measurements whose true images are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_fidelity.core.blocks import planes
from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.core.step import drain
from napari_fidelity.pipeline.assessment import map_recipe
from napari_fidelity.pipeline.recipe import Recipe
from napari_fidelity.pipeline.report import scores_by_block
from napari_fidelity.pipeline.restoration import run_recipe
from napari_fidelity.uncertainty import Pair, calibrate
from napari_fidelity.uncertainty.deviation import DeviationMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from napari_fidelity.core.arrays import Image
    from napari_fidelity.core.blocks import Channels, Spatial
    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.core.trust import Trust
    from napari_fidelity.methods.base import Network
    from napari_fidelity.uncertainty import Calibration, UncertaintyMap


def calibrate_images(
    pairs: Iterable[tuple[Image, Image]],
    map: UncertaintyMap,
    recipe: Recipe,
    network: Network | None = None,
    *,
    device: str = "auto",
    trust: Trust = False,
    on_step: Callable[[Step[Image]], str | None] | None = None,
) -> Calibration:
    """Restore measurements, map their uncertainty, and find what the maps have to be multiplied with.

    What the recipe restores at once counts as an image of its own, as it is given intervals of its own: each
    slice, or each volume; each channel where these are restored one by one. The slices of one stack hang together:
    they say less than as many images.

    Parameters
    ----------
    pairs
        Measurements with their true images, which have the shape of the restored ones and were seen neither by
        the network nor in choosing the settings; 9 or more for intervals of 90 %.
    map
        A map of standard deviations, such as :class:`Bootstrap`.
    recipe
        How the measurements are restored.
    network, device, trust
        As for :func:`run_recipe`.
    on_step
        Called with each step of each restoration and each map; what it returns is ignored, as half a calibration
        is none.

    Raises
    ------
    OptionError
        If the map is none of standard deviations, or there are no pairs whose truth is known.
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
        restored = drain(run_recipe(recipe, measurement, network, device=device, trust=trust), look).image
        if (truth.shape, truth.axes) != (restored.shape, restored.axes):
            raise ShapeError(
                "A true image must have the shape and axes of its restored one",
                found=f"{truth.shape} ({truth.axes}) beside {restored.shape} ({restored.axes})",
            )
        shown = drain(run_recipe(full, measurement, network, device=device, judged=restored, trust=trust), look)
        # it names the model's hash, and channels that went one by one
        made = Recipe.from_plain(shown.provenance)
        model = None if made.model is None else made.model.sha256
        found += _pairs(restored, shown, truth, full.spatial, made.channels_of(measurement))
    options = full.method
    assert isinstance(options, DeviationMap)
    return calibrate(found, options, operator=recipe.operator, model=model)


def _pairs(
    restored: Image, shown: Result[Image], truth: Image, spatial: Spatial, channels: Channels
) -> list[Pair]:
    """Return an image's blocks with their maps beside the truth; those of which nothing is known are left out."""
    images = (restored, shown.maps["std"], truth.replace(data=np.asarray(truth.data, np.float64)))
    parts = [planes(image, spatial, channels) for image in images]
    blocks = zip(*parts, strict=True)
    scores = scores_by_block(shown, parts[0])
    return [
        Pair(estimate.data, std.data, true.data, scores[number])
        for number, (estimate, std, true) in enumerate(blocks)
        if np.isfinite(true.data).any()
    ]
