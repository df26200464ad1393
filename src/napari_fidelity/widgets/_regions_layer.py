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
    """The regions of a map, with the threshold they lie above and their share of its pixels.

    Attributes
    ----------
    checksum
        Of the labels.
    untouched
        Whether the labels that were shown before were still as they had been made.
    """

    labels: NDArray[np.int32]
    regions: list[Region]
    threshold: float
    percentile: float
    least: int
    share: float
    checksum: int
    untouched: bool


def find(
    data: NDArray[Any], axes: Sequence[int], percentile: float, least: int, before: tuple[Any, int] | None = None
) -> Found:
    """Find the regions of a map; for a worker.

    Parameters
    ----------
    data
        The map.
    axes
        Those along which a region extends.
    percentile, least
        As for :func:`threshold_at` and :func:`doubtful_regions`.
    before
        Labels that are shown, and their checksum when they were made.
    """
    from napari_fidelity.uncertainty.regions import doubtful_regions, share, threshold_at

    threshold = threshold_at(data, percentile)
    labels, regions = doubtful_regions(data, threshold, least=least, spatial_axes=axes)
    untouched = before is not None and _checksum(before[0]) == before[1]
    part = share(regions, data)
    return Found(labels, regions, threshold, percentile, least, part, _checksum(labels), untouched)


class Regions:
    """The labels layer of one map. It is never written over once somebody else has painted in it."""

    def __init__(self, viewer: ViewerModel, shown: Layer) -> None:
        self.viewer, self.map = viewer, shown
        self.layer: Layer | None = None
        self._checksum = 0  # of what was written here
        self._painted = False  # with napari's brush and the like
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
        """Whether the labels are in the viewer."""
        return self.layer is not None and self.layer in self.viewer.layers

    @property
    def written(self) -> tuple[Any, int] | None:
        """The labels that are shown and the checksum of what was written, to be compared in a worker."""
        return (self.layer.data, self._checksum) if self.shown and self.layer is not None else None

    def ours(self, found: Found) -> bool:
        """Whether the labels are in the viewer as they were made, so that others may replace them."""
        return self.shown and found.untouched and not self._painted

    def show(self, found: Found) -> None:
        """Show labels; in a new layer where the one before is gone or has been edited."""
        if self.ours(found) and self.layer is not None:
            self.layer.data = found.labels
        else:
            name = f"{self.map.name} – doubtful"
            geometry = geometry_of(self.map)
            self.layer = self.viewer.add_labels(found.labels, name=name, opacity=0.9, **geometry)
            self.layer.contour = 1
            self._painted = False
            self.layer.events.labels_update.connect(self._edited)
        self.layer.metadata = {**self.layer.metadata, KEY: {"view": "regions", "threshold": found.threshold}}
        self._checksum = found.checksum

    def _edited(self, event: Any) -> None:
        """Notice the brush between the worker's look at the labels and their replacement."""
        self._painted = self._painted or event.source is self.layer

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
