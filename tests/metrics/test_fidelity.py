"""Whiteness of a residual and the error map with gain and offset fitted."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.metrics import squirrel, whiteness


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def test_p_values_of_white_noise_are_uniform():
    strength = 1 + 3 * np.linspace(0, 1, 40) ** 2  # photon noise differs from pixel to pixel
    p = [whiteness(5 + strength * noise(31, 40, seed=seed)).p_value for seed in range(200)]
    assert 0.01 < np.mean(np.array(p) < 0.1) < 0.2
    assert 0.4 < np.mean(p) < 0.6


def test_structure_that_is_left_is_found():
    left = noise(64, 64) + 0.5 * gaussian_filter(noise(64, 64, seed=1), 2) / 0.14
    found = whiteness(left)
    assert found.p_value < 1e-3 and found.ratio > 2 and found.strongest > 0.05


def test_the_autocorrelation_is_the_plain_sum():
    left = noise(9, 7)
    centred = left - left.mean()
    found = whiteness(left, lag=2).autocorrelation[..., 0]
    assert found.shape == (5, 5)
    assert found[2, 2] == pytest.approx(1)
    direct = (centred[2:, :-1] * centred[:-2, 1:]).mean() / (centred**2).mean()
    assert found[4, 1] == pytest.approx(direct) and found[0, 3] == pytest.approx(direct)


def test_unobserved_pixels_take_no_part():
    left = noise(64, 64)
    left[20:40] = np.nan
    assert whiteness(left).p_value > 0.01
    left[::2, :] = np.nan  # no two rows beside each other
    assert math.isnan(whiteness(left).autocorrelation[MIDDLE + 1, MIDDLE, 0])


MIDDLE = 4


def test_every_channel_counts_and_the_least_white_decides():
    left = np.stack([noise(48, 48), gaussian_filter(noise(48, 48, seed=1), 1)], axis=-1)
    found = whiteness(left)
    assert found.p_values[0] > 0.01 > 1e-6 > found.p_values[1]
    assert found.p_value < 1e-6 and found.ratio == found.ratios[1]


def test_volumes_and_thin_images():
    assert whiteness(noise(6, 20, 20), spatial_dims=3).p_value > 0.01
    assert whiteness(noise(1, 50)).autocorrelation.shape == (1, 9, 1)
    assert whiteness(noise(2, 2)).autocorrelation.shape == (3, 3, 1)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_a_constant_residual_is_neither_white_nor_not(constant):
    found = whiteness(np.full((16, 16), constant))
    assert math.isnan(found.p_value) and math.isnan(found.ratio)


@pytest.mark.parametrize("bad", [np.zeros((1, 1)), np.zeros(5), np.zeros((0, 4)), np.full((4, 4), np.inf)])
def test_what_is_no_residual_is_refused_by_name(bad):
    with pytest.raises(FidelityError):
        whiteness(bad)


def test_an_all_unobserved_residual_has_no_number():
    assert math.isnan(whiteness(np.full((8, 8), np.nan)).p_value)


def test_gain_and_offset_are_fitted():
    seen = noise(20, 30)
    found = squirrel(seen, 3 * seen - 7)
    assert (found.gain, found.offset) == (pytest.approx(3), pytest.approx(-7))
    assert found.rse == pytest.approx(0, abs=1e-9) and found.rsp == pytest.approx(1)


def test_the_error_map_is_where_the_error_is():
    seen = gaussian_filter(noise(32, 32), 2)
    data = 100 + 50 * seen
    data[10, 12] += 9
    found = squirrel(seen, data)
    assert np.unravel_index(found.map.argmax(), found.map.shape) == (10, 12)
    assert found.rse == pytest.approx(np.sqrt(np.mean(found.map**2))) and found.rsp < 1


def test_constants_and_gaps():
    flat = squirrel(np.ones((4, 4)), noise(4, 4))
    assert flat.gain == 0 and math.isnan(flat.rsp) and flat.rse == pytest.approx(noise(4, 4).std())
    seen = noise(8, 8)
    data = 2 * seen
    data[0] = np.nan
    found = squirrel(seen, data)
    assert found.gain == pytest.approx(2) and np.isnan(found.map[0]).all() and found.rse < 1e-9


@pytest.mark.parametrize(
    ("seen", "data"),
    [
        (np.zeros((2, 2)), np.zeros((3, 3))),
        (np.zeros((0, 2)), np.zeros((0, 2))),
        (np.zeros((2, 2)), np.full((2, 2), np.nan)),
        (np.full((2, 2), np.nan), np.zeros((2, 2))),
    ],
)
def test_images_that_cannot_be_compared_are_refused_by_name(seen, data):
    with pytest.raises(FidelityError):
        squirrel(seen, data)
