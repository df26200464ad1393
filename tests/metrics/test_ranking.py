"""Maps of uncertainty judged: order, size, and the control beside them."""

import json
import math

import numpy as np
import pytest
import scipy.stats
from scipy.ndimage import gaussian_filter

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.metrics import (
    ause,
    block_mean,
    control_map,
    coverage,
    evaluate_map,
    reliability,
    sparsification,
    spearman,
    width,
)


@pytest.fixture
def std():
    return 0.1 + gaussian_filter(np.random.default_rng(0).random((60, 50)), 3) ** 4 * 30


@pytest.fixture
def error(std):
    return std * np.random.default_rng(1).standard_normal(std.shape)


def test_spearman_is_scipys_of_the_absolute_error_with_ties(std, error):
    rough = np.round(std, 1)
    expected = scipy.stats.spearmanr(rough.ravel(), np.abs(error).ravel()).statistic
    assert spearman(rough, error) == pytest.approx(expected)
    assert spearman(std, -error) == spearman(std, error)


def test_blocks_average_out_the_noise_of_single_errors(std, error):
    assert spearman(std, error, block=8) > spearman(std, error) + 0.1


def test_block_means_hold_what_is_known():
    image = np.arange(30.0).reshape(5, 6)
    image[0, 0] = np.nan
    means = block_mean(image, 4)
    assert means.shape == (2, 2)
    assert means[0, 0] == pytest.approx(np.nanmean(image[:4, :4])) and means[1, 1] == image[4, 4:].mean()
    image[4, 4:] = np.nan
    assert np.isnan(block_mean(image, 4)[1, 1])
    assert block_mean(np.ones((4, 6, 6, 2)), 4, spatial_dims=3).shape == (1, 2, 2, 2)


def test_ause_runs_from_the_oracle_to_the_reverse_order(error):
    oracle, random, reverse = (ause(m, error) for m in (np.abs(error), np.ones_like(error), -np.abs(error)))
    assert oracle == pytest.approx(0, abs=1e-12) and 0 < random < reverse


