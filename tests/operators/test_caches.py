"""Matrices that operators keep can be let go of."""

from __future__ import annotations

import torch

from napari_fidelity.operators import AiryBlur, Downsample, _convolve, _matrix, clear_caches


def test_cleared_caches_hold_nothing_and_fill_again() -> None:
    x = torch.rand(1, 1, 24, 24)
    operators = (Downsample(scale=2), AiryBlur(wavelength=600, numerical_aperture=1.2, pixel_size=90))
    before = [operator.A(x) for operator in operators]
    kept = (_matrix.axis_matrix, _convolve._weights, _convolve._spectrum)
    assert sum(cache.cache_info().currsize for cache in kept) > 0
    clear_caches()
    assert sum(cache.cache_info().currsize for cache in kept) == 0
    assert all(torch.equal(a, operator.A(x)) for a, operator in zip(before, operators, strict=True))
