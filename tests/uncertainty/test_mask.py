"""Maps as weights of fine-tuning."""

from __future__ import annotations

import numpy as np
import pytest

from napari_fidelity.core.errors import NonFiniteError
from napari_fidelity.uncertainty.mask import mask_from


def test_what_is_certain_weighs_one_and_what_is_not_less() -> None:
    weights = mask_from([[0, 1], [2, np.nan], [-1, 1]])
    np.testing.assert_allclose(weights, [[1, 0.5], [0.2, 0], [0.5, 0.5]])
    assert weights.dtype == np.float32
    np.testing.assert_allclose(mask_from(1e-4 * np.arange(5.0)), mask_from(np.arange(5.0)), rtol=1e-6)


def test_maps_that_say_nothing() -> None:
    for values in (np.zeros((3, 3)), np.ones((1, 1)), np.full(4, 7.0)):
        np.testing.assert_array_equal(mask_from(values), np.ones_like(values))
    sparse = np.zeros(9)
    sparse[4] = 2
    assert mask_from(sparse)[4] == 0.5 and mask_from(sparse)[0] == 1
    for nothing in (np.full(3, np.nan), np.zeros((0, 3))):
        with pytest.raises(NonFiniteError, match="weighs nothing"):
            mask_from(nothing)