def test_the_curve_starts_at_the_error_of_the_image_and_falls(std, error):
    curve = sparsification(std, error, measure="rmse")
    assert curve.error[0] == pytest.approx(1) and curve.oracle[0] == pytest.approx(1)
    assert (np.diff(curve.oracle) <= 1e-12).all() and (curve.oracle <= curve.error + 1e-12).all()
    half = np.argsort(std, axis=None)[: std.size // 2]
    expected = np.sqrt(np.mean(error.ravel()[half] ** 2) / np.mean(error**2))
    assert curve.error[50] == pytest.approx(expected)


def test_a_constant_map_removes_nothing_in_particular(error):
    curve = sparsification(np.full_like(error, 3.0), error)
    assert curve.error == pytest.approx(1)
    # the order of the pixels does not matter where the map says nothing
    mixed = np.sort(np.abs(error), axis=None).reshape(error.shape)
    assert ause(np.ones_like(mixed), mixed) == pytest.approx(ause(np.ones_like(error), error))


def test_what_does_not_exist_is_nan():
    zero, one = np.zeros((4, 4)), np.arange(16.0).reshape(4, 4)
    assert math.isnan(spearman(zero, one)) and math.isnan(spearman(one, zero))
    assert math.isnan(ause(one, zero)) and math.isnan(spearman(np.ones((1, 1)), np.ones((1, 1))))
    assert math.isnan(coverage([np.nan], [1.0], [1.0])) and math.isnan(width([np.nan], [1.0]))
    unknown = np.full((4, 4), np.nan)
    assert math.isnan(ause(unknown, one)) and reliability(unknown, one).count.size == 0
    assert math.isnan(reliability(unknown, one).calibration_error)


def test_nan_is_left_out(std, error):
    holed = std.copy()
    holed[:30] = np.nan
    assert spearman(holed, error) == pytest.approx(spearman(std[30:], error[30:]))
    assert ause(holed, error) == pytest.approx(ause(std[30:], error[30:]))
    assert evaluate_map(holed, error, std).alike == pytest.approx(
        scipy.stats.spearmanr(std[30:].ravel(), control_map(std)[30:].ravel()).statistic
    )


def test_coverage_and_width():
    low, high = np.zeros(4), np.array([1.0, 1.0, 2.0, np.inf])
    assert coverage(low, high, [1.0, 1.1, -1.0, 5.0]) == 0.5
    assert width([0.0, 1.0, np.nan], [1.0, 3.0, 9.0]) == 1.5


def test_calibrated_standard_deviations_are_told_from_small_ones(std, error):
    good, bad = reliability(std, error), reliability(std / 2, error)
    assert good.calibration_error < 0.15 < 0.8 < bad.calibration_error
    assert good.count.sum() == std.size and (np.diff(good.std) > 0).all()


def test_equal_standard_deviations_share_a_bin():
    std = np.repeat([1.0, 2.0], [70, 30])
    diagram = reliability(std, std, bins=10)
    assert diagram.count.tolist() == [70, 30] and diagram.calibration_error == 0
    assert reliability(np.zeros(5), np.ones(5)).calibration_error == math.inf
    assert reliability(np.zeros(5), np.zeros(5)).calibration_error == 0


def test_the_control_is_the_gradient_and_keeps_the_shape():
    step = np.zeros((20, 20, 2))
    step[:, 10:, 1] = 1
    control = control_map(step)
    assert control.shape == step.shape and control[..., 0].max() == 0
    assert set(np.argwhere(control[..., 1] > 0.3)[:, 1]) == {9, 10}
    assert control_map(np.zeros((3, 4, 5)), spatial_dims=3).shape == (3, 4, 5)
    holed = np.ones((5, 5))
    holed[2, 2] = np.nan
    assert np.isnan(control_map(holed)[2, 2]) and np.nansum(control_map(holed)) == 0


def test_a_map_that_only_finds_edges_is_seen_to_do_so(error):
    image = gaussian_filter(np.random.default_rng(3).standard_normal((60, 50)), 2)
    edges = control_map(image)
    wrong = edges * np.random.default_rng(4).standard_normal(edges.shape)
    copied = evaluate_map(edges**2 + 1e-9 * np.abs(wrong), wrong, image)
    assert copied.alike > 0.99 and copied.spearman == pytest.approx(copied.control_spearman, abs=0.01)
    knowing = evaluate_map(np.abs(wrong), wrong, image)
    assert knowing.beyond > 0.99 and knowing.ause < knowing.control_ause
    assert json.loads(json.dumps(knowing.to_plain()))["spearman"] == pytest.approx(1)


def test_one_number_for_each_pixel_of_a_colour_image(std, error):
    image = np.stack([std, np.zeros_like(std)], axis=-1)
    assert evaluate_map(std, error, image) == evaluate_map(std, error, std)


def test_numbers_that_do_not_exist_are_none_in_a_record():
    record = evaluate_map(np.ones((9, 9)), np.ones((9, 9)), np.ones((9, 9))).to_plain()
    assert record["spearman"] is None and record["control_ause"] == pytest.approx(0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: spearman(np.ones((2, 2)), np.ones((3, 2))),
        lambda: spearman(np.ones((0, 2)), np.ones((0, 2))),
        lambda: spearman(np.full((2, 2), np.inf), np.ones((2, 2))),
        lambda: spearman(np.ones((2, 2)), np.ones((2, 2)), block=0),
        lambda: block_mean(np.ones(3)),
        lambda: sparsification(np.ones((2, 2)), np.ones((2, 2)), points=1),
        lambda: sparsification(np.ones((2, 2)), np.ones((2, 2)), measure="median"),
        lambda: coverage(np.ones(2), np.ones(2), np.ones(3)),
        lambda: width(np.ones(2), np.ones(3)),
        lambda: reliability(np.ones(2), np.ones(2), bins=0),
        lambda: control_map(np.ones(2)),
        lambda: control_map(np.full((2, 2), np.inf)),
        lambda: control_map(np.ones((2, 2)), sigma=0),
    ],
)
def test_bad_input_is_refused_by_name(call):
    with pytest.raises(FidelityError):
        call()
