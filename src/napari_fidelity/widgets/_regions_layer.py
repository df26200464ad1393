"""The labels layer of a map's doubtful regions, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any
from zlib import adler32

import numpy as np

from napari_fidelity.widgets._arrange import camera_of
from napari_fidelity.widgets._geometry import geometry_of
from napari_fidelity.widgets._guess import guess_axes
from napari_fidelity.widgets._layers import KEY, Sampling
from napari_fidelity.widgets._reproduce import record_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.components import ViewerModel
    from napari.layers import Layer
    from numpy.typing import NDArray

    from napari_fidelity.uncertainty.regions import Region


@dataclass(frozen=True, eq=False)
class Found:
    """The regions of a map, with the threshold they lie above and their share of its pixels."""

    labels: NDArray[np.int32]
    regions: list[Region]
    threshold: float
    percentile: float
    least: int
    share: float


def find(data: NDArray[Any], axes: Sequence[int], percentile: float, least: int) -> Found:
    """Find the regions of a map; for a worker.

    Parameters
    ----------
    data
        The map.
    axes
        Those along which a region extends.
    percentile, least
        As for :func:`threshold_at` and :func:`doubtful_regions`.
    """
    from napari_fidelity.uncertainty.regions import doubtful_regions, share, threshold_at

    threshold = threshold_at(data, percentile)
    labels, regions = doubtful_regions(data, threshold, least=least, spatial_axes=axes)
    return Found(labels, regions, threshold, percentile, least, share(regions, data))


class Regions:
    """The labels layer of one map. It is never written over once somebody else has painted in it."""

    def __init__(self, viewer: ViewerModel, shown: Layer) -> None:
        self.viewer, self.map = viewer, shown
        self.layer: Layer | None = None
        self._painted = 0  # checksum of what was written here
        letters = guess_axes(shown)
        recipe = record_of(shown).get("recipe", {})
        spatial = recipe.get("spatial", "YX") if isinstance(recipe, dict) else "YX"
        self.axes = [i for i, letter in enumerate(letters) if letter in spatial]
        sampling = Sampling.of(shown, letters)
        sizes = [sampling.pixel_size[letters[i]] for i in self.axes]
        self.unit = "" if sampling.unit == "pixel" else f"{sampling.unit}{'²' if len(sizes) == 2 else '³'}"
        self.size = prod(sizes)  # of a pixel or voxel

    @property
    def data(self) -> NDArray[Any]:
        """The map's numbers."""
        return np.asarray(self.map.data)

    @property
    def shown(self) -> bool:
        """Whether the labels are in the viewer, as they were made."""
        layer = self.layer
        return layer is not None and layer in self.viewer.layers and _checksum(layer.data) == self._painted

    def show(self, found: Found) -> None:
        """Show labels; in a new layer where the one before is gone or has been edited."""
        if self.shown and self.layer is not None:
            self.layer.data = found.labels
        else:
            name = f"{self.map.name} – doubtful"
            geometry = geometry_of(self.map)
            self.layer = self.viewer.add_labels(found.labels, name=name, opacity=0.9, **geometry)
            self.layer.contour = 1
        self.layer.metadata = {**self.layer.metadata, KEY: {"view": "regions", "threshold": found.threshold}}
        self._painted = _checksum(found.labels)

    def area(self, region: Region) -> float:
        """Return the area or volume of a region in :attr:`unit`."""
        return region.pixels * self.size

    def words(self, found: Found) -> str:
        """Say what was found."""
        count = len(found.regions)
        what = "1 region" if count == 1 else f"{count} regions" if count else "No region"
        share = f", {100 * found.share:.2g} % of the image" if count else f" of at least {found.least} pixels"
        return f"{what} above {found.threshold:.4g}{share}."

    def go_to(self, region: Region) -> None:
        """Let the viewer look at a region and select its label."""
        layer = self.layer
        if layer is None or layer not in self.viewer.layers:
            return
        layer.selected_label = region.label
        world = layer.data_to_world(region.centre)
        offset = self.viewer.dims.ndim - len(world)
        displayed = self.viewer.dims.displayed
        for i, at in enumerate(world, offset):
            if i not in displayed:
                self.viewer.dims.set_point(i, at)
        centre = [world[i - offset] if i >= offset else 0.0 for i in displayed]
        camera_of(self.viewer).center = tuple([0.0] * (3 - len(centre)) + centre)
        self.viewer.layers.selection.active = layer


def _checksum(labels: Any) -> int:
    return adler32(np.ascontiguousarray(labels).data)
