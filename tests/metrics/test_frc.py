"""Fourier ring correlation, and measurements split in two."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.metrics import FRC, checkerboard, frc, split_counts, split_gaussian


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def band_limited(shape, cutoff):
    """Noise without frequencies above a cutoff in cycles per pixel."""
    spectrum = np.fft.fftn(random(*shape, seed=9))
    radius = np.sqrt(sum(f**2 for f in np.meshgrid(*[np.fft.fftfreq(n) for n in shape], indexing="ij")))
    return np.fft.ifftn(spectrum * (radius < cutoff)).real


@pytest.mark.parametrize("shape", [(64, 64), (63, 64), (64, 51), (45, 96)])
def test_equal_images_correlate_and_independent_ones_do_not(shape):
    same = frc(random(*shape), 3 - 2 * random(*shape))
    assert same.correlation == pytest.approx(-1)
    apart = frc(random(*shape), random(*shape, seed=1))
    # every coefficient of a pair counts once
    assert np.sqrt(np.mean(apart.correlation**2 * apart.count)) == pytest.approx(1, abs=0.5)
    assert apart.count.sum() < np.prod(shape) / 2
    assert apart.frequency[0] < 0.04 and apart.frequency[-1] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(96, 96), (95, 128)])
def test_the_cutoff_of_a_signal_is_its_resolution_in_units(shape):
    signal = band_limited(shape, 0.2)
    a, b = (signal + 0.02 * random(*shape, seed=seed) for seed in (1, 2))
    found = frc(a, b, pixel_size=65, unit="nm")
    assert found.unit == "nm"
    for threshold in ("1/7", "half-bit", 0.5):
        # the window blurs the spectrum by more than a ring
        assert found.resolution(threshold) == pytest.approx(65 / 0.2, rel=0.15)
    sharp = frc(a, b, pixel_size=65, window=False)
    assert sharp.resolution() == pytest.approx(65 / 0.2, rel=0.06)


def test_pixels_of_two_sizes_are_as_far_apart_as_they_are():
    fine = band_limited((128, 128), 0.1)
    a, b = (fine[::2] + 0.02 * random(64, 128, seed=seed) for seed in (1, 2))
    assert frc(a, b, pixel_size=(2, 1), window=False).resolution() == pytest.approx(10, rel=0.1)


def test_shells_of_a_volume():
    signal = band_limited((24, 32, 28), 0.25)
    a, b = (signal + 0.05 * random(24, 32, 28, seed=seed) for seed in (1, 2))
    found = frc(a, b, window=False, spatial_dims=3)
    assert found.resolution() == pytest.approx(4, rel=0.15) and found.count[5] > 4 * found.count[1]


def test_the_half_bit_threshold_falls_to_its_limit():
    curve = FRC(np.array([0.1, 0.2]), np.ones(2), np.array([4, 10**12]))
    assert curve.half_bit[1] == pytest.approx(0.2071 / 1.2071, abs=1e-4)
    assert curve.half_bit[0] == pytest.approx((0.2071 + 1.9102 / 2) / (1.2071 + 0.9102 / 2), abs=1e-4)


def test_ends_of_the_curve():
    frequency, count = np.arange(1, 6) / 10, np.full(5, 100)
    assert FRC(frequency, np.ones(5), count, pixel_size=7).resolution() == 14
    assert math.isnan(FRC(frequency, np.zeros(5), count).resolution())
    assert math.isnan(frc(np.full((8, 8), 0.1), np.full((8, 8), 0.3)).resolution())
    crossing = FRC(frequency, np.array([1, 1, 1, 0, 0.0]), count).resolution(0.5)
    assert 1 / crossing == pytest.approx(0.35, abs=0.05)


def test_colour_sums_its_channels():
    grey = random(32, 32)
    colour = np.stack([grey, 2 * grey, np.zeros_like(grey)], axis=-1)
    assert frc(colour, colour).correlation == pytest.approx(1)


def test_halves_of_counts_are_independent_and_keep_the_mean():
    mean = np.full((400, 400), 6.0)
    y = 100 + 2.5 * np.random.default_rng(0).poisson(mean)
    a, b = split_counts(y, gain=2.5, offset=100)
    assert (a + b) / 2 == pytest.approx(y)
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    assert a.mean() == pytest.approx(115, abs=0.1) and a.var() == pytest.approx(2 * y.var(), rel=0.02)
    assert np.array_equal(split_counts(y, gain=2.5, offset=100)[0], a)
    assert split_counts(np.full((3, 3), -4.0))[0].max() == 0


def test_halves_of_gaussian_noise_are_independent():
    y = 5 + 0.3 * random(400, 400)
    a, b = split_gaussian(y, 0.3, rng=1)
    assert (a + b) / 2 == pytest.approx(y) and abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.01
    assert a.std() == pytest.approx(0.3 * math.sqrt(2), rel=0.02)


def test_noise_alone_has_no_resolution_and_noise_in_common_is_mistaken_for_signal():
    smooth = gaussian_filter(random(96, 96), 3) * 10
    y = smooth + random(96, 96, seed=1)
    raw = frc(*split_gaussian(y, 1.0)).resolution()
    assert 6 < raw < 20
    # two "restored" halves with the same invention
    invented = 0.5 * random(96, 96, seed=5)
    a, b = (half + 3 * invented for half in split_gaussian(y, 1.0))
    assert frc(a, b).resolution() < 0.6 * raw


def test_the_checkerboard_has_no_neighbours():
    board = checkerboard((5, 7))
    assert board[0, 0] and not (board[1:] & board[:-1]).any() and not (board[:, 1:] & board[:, :-1]).any()
    assert checkerboard((2, 2, 2)).sum() == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda: frc(random(8, 8), random(8, 9)),
        lambda: frc(random(1, 1), random(1, 1)),
        lambda: frc(random(9), random(9)),
        lambda: frc(np.full((8, 8), np.nan), random(8, 8)),
        lambda: frc(random(8, 8), random(8, 8), pixel_size=0),
        lambda: frc(random(8, 8), random(8, 8), pixel_size=(1, 2, 3)),
        lambda: frc(random(8, 8), random(8, 8)).resolution(2),
        lambda: frc(random(8, 8), random(8, 8)).resolution("1/2"),
        lambda: split_counts(np.ones(3), gain=0),
        lambda: split_counts(np.full(3, np.nan)),
        lambda: split_gaussian(np.ones(3), -1),
    ],
)
def test_bad_input_is_refused_by_name(call):
    with pytest.raises(FidelityError):
        call()
