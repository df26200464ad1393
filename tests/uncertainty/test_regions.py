"""Doubtful regions of a map."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fidelity.core.errors import OptionError, ShapeError
from napari_fidelity.uncertainty.regions import doubtful_regions, share, threshold_at


def two_spots() -> np.ndarray:
    values = np.zeros((8, 10), np.float32)
    values[1:3, 1:3] = -2.0
    values[5, 4:9] = [1, 3, 1, 1, 1]
    return values


def test_regions_are_found_and_measured() -> None:
    labels, regions = doubtful_regions(two_spots(), 0.5)
    assert [(region.label, region.pixels) for region in regions] == [(1, 5), (2, 4)]
    assert (labels == 1).sum() == 5 and labels[1, 1] == 2
    assert regions[1].mean == 2 and regions[0].largest == 3
    assert regions[1].centre == (1.5, 1.5)
    assert share(regions, two_spots()) == 9 / 80
    labels, regions = doubtful_regions(two_spots(), 0.5, least=5)
    assert [region.pixels for region in regions] == [5] and labels.max() == 1


def test_corners_connect_but_slices_do_not() -> None:
    stack = np.zeros((2, 4, 4))
    stack[:, 0, 0] = stack[:, 1, 1] = 1
    _, apart = doubtful_regions(stack, 0, spatial_axes=(1, 2))
    assert [(region.pixels, region.centre) for region in apart] == [(2, (0, 0.5, 0.5)), (2, (1, 0.5, 0.5))]
    _, whole = doubtful_regions(stack, 0)
    assert [region.pixels for region in whole] == [4]


def test_a_constant_map_and_one_without_numbers_have_no_regions() -> None:
    for values in (np.ones((5, 5)), np.full((5, 5), np.nan), np.zeros((1, 1)), np.zeros((0, 4))):
        threshold = threshold_at(values, 95)
        labels, regions = doubtful_regions(values, threshold)
        assert not labels.any() and regions == [] and share(regions, values) == 0
    holes = two_spots()
    holes[1, 1] = np.nan
    assert [region.pixels for region in doubtful_regions(holes, 0.5)[1]] == [5, 3]


def test_thresholds_are_percentiles_of_the_absolute_values() -> None:
    values = np.append(-np.arange(101.0), np.nan)
    assert threshold_at(values, 95) == 95
    with pytest.raises(OptionError, match="between 0 and 100"):
        threshold_at(values, 101)
    with pytest.raises(OptionError, match="at least one pixel"):
        doubtful_regions(values, 1, least=0)
    with pytest.raises(ShapeError, match="no axes"):
        doubtful_regions(values, 1, spatial_axes=(1,))
